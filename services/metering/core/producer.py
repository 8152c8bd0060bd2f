"""A router process as a source: its batches become ledger lines, and it is told that it may forget them.

The lines and the confirmation are one commit. A batch that comes again under another id (the router resends what was
not confirmed) enters the same lines, which changes nothing, and is confirmed again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from libs.common.decision import Decision
from libs.common.errors import Invalid
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal, Owner
from libs.common.events.route import UsageReported
from libs.common.events.usage import UsageConfirmed
from services.metering.core.intake import garbage_line, lines_of
from services.metering.core.state import Producer


class Screened(Internal):
    """A batch, with what was seen of it at the door.

    `foreign` are the requests whose endpoint belongs to somebody else than they say. `garbage` are the texts of what
    stood among its requests and was none; `garbled` the ids of those that had one.
    """

    kind: ClassVar[str] = "metering.screened"
    owner: ClassVar[Owner] = Owner.METERING

    batch: UsageReported
    foreign: tuple[str, ...] = ()
    garbage: tuple[str, ...] = ()
    garbled: tuple[str, ...] = ()


def batch_of(envelope: Envelope) -> UsageReported:
    """The batch in an envelope, whether or not it was screened."""
    news = envelope.data
    batch = news.batch if isinstance(news, Screened) else news
    assert isinstance(batch, UsageReported), batch
    return batch


def decide(producer: Producer, envelope: Envelope, now_ms: int) -> Decision[Producer]:
    """Enter a batch and confirm every request in it: each is in the ledger now, billed or parked.

    Raises Invalid for a batch that another instance's name stands on.
    """
    batch = batch_of(envelope)
    seen = envelope.data if isinstance(envelope.data, Screened) else Screened(batch=batch)
    if batch.instance != producer.instance:
        raise Invalid(f"a batch of {batch.instance} came as one of {producer.instance}")
    request_ids = (*(each.request_id for each in batch.requests), *seen.garbled)
    lines = (
        line
        for each in batch.requests
        for line in lines_of(each, now_ms=now_ms, is_foreign=each.request_id in seen.foreign)
    )
    return Decision(
        replace(
            producer,
            boots=producer.boots.hear(batch.boot_id, batch.boot_seq, told_ms=envelope.time_ms),
            requests=producer.requests + len(batch.requests) + len(seen.garbage),
        ),
        events=(UsageConfirmed(instance=batch.instance, request_ids=request_ids),) if request_ids else (),
        lines=(*lines, *map(garbage_line, seen.garbage)),
    )
