"""Pulling from a real server, where nats-py's pull fails as it may: with the plain TimeoutError."""

from __future__ import annotations

import asyncio
import logging
from typing import Never

import pytest
from nats.js.client import JetStreamContext

from libs.common.bus.nats import NatsBus
from libs.common.bus.port import Ack, Answer, Delivery
from libs.common.bus.provision import Wanted, provision
from libs.common.bus.server import NatsServer
from tests.contract.bus_promises import CONSUMERS
from tests.support.nats import nats_server as nats_server


def _taken(_delivery: Delivery) -> Answer:
    return Ack()


async def test_a_pull_that_finds_nothing_in_time_is_no_error_not_even_the_first(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulls = 0

    async def finds_nothing(*_args: object, **_options: object) -> Never:
        nonlocal pulls
        pulls += 1
        raise TimeoutError

    monkeypatch.setattr(JetStreamContext.PullSubscription, "fetch", finds_nothing)
    await provision(nats_server.url, wanted=Wanted(consumers=CONSUMERS))
    bus = NatsBus(nats_server.url, name="test", consumers=CONSUMERS)
    for each in CONSUMERS:
        bus.subscribe(each.name, _taken)

    with caplog.at_level(logging.ERROR):
        await bus.start()
        while pulls < len(CONSUMERS):
            await asyncio.sleep(0.01)
        await bus.stop()

    assert not [each.getMessage() for each in caplog.records]
