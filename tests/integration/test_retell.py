"""A broker loses its disk: what services told is told again in order, and hides nothing that the broker knows."""

from __future__ import annotations

import shutil
from pathlib import Path

from typer.testing import CliRunner

from libs.cli.app import app
from libs.common.bus.port import Message, bucket_delete, bucket_put
from libs.common.bus.provision import provision
from libs.common.bus.retell import Retold, kept, retell
from libs.common.bus.server import NatsServer
from libs.common.bus.streams import EVT, KEYS, message_of
from libs.common.store.sql import SqlStore
from tests.support.nats import connected, nats_server, stored
from tests.unit.metering.world import joined, released, requested

__all__ = ["nats_server"]

TOLD = [
    message_of(each) for each in (requested(), joined("n1", at_ms=1, sequence=1), released("n1", at_ms=2, sequence=2))
]


def a_key(name: str, value: bytes, id_: str) -> Message:
    return bucket_put(bucket=KEYS, key=name, value=value, id=id_)


def a_store(directory: Path) -> SqlStore:
    """A service that told three events, set a key twice, and another one that it deleted."""
    store = SqlStore(f"sqlite:///{directory}/told.db")
    gone = bucket_delete(bucket=KEYS, key="gone", id="k4")
    puts = [a_key("kept", b"old", "k1"), a_key("gone", b"x", "k2"), a_key("kept", b"new", "k3"), gone]
    for each in (TOLD[0], puts[0], TOLD[1], *puts[1:], TOLD[2]):
        with store.transaction() as unit:
            unit.enqueue(each)
    store.mark_sent([each.position for each in store.pending(100)])
    return store


async def values(url: str) -> dict[str, bytes]:
    async with connected(url) as client:
        bucket = await client.jetstream().key_value(KEYS)
        return {key: (await bucket.get(key)).value or b"" for key in await bucket.keys()}


async def test_a_broker_that_lost_its_disk_is_told_again(nats_server: NatsServer, tmp_path: Path) -> None:
    store = a_store(tmp_path)
    await provision(nats_server.url)
    await retell(nats_server.url, kept(store))
    nats_server.kill()
    shutil.rmtree(tmp_path / "nats" / "jetstream")
    nats_server.start()
    await provision(nats_server.url)

    first = await retell(nats_server.url, kept(store))
    again = await retell(nats_server.url, kept(store))

    assert (first, again) == (Retold(told=4), Retold(known=4))
    assert [each.id for each in await stored(nats_server.url, EVT)] == [each.id for each in TOLD]
    assert await values(nats_server.url) == {"kept": b"new"}
    store.close()


async def test_a_value_that_is_there_is_not_hidden_by_an_older_one(nats_server: NatsServer, tmp_path: Path) -> None:
    store = a_store(tmp_path)
    await provision(nats_server.url)
    await retell(nats_server.url, [a_key("kept", b"newer still", "k9")])

    found = await retell(nats_server.url, kept(store))

    assert found == Retold(told=3, known=1)
    assert await values(nats_server.url) == {"kept": b"newer still"}
    store.close()


def test_it_is_a_command_that_names_its_service(nats_server: NatsServer, tmp_path: Path) -> None:
    a_store(tmp_path).close()
    database = ("--database", f"sqlite:///{tmp_path}/told.db")

    told = CliRunner().invoke(app, ["retell", "--service", "metering", *database, "--nats", nats_server.url])
    vague = CliRunner().invoke(app, ["retell", *database, "--nats", nats_server.url])

    assert told.exit_code == 0, told.output
    assert "metering" in told.stdout
    assert (vague.exit_code, "name it with --service" in vague.stderr) == (1, True)
