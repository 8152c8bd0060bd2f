"""The broker becomes what streams.py declares, differences are named, and what can't be changed is refused."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from nats.js.api import RetentionPolicy

from libs.common.bus.provision import Wanted, main, provision
from libs.common.bus.server import NatsServer, find_nats_server, render_config
from libs.common.bus.streams import BUCKETS, CONSUMERS, EVT, STREAMS, Retention
from libs.common.errors import Invalid, Unavailable
from tests.support.nats import connected
from tests.support.ports import free_port

EVERYTHING = len(STREAMS) + len(BUCKETS) + len(CONSUMERS)


async def test_everything_declared_is_made_once(nats_server: NatsServer) -> None:
    assert len(await provision(nats_server.url, check=True)) == EVERYTHING
    assert len(await provision(nats_server.url, monitor_url=nats_server.monitor_url)) == EVERYTHING

    assert await provision(nats_server.url) == []
    assert await provision(nats_server.url, check=True) == []


async def test_what_is_made_is_durable_and_refuses_rather_than_forgets(nats_server: NatsServer) -> None:
    await provision(nats_server.url)

    async with connected(nats_server.url) as operator:
        configs = {each.config.name: each.config for each in await operator.jetstream().streams_info()}
    assert {each.storage for each in configs.values()} == {"file"}
    assert {each.discard for each in configs.values()} == {"new"}
    assert {name for name, each in configs.items() if not each.deny_delete} == {"MR_CMD"}
    assert {name for name, each in configs.items() if not each.deny_purge} == {
        "MR_CMD", "KV_confirmed", "KV_counts", "KV_hosts", "KV_keys", "KV_quotas", "KV_routes", "KV_slices",
    }  # fmt: skip
    assert all(each.duplicate_window for each in configs.values())


async def test_a_stream_changed_by_hand_is_named_and_put_right(nats_server: NatsServer) -> None:
    await provision(nats_server.url)
    async with connected(nats_server.url) as operator:
        there = (await operator.jetstream().stream_info(EVT)).config
        await operator.jetstream().update_stream(there.evolve(max_age=3600.0, duplicate_window=60.0))

    named = ["stream MR_EVT: duplicate_window is 60.0, declared 600, max_age is 3600.0, declared 7776000"]
    assert await provision(nats_server.url, check=True) == named
    assert await provision(nats_server.url, check=True) == named, "a check must change nothing"
    assert await provision(nats_server.url) == named
    assert await provision(nats_server.url, check=True) == []


async def test_a_consumer_changed_by_hand_is_named_and_put_right(nats_server: NatsServer) -> None:
    await provision(nats_server.url)
    consumer = CONSUMERS[0]
    async with connected(nats_server.url) as operator:
        there = (await operator.jetstream().consumer_info(consumer.stream, consumer.name)).config
        await operator.jetstream().add_consumer(consumer.stream, there.evolve(ack_wait=5.0, max_deliver=3))

    named = [f"consumer {consumer.name} on {EVT}: ack_wait is 5.0, declared 30, max_deliver is 3, declared -1"]
    assert await provision(nats_server.url, check=True) == named
    await provision(nats_server.url)
    assert await provision(nats_server.url, check=True) == []


async def test_a_consumer_that_is_to_hear_more_is_changed_in_place(nats_server: NatsServer) -> None:
    before = Wanted(consumers=[replace(CONSUMERS[0], filter_subjects=("mr.v1.evt.a.>",))])
    after = Wanted(consumers=[replace(CONSUMERS[0], filter_subjects=("mr.v1.evt.a.>", "mr.v1.evt.b.>"))])
    await provision(nats_server.url, wanted=before)

    (difference,) = await provision(nats_server.url, wanted=after)

    assert "filter_subjects is ['mr.v1.evt.a.>'], declared ['mr.v1.evt.a.>', 'mr.v1.evt.b.>']" in difference
    assert await provision(nats_server.url, wanted=after, check=True) == []


async def test_a_change_that_a_broker_can_not_make_is_refused_and_nothing_is_changed(nats_server: NatsServer) -> None:
    await provision(nats_server.url)
    changed = [replace(STREAMS[0], retention=Retention.WORK_QUEUE), replace(STREAMS[2], max_age_s=60)]

    with pytest.raises(Invalid, match=r"can't change .*stream MR_EVT: .*retention is limits, declared workqueue"):
        await provision(nats_server.url, wanted=Wanted(streams=changed))

    assert await provision(nats_server.url, check=True) == []


async def test_a_record_once_protected_can_not_be_unprotected(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as operator:
        await operator.jetstream().add_stream(name="MR_CMD", subjects=["mr.v1.cmd.>"], deny_purge=True)

    with pytest.raises(Invalid, match="deny_purge is True, declared 0"):
        await provision(nats_server.url)


async def test_the_server_agrees_on_what_it_can_not_change(nats_server: NatsServer) -> None:
    """Our list of fixed settings is not longer than the server's."""
    await provision(nats_server.url)
    async with connected(nats_server.url) as operator:
        there = (await operator.jetstream().stream_info(EVT)).config
        for change in ({"retention": RetentionPolicy.WORK_QUEUE}, {"storage": "memory"}, {"deny_purge": False}):
            with pytest.raises(Exception, match="err_code="):
                await operator.jetstream().update_stream(there.evolve(**change))


@pytest.fixture
def lazy_server(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A server that syncs every ten seconds."""
    port, monitor_port = free_port(), free_port()
    config = tmp_path / "lazy.conf"
    text = render_config(store_dir=tmp_path, port=port, monitor_port=monitor_port)
    config.write_text(text.replace("sync_interval: always", "sync_interval: 10s"))
    server = subprocess.Popen([str(find_nats_server()), "-c", str(config)], stderr=subprocess.DEVNULL)
    yield f"nats://127.0.0.1:{port}", f"http://127.0.0.1:{monitor_port}"
    server.kill()
    server.wait(10)


async def test_a_server_that_acknowledges_before_the_disk_has_it_is_refused(lazy_server: tuple[str, str]) -> None:
    url, monitor_url = lazy_server

    with pytest.raises(Invalid, match="sync_interval: always"):
        await provision(url, monitor_url=monitor_url)


@pytest.fixture
async def old_server() -> AsyncIterator[str]:
    """Something that says of itself what a server of Debian 12 says."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "old", "version": "2.9.10", "headers": True, "max_payload": 1048576, "jetstream": True}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        while line := await reader.readline():
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def test_a_server_that_is_too_old_is_refused(old_server: str) -> None:
    with pytest.raises(Invalid, match=r"nats-server 2\.9 is too old: run 2\.12"):
        await provision(old_server)


async def test_a_wrong_monitor_address_is_said(nats_server: NatsServer) -> None:
    with pytest.raises(Unavailable, match="correct --monitor"):
        await provision(nats_server.url, monitor_url=f"http://127.0.0.1:{free_port()}")


def test_the_command_prints_differences_and_ends_as_promised(
    nats_server: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--nats", nats_server.url, "--monitor", nats_server.monitor_url]

    assert main([*command, "--check"]) == 1
    assert "stream MR_EVT: missing\n" in capsys.readouterr().out
    assert main(command) == 0
    assert "stream MR_EVT: missing -> done\n" in capsys.readouterr().out
    assert main([*command, "--check"]) == 0
    assert capsys.readouterr().out == ""
    assert main([*command, "--replicas", "3"]) == 2
    assert "replicas > 1 not supported" in capsys.readouterr().err


def test_the_command_without_a_broker_says_so_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.common.bus.provision.CONNECT_S", 0.5)

    assert main(["--nats", f"nats://127.0.0.1:{free_port()}"]) == 2

    said = capsys.readouterr().err
    assert said.startswith("provision: no NATS server answers")
    assert said.count("\n") == 1
