"""A provisioned server, buses on it, and what the tests of both look at."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from libs.common.bus.nats import NatsBus, Patience
from libs.common.bus.port import OnChange
from libs.common.bus.server import NatsServer
from libs.common.bus.streams import ROUTES
from tests.contract.bus_promises import CONSUMERS, FIRST, Hears
from tests.contract.bus_worlds import NatsWorld

QUICK = Patience(reconnect_s=0.05, check_s=0.1, gone_s=0.6)
STALL_S = 8.0  # Short of any outage here, far beyond what a busy machine does to a loop that is free.


class Table(dict[str, bytes]):
    """What a watch has told so far."""

    def change(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.pop(key, None)
        else:
            self[key] = value


def a_bus(
    server: NatsServer,
    heard: Hears | None = None,
    *,
    watch: OnChange | None = None,
    patience: Patience = QUICK,
    deaths: list[int] | None = None,
) -> NatsBus:
    """A bus that notes in ``deaths`` why it would have ended the process."""
    die = (deaths if deaths is not None else []).append
    bus = NatsBus(server.url, name="test", consumers=CONSUMERS, patience=patience, die=die)
    if heard is not None:
        bus.subscribe(FIRST.name, heard)
    if watch is not None:
        bus.watch(ROUTES, watch)
    return bus


@pytest.fixture
async def broker(nats_server: NatsServer) -> NatsServer:
    """A provisioned server."""
    await NatsWorld(nats_server.url).prepare()
    return nats_server


@contextlib.asynccontextmanager
async def a_loop_that_never_stands_still() -> AsyncIterator[None]:
    """Fails if the event loop was blocked meanwhile."""
    worst_s = 0.0

    async def beat() -> None:
        nonlocal worst_s
        while True:
            asked_s = time.monotonic()
            await asyncio.sleep(0.01)
            worst_s = max(worst_s, time.monotonic() - asked_s - 0.01)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
    assert worst_s < STALL_S, f"the event loop stood still for {worst_s:.2f} s"
