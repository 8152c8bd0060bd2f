"""What a broker loses or refuses is noticed: consumers, watches, messages, permissions to be there at all."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.bus.nats import NatsBus, Patience
from libs.common.bus.nats.bus import EXIT_CLOSED
from libs.common.bus.nats.guard import EXIT_CONSUMER_GONE
from libs.common.bus.port import Dead, Message
from libs.common.bus.server import NatsServer, find_nats_server, render_config
from libs.common.bus.streams import DLQ, EVT, ROUTES
from libs.common.errors import Unavailable
from tests.contract.bus_promises import FIRST, Hears, a_message, put, remove, running, until
from tests.contract.bus_worlds import NatsWorld
from tests.contract.nats_scene import Table, a_bus, a_loop_that_never_stands_still
from tests.support.nats import connected, stored
from tests.support.ports import free_port


async def test_a_deleted_consumer_is_noticed_and_used_again_once_it_is_back(broker: NatsServer) -> None:
    heard = Hears()
    patient = Patience(check_s=0.1, gone_s=60.0)
    async with running(a_bus(broker, heard, patience=patient)) as bus, connected(broker.url) as operator:
        assert bus.is_healthy()
        await operator.jetstream().delete_consumer(FIRST.stream, FIRST.name)
        await until(lambda: not bus.is_healthy(), "it was noticed")

        await NatsWorld(broker.url).prepare()
        await until(bus.is_healthy, "it was noticed that it is back")
        await bus.publish([a_message("1")])
        await until(lambda: "1" in heard.ids, "it is used")


async def test_a_consumer_that_stays_deleted_ends_the_process(broker: NatsServer) -> None:
    deaths: list[int] = []
    async with running(a_bus(broker, Hears(), deaths=deaths)), connected(broker.url) as operator:
        await operator.jetstream().delete_consumer(FIRST.stream, FIRST.name)
        await until(lambda: bool(deaths), "it gave up")

    assert deaths[0] == EXIT_CONSUMER_GONE


async def test_a_pull_loop_that_ended_is_noticed(broker: NatsServer) -> None:
    async with running(a_bus(broker, Hears())) as bus, connected(broker.url) as operator:

        async def nobody_asks() -> bool:
            return not (await operator.jetstream().consumer_info(FIRST.stream, FIRST.name)).num_waiting

        for task in asyncio.all_tasks():
            if "_consume_pull" in repr(task.get_coro()):
                task.cancel()
        while not await nobody_asks():  # The pull that was under way ends.
            await asyncio.sleep(0.05)
        await bus.publish([a_message("1")])

        await until(lambda: not bus.is_healthy(), "it was noticed")


async def test_a_connection_that_is_closed_for_good_ends_the_process(broker: NatsServer) -> None:
    deaths: list[int] = []
    bus = a_bus(broker, Hears(), deaths=deaths)
    async with a_loop_that_never_stands_still(), running(bus):
        assert bus._connection is not None
        await bus._connection.close()
        await until(lambda: bool(deaths), "it gave up")
        await asyncio.sleep(1.5)  # FastStream's own pull would spin now.

    assert deaths == [EXIT_CLOSED]


async def test_a_watch_makes_up_for_what_it_missed(broker: NatsServer) -> None:
    table = Table()
    slow_to_return = Patience(reconnect_s=2.0)
    async with running(a_bus(broker, watch=table.change, patience=slow_to_return)) as watcher:
        async with running(a_bus(broker)) as writer:
            await writer.publish([put("changed", b"1"), put("deleted", b"1"), put("purged", b"1"), put("same", b"1")])
        await until(lambda: len(table) == 4, "it follows")
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)
        async with running(a_bus(broker)) as writer, connected(broker.url) as operator:
            await writer.publish([put("changed", b"2"), remove("deleted"), put("new", b"1")])
            await operator.jetstream().purge_stream(f"KV_{ROUTES}", subject=f"$KV.{ROUTES}.purged")
            assert not watcher.is_healthy(), "it is back too early to prove anything"

        await until(lambda: dict(table) == {"changed": b"2", "same": b"1", "new": b"1"}, "it made up for it")


async def test_a_bucket_that_lost_its_content_is_told_from_one_that_was_emptied(broker: NatsServer) -> None:
    table, lost = Table(), set[str]()
    bus = a_bus(broker)
    bus.watch(ROUTES, table.change, lost.add)
    async with running(bus), running(a_bus(broker)) as writer, connected(broker.url) as operator:
        await writer.publish([put("deleted", b"1"), put("kept", b"1"), put("also", b"1")])
        await until(lambda: len(table) == 3, "it follows")
        await writer.publish([remove("deleted")])
        await until(lambda: len(table) == 2, "a deletion is one")
        await operator.jetstream().delete_stream(f"KV_{ROUTES}")
        await NatsWorld(broker.url).prepare()
        await until(lambda: lost == {"kept", "also"}, "the loss was noticed")
        assert set(table) == {"kept", "also"}

        await writer.publish([Message("again", f"KV_{ROUTES}", f"$KV.{ROUTES}.kept", b"2")])
        await until(lambda: table["kept"] == b"2", "it follows again")


async def test_a_newcomer_that_asks_for_losses_hears_what_was_deleted_before(broker: NatsServer) -> None:
    told: dict[str, bytes | None] = {}
    async with running(a_bus(broker)) as writer:
        await writer.publish([put("live", b"1"), put("gone", b"1"), remove("gone")])
        newcomer = a_bus(broker)
        newcomer.watch(ROUTES, told.__setitem__, lambda _key: None)
        async with running(newcomer):
            assert told == {"live": b"1", "gone": None}


async def test_a_watch_whose_consumer_is_deleted_looks_again(broker: NatsServer) -> None:
    table = Table()
    async with running(a_bus(broker, watch=table.change)) as bus, connected(broker.url) as operator:
        for each in await operator.jetstream().consumers_info(f"KV_{ROUTES}"):
            await operator.jetstream().delete_consumer(f"KV_{ROUTES}", each.name)
        await bus.publish([put("a", b"1")])

        await until(lambda: dict(table) == {"a": b"1"}, "it looked again")


async def test_a_change_that_can_not_be_taken_hides_none_after_it(broker: NatsServer) -> None:
    told: list[str] = []

    def change(key: str, _value: bytes | None) -> None:
        told.append(key)
        if key == "bad":
            raise ValueError(key)

    async with running(a_bus(broker, watch=change)) as bus:
        await bus.publish([put("bad", b"1"), put("good", b"1")])
        await until(lambda: told == ["bad", "good"], "both were told")


async def test_nothing_is_stored_after_a_message_that_is_refused(broker: NatsServer) -> None:
    too_large = a_message("too large", body=b"x" * 300_000)
    nowhere = Message("nowhere", EVT, "mr.v2.nowhere", b"{}")
    elsewhere = Message("elsewhere", EVT, "mr.v1.dlq.x", b"{}")
    for refused in (too_large, nowhere, elsewhere):
        async with running(a_bus(broker)) as bus:
            assert await bus.publish([a_message("1"), refused, a_message("2")]) == 1

    assert [each.id for each in await stored(broker.url, EVT)] == ["1"]
    assert await stored(broker.url, DLQ) == []


async def test_a_message_stays_until_its_dead_letter_is_stored(
    broker: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.common.bus.nats.bus.DEAD_AGAIN_S", 0.3)
    heard = Hears(lambda _given: Dead("never"))
    async with running(a_bus(broker, heard)) as bus, connected(broker.url) as operator:
        await operator.jetstream().delete_stream(DLQ)
        await bus.publish([a_message("1")])
        await until(lambda: len(heard.ids) >= 2, "it comes again as long as there is nowhere to keep it")
        await NatsWorld(broker.url).prepare()
        tries = len(heard.ids)
        await until(lambda: len(heard.ids) > tries, "it comes once more")
        await asyncio.sleep(0.5)

    assert [each.id for each in await stored(broker.url, DLQ)] == [f"dlq:{FIRST.name}:1"]


async def test_without_a_broker_starting_says_so() -> None:
    bus = NatsBus(f"nats://127.0.0.1:{free_port()}", name="test", patience=Patience(connect_s=0.5))

    with pytest.raises(Unavailable, match="no NATS server"):
        await bus.start()


async def test_without_provisioning_starting_says_what_is_missing(nats_server: NatsServer) -> None:
    for bus, missing in (
        (a_bus(nats_server, Hears()), "no consumer test-first on MR_EVT"),
        (a_bus(nats_server, watch=Table().change), "no bucket 'routes'"),
    ):
        with pytest.raises(Unavailable, match=f"{missing}.*provision"):
            await bus.start()


@pytest.fixture
def strict_server(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A server with two users: one that may do anything, and one that may not publish events."""
    port, config = free_port(), tmp_path / "strict.conf"
    users = """authorization { users: [
      {user: admin, password: a}
      {user: reader, password: r, permissions: {publish: {deny: "mr.v1.evt.>"}}}
    ] }"""
    config.write_text(render_config(store_dir=tmp_path, port=port, monitor_port=free_port()) + users)
    server = subprocess.Popen([str(find_nats_server()), "-c", str(config)], stderr=subprocess.DEVNULL)
    yield f"nats://admin:a@127.0.0.1:{port}", f"nats://reader:r@127.0.0.1:{port}"
    server.kill()
    server.wait(10)


async def test_a_denied_permission_makes_it_unhealthy(strict_server: tuple[str, str]) -> None:
    admin, reader = strict_server
    await NatsWorld(admin).prepare()
    bus = NatsBus(reader, name="test", patience=Patience(publish_s=0.3))
    async with running(bus):
        assert bus.is_healthy()

        assert await bus.publish([a_message("1")]) == 0

        await until(lambda: not bus.is_healthy(), "it was noticed")


async def test_a_password_is_not_said(strict_server: tuple[str, str]) -> None:
    wrong = strict_server[0].replace("admin:a@", "admin:secret@")
    bus = NatsBus(wrong, name="test", patience=Patience(connect_s=1.0))

    with pytest.raises(Unavailable) as refusal:
        await bus.start()

    assert "secret" not in str(refusal.value)
