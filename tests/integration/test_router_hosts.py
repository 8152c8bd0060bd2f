"""Routers of two hosts that serve the same endpoints, as real processes: one control half, one bill, one drain."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from libs.common.bus.nats import NatsBus
from libs.common.bus.port import bucket_put
from libs.common.bus.provision import provision
from libs.common.bus.server import NatsServer
from libs.common.bus.streams import EVT, HOSTS, KEYS, USAGE, message_of
from libs.common.events.envelope import Envelope
from libs.common.events.route import RoutePublished, RouteWithdrawn, UsageReported
from libs.common.events.usage import UsageConfirmed
from libs.common.ids import EventId
from services.router.shell.hosts.others import SILENT_S
from tests.integration.test_router_process import RouterProcess, publish, reported, told, until
from tests.support.nats import nats_server
from tests.unit.router.engine import Engine, running
from tests.unit.router.heard import cache_warmed, deletion_requested, requested
from tests.unit.router.scene import KEY, a_request, ask, chat_body, key_entry, tokens_in

__all__ = ["nats_server"]

pytestmark = pytest.mark.xdist_group("preloaded")


@dataclass
class Hosts:
    """Two of them."""

    server: NatsServer
    first: RouterProcess
    other: RouterProcess

    async def begin(self, engine: Engine) -> None:
        """Have an endpoint served on both: it is told published only then."""
        await asyncio.gather(self.first.start(), self.other.start())
        await self.request(engine)
        await until(self.is_published)

    async def request(self, engine: Engine) -> None:
        await publish(self.server, *map(message_of, (cache_warmed(engine.url), requested())))

    async def is_published(self) -> bool:
        return bool(await told(self.server, EVT, RoutePublished))

    async def withdrawn(self) -> list[RouteWithdrawn]:
        found = [each.data for each in await told(self.server, EVT, RouteWithdrawn)]
        return [each for each in found if isinstance(each, RouteWithdrawn)]

    async def confirm(self, batches: list[UsageReported]) -> None:
        """The ledger has them."""
        for number, batch in enumerate(batches):
            request_ids = tuple(each.request_id for each in batch.requests)
            confirmed = UsageConfirmed(instance=batch.instance, request_ids=request_ids)
            envelope = Envelope(EventId(f"confirm-{number}"), confirmed, subject=batch.instance, time_ms=1)
            await publish(self.server, message_of(envelope))

    async def batches(self) -> list[UsageReported]:
        found = [each.data for each in await told(self.server, USAGE, UsageReported)]
        return [each for each in found if isinstance(each, UsageReported)]


def a_router(server: NatsServer, state: Path, role: str, **more: str) -> RouterProcess:
    state.mkdir()
    return RouterProcess(server, state, more={"ROLE": role, "INSTANCE": f"router-{role}", **more})


@pytest.fixture
async def hosts(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Hosts]:
    """Not started yet; the other one has two workers."""
    await provision(nats_server.url)
    key = bucket_put(bucket=KEYS, key=KEY.key_id, value=key_entry(KEY).model_dump_json().encode(), id="key")
    await publish(nats_server, key)
    first, other = a_router(nats_server, tmp_path / "a", "first"), a_router(nats_server, tmp_path / "b", "other")
    other.more["WORKERS"] = "2"
    yield Hosts(nats_server, first, other)
    for each in (first, other):
        if each.process is not None and each.process.returncode is None:
            each.process.send_signal(signal.SIGCONT)
            await each.end(signal.SIGTERM)


async def test_what_one_host_served_is_reported_by_it_and_confirmed_to_it(hosts: Hosts) -> None:
    async with running(Engine()) as engine:
        await hosts.begin(engine)
        for each in (hosts.first, hosts.other):
            answers = await asyncio.gather(*(ask(each.port, a_request(chat_body())) for _ in range(8)))
            assert {answer.status for (answer,) in answers} == {200}
        await until(lambda: _count(hosts, 16))
        batches = await hosts.batches()
        assert {each.instance.partition("-w")[0] for each in batches} == {"router-first", "router-other"}

        await hosts.confirm(batches)

        await until(lambda: _is_confirmed(hosts))


async def test_an_endpoint_is_withdrawn_when_no_host_runs_anything_of_it_and_what_was_cut_is_told(hosts: Hosts) -> None:
    async with running(Engine(tokens=100_000, delay_s=0.01)) as engine:
        await hosts.begin(engine)
        reader, writer = await asyncio.open_connection("127.0.0.1", hosts.other.port)
        writer.write(a_request(chat_body(stream=True)))
        seen = await asyncio.wait_for(reader.readuntil(b"tok "), 30)

        await publish(hosts.server, message_of(deletion_requested(drain_ms=3_000)))
        seen += await asyncio.wait_for(reader.read(-1), 60)  # Until it is cut.
        writer.close()
        await until(hosts.withdrawn)
        assert [each.streams_cut for each in await hosts.withdrawn()] == [1], "none, where it was told too early"
        assert not await hosts.other.serves()
        await until(lambda: _count(hosts, 1))
        (row,) = await reported(hosts.server)
        assert row.finish == "drain_cut"
        assert row.completion_tokens == tokens_in(seen)


async def test_an_endpoint_is_published_when_every_host_that_is_there_serves_it(hosts: Hosts) -> None:
    async with running(Engine()) as engine:
        hosts.other.more["WORKERS"] = "1"
        await asyncio.gather(hosts.first.start(), hosts.other.start())
        assert hosts.other.process is not None
        await until(lambda: _has_said_something(hosts.server, "router-other"))
        hosts.other.process.send_signal(signal.SIGSTOP)
        stopped_s = time.monotonic()

        await hosts.request(engine)
        await until(hosts.first.serves)
        await asyncio.sleep(1.0)
        was_published = await hosts.is_published()
        assert not was_published or time.monotonic() - stopped_s > SILENT_S

        hosts.other.process.send_signal(signal.SIGCONT)
        await until(hosts.is_published)
        assert await hosts.other.serves()


@pytest.mark.chaos
async def test_while_the_first_host_is_dead_the_other_serves_on_and_what_was_told_meanwhile_is_done_after(
    hosts: Hosts,
) -> None:
    async with running(Engine()) as engine:
        await hosts.begin(engine)
        assert await hosts.first.end(signal.SIGKILL) != 0

        answers = await asyncio.gather(*(ask(hosts.other.port, a_request(chat_body())) for _ in range(8)))
        assert {answer.status for (answer,) in answers} == {200}
        await until(lambda: _count(hosts, 8))
        await hosts.confirm(await hosts.batches())
        await publish(hosts.server, message_of(deletion_requested()))
        assert await hosts.other.serves(), "nobody withdrew it"

        await hosts.first.start()
        await until(lambda: _is_confirmed(hosts))
        await until(hosts.withdrawn)
        assert not await hosts.other.serves()
        assert len(await reported(hosts.server)) == 8


async def _count(hosts: Hosts, count: int) -> bool:
    return len(await reported(hosts.server)) >= count


async def _is_confirmed(hosts: Hosts) -> bool:
    pages = [(hosts.first, 0), (hosts.other, 0), (hosts.other, 1)]
    return not any([await _backlog(each, worker) for each, worker in pages])


async def _backlog(router: RouterProcess, worker: int) -> float:
    page = RouterProcess(router.server, router.state, admin_port=router.admin_port + 100 * worker)
    return await page.metric("router_usage_backlog")


async def _has_said_something(server: NatsServer, instance: str) -> bool:
    said: dict[str, bytes | None] = {}
    bus = NatsBus(server.url, name="test")
    bus.watch(HOSTS, said.__setitem__)
    await bus.start()
    await bus.stop()
    return instance in said
