"""Both buses keep every promise, and the promises notice a bus that does not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from libs.common.bus.port import Bus
from libs.common.bus.server import NatsServer
from tests.contract import bus_promises as promises
from tests.contract import bus_worlds as worlds
from tests.contract.bus_promises import PROMISES, World

Promise = Callable[[World], Awaitable[None]]


def named(promise: Promise) -> str:
    return getattr(promise, "__name__", "?")


@pytest.mark.parametrize("promise", PROMISES, ids=named)
async def test_the_memory_bus_keeps_the_promise(promise: Promise) -> None:
    await promise(worlds.MemoryWorld())


@pytest.mark.parametrize("promise", PROMISES, ids=named)
async def test_the_nats_bus_keeps_the_promise(promise: Promise, nats_server: NatsServer) -> None:
    await promise(await worlds.NatsWorld(nats_server.url).prepare())


@pytest.mark.parametrize(
    ("fault", "promise"),
    [
        (worlds.AcksFirst, promises.what_was_not_answered_comes_again),
        (worlds.AcksFirst, promises.a_retry_comes_after_its_delay),
        (worlds.AcksFirst, promises.a_dead_message_is_kept_whole),
        (worlds.ForgetsDelay, promises.a_retry_comes_after_its_delay),
        (worlds.ForgetsWhy, promises.a_dead_message_is_kept_whole),
        (worlds.DropsTheDead, promises.a_dead_message_is_kept_whole),
        (worlds.DrawsIds, promises.an_id_is_stored_once),
        (worlds.Reorders, promises.order_is_kept),
        (worlds.CountsWithoutStoring, promises.what_publish_counted_is_stored),
        (worlds.WatchesFromNow, promises.a_watch_tells_what_is_then_what_changes),
        (worlds.MissesDeletes, promises.a_watch_tells_what_is_then_what_changes),
    ],
    ids=lambda each: each.__name__,
)
async def test_a_planted_fault_breaks_the_promise(
    fault: Callable[[Bus], Bus], promise: Promise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promises.until, "__defaults__", (2.0,))  # A fault need not be waited for so long.

    with pytest.raises(AssertionError):
        await promise(worlds.FaultyWorld(worlds.MemoryWorld(), fault))
