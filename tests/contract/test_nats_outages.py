"""The broker dies, stays away, comes back; so do processes. The bus goes on by itself, and nothing is lost."""

from __future__ import annotations

import asyncio
import threading
import time

import nats
import pytest

from libs.common.bus.nats import Patience
from libs.common.bus.nats import bus as nats_bus
from libs.common.bus.port import Ack, Answer, Bus, Delivery, Message
from libs.common.bus.server import NatsServer
from libs.common.bus.streams import EVT
from tests.contract.bus_promises import FIRST, PATIENCE_S, Hears, a_message, put, running, until
from tests.contract.nats_scene import Table, a_bus, a_loop_that_never_stands_still
from tests.support.dies_handling import DIED
from tests.support.nats import stored
from tests.support.preloaded import Program


async def stored_at_last(bus: Bus, message: Message, within_s: float = PATIENCE_S) -> None:
    """Publish as a relay does: again until it is stored."""
    deadline_s = time.monotonic() + within_s
    while not await bus.publish([message]):
        assert time.monotonic() < deadline_s, "it was never stored"
        await asyncio.sleep(0.05)


async def outlives(broker: NatsServer, away_s: float, patience: Patience, back_within_s: float) -> None:
    """The whole story of an outage: publishing fails softly, then all goes on, with nothing lost or twice."""
    heard, table = Hears(), Table()
    deaths: list[int] = []
    async with running(a_bus(broker, heard, watch=table.change, patience=patience, deaths=deaths)) as bus:
        assert await bus.publish([a_message("before"), put("a", b"1")]) == 2
        await until(lambda: heard.ids == ["before"] and table == {"a": b"1"}, "it works at all")

        async with a_loop_that_never_stands_still():
            await asyncio.to_thread(broker.kill)
            ends_s = time.monotonic() + away_s
            while time.monotonic() < ends_s:
                began_s = time.monotonic()
                assert await bus.publish([a_message("during")]) == 0
                assert time.monotonic() - began_s < PATIENCE_S / 2, "publishing must not hang"
                await asyncio.sleep(0.05)
            assert not bus.is_healthy()
            await asyncio.to_thread(broker.start)

            await stored_at_last(bus, a_message("during"), back_within_s)
            await stored_at_last(bus, put("a", b"2"), back_within_s)
            await until(lambda: "during" in heard.ids and table == {"a": b"2"}, "it goes on", back_within_s)
            await until(bus.is_healthy, "it says that it is well")

    assert deaths == []
    assert [each.id for each in await stored(broker.url, EVT)] == ["before", "during"]


async def test_a_broker_that_is_killed_and_started_is_used_again(broker: NatsServer) -> None:
    await outlives(broker, away_s=0.5, patience=Patience(), back_within_s=PATIENCE_S)


async def test_a_pull_that_died_with_the_broker_is_asked_again(
    broker: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_bus, "PULL_S", 3600.0)  # So no other pull comes.

    await outlives(broker, away_s=0.2, patience=Patience(), back_within_s=PATIENCE_S)


async def test_more_failed_attempts_than_the_default_client_makes_are_outlived(broker: NatsServer) -> None:
    """Two minutes away, in small: 60 attempts, after which a client with default options is closed for ever."""
    given_up = await nats.connect(broker.url, reconnect_time_wait=0.02, error_cb=_ignore)

    await outlives(broker, away_s=4.0, patience=Patience(reconnect_s=0.02), back_within_s=PATIENCE_S)

    assert given_up.is_closed, "the outage was too short to prove anything"


@pytest.mark.chaos
async def test_an_outage_of_more_than_two_minutes_is_outlived(broker: NatsServer) -> None:
    await outlives(broker, away_s=125.0, patience=Patience(), back_within_s=PATIENCE_S)


@pytest.mark.xdist_group("preloaded")
async def test_a_message_whose_process_died_goes_to_another(broker: NatsServer) -> None:
    async with running(a_bus(broker)) as publisher:
        await publisher.publish([a_message("1")])
    dying = Program("tests.support.dies_handling", broker.url)
    assert await asyncio.to_thread(dying.wait, PATIENCE_S) == DIED

    heard = Hears()
    async with running(a_bus(broker, heard)):
        await until(lambda: bool(heard.ids), "it came to us")

    assert [(each.message, each.attempt) for each in heard.deliveries] == [(a_message("1"), 2)]


async def test_handlers_run_in_threads_and_a_slow_one_holds_up_nobody(broker: NatsServer) -> None:
    release = threading.Event()

    def answer(given: Delivery) -> Answer:
        if given.message.id == "slow":
            release.wait(PATIENCE_S)
        return Ack()

    heard = Hears(answer)
    async with a_loop_that_never_stands_still(), running(a_bus(broker, heard)) as bus:
        await bus.publish([a_message("slow")])
        await until(lambda: "slow" in heard.ids, "the slow one is being handled")
        await bus.publish([a_message("quick-1"), a_message("quick-2")])
        await until(lambda: len(heard.ids) == 3, "the others are handled meanwhile")
        release.set()

    assert threading.get_ident() not in heard.threads


async def test_stopping_finishes_what_is_being_handled(broker: NatsServer) -> None:
    def answer(_given: Delivery) -> Answer:
        time.sleep(0.5)
        return Ack()

    heard, again = Hears(answer), Hears()
    async with running(a_bus(broker, heard)) as bus:
        await bus.publish([a_message("1")])
        await until(lambda: bool(heard.ids), "it is being handled")
    async with running(a_bus(broker, again)):
        await asyncio.sleep(FIRST.ack_wait_s * 1.6)

    assert again.ids == []


async def test_stopping_does_not_need_the_broker(broker: NatsServer) -> None:
    deaths: list[int] = []
    bus = a_bus(broker, Hears(), watch=Table().change, deaths=deaths)
    await bus.start()
    await asyncio.to_thread(broker.kill)
    began_s = time.monotonic()

    await bus.stop()

    assert time.monotonic() - began_s < PATIENCE_S / 2
    assert deaths == []


async def _ignore(_error: Exception) -> None:
    """Expected."""
