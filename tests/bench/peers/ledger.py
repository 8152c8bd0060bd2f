"""A ledger with nothing to do but to confirm every report: ``python -m tests.bench.peers.ledger URL``."""

from __future__ import annotations

import asyncio
import itertools
import sys

import nats

from libs.common.bus.nats import NatsBus
from libs.common.bus.port import Message
from libs.common.bus.streams import message_of
from libs.common.events.envelope import Envelope, from_wire
from libs.common.events.route import UsageReported
from libs.common.events.usage import UsageConfirmed
from libs.common.ids import EventId


async def confirm(url: str) -> None:
    """Until we are ended."""
    bus = NatsBus(url, name="bench-ledger")
    await bus.start()
    client = await nats.connect(url)
    heard = await client.subscribe("mr.v1.usage.>")
    for number in itertools.count():
        message = await heard.next_msg(timeout=None)
        report = from_wire(message.headers or {}, message.data).data
        if isinstance(report, UsageReported):
            await bus.publish([_confirmation(report, number)])


def _confirmation(report: UsageReported, number: int) -> Message:
    told = UsageConfirmed(instance=report.instance, request_ids=tuple(each.request_id for each in report.requests))
    name = EventId(f"bench-{report.boot_id}-{number}")
    return message_of(Envelope(name, told, subject=report.instance, time_ms=1))


if __name__ == "__main__":
    asyncio.run(confirm(sys.argv[1]))
