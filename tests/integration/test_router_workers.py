"""Several workers behind one port, as real processes: one limit, one bill, one control half; any of them may die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from libs.common.bus.port import bucket_put
from libs.common.bus.provision import provision
from libs.common.bus.server import NatsServer
from libs.common.bus.streams import EVT, KEYS, QUOTAS, USAGE, message_of
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.events.route import RoutePublished, RouteWithdrawn, UsageReported
from libs.common.events.tables import QuotaEntry
from libs.common.events.usage import UsageConfirmed
from libs.common.ids import EventId
from services.router.shell.settings import ADMIN_STRIDE
from tests.integration.test_router_process import RouterProcess, publish, reported, told, until
from tests.support.nats import nats_server
from tests.unit.router.engine import Engine, running
from tests.unit.router.heard import cache_warmed, deletion_requested, requested
from tests.unit.router.scene import KEY, TENANT, Answer, a_request, ask, chat_body, key_entry, tokens_in

__all__ = ["nats_server"]

pytestmark = pytest.mark.xdist_group("preloaded")

WORKERS = 4


@pytest.fixture
async def router(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[RouterProcess]:
    """Not started yet."""
    await provision(nats_server.url)
    key = bucket_put(bucket=KEYS, key=KEY.key_id, value=key_entry(KEY).model_dump_json().encode(), id="key")
    await publish(nats_server, key)
    each = RouterProcess(nats_server, tmp_path, more={"WORKERS": str(WORKERS)})
    yield each
    if each.process is not None and each.process.returncode is None:
        await each.end(signal.SIGTERM)


async def begin(router: RouterProcess, engine: Engine, **allowed: int) -> None:
    """Start it, and wait until every worker serves the endpoint: the route is told published only then."""
    quota = QuotaEntry(tenant_id=TENANT, **allowed).model_dump_json().encode()
    await publish(router.server, bucket_put(bucket=QUOTAS, key=TENANT, value=quota, id="quota"))
    await publish(router.server, *map(message_of, (cache_warmed(engine.url), requested())))
    await router.start()
    await until(lambda: _is_told(router, RoutePublished), 60)


def workers_of(router: RouterProcess) -> list[int]:
    assert router.process is not None
    pid = router.process.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def two_hundred(router: RouterProcess, body: bytes) -> Counter[int]:
    """What so many connections at once are answered; the kernel spreads them over the workers."""
    answers = [answer for (answer,) in await asyncio.gather(*(ask(router.port, a_request(body)) for _ in range(200)))]
    boots = {each.headers["x-request-id"].split("-")[1] for each in answers}
    assert len(boots) > 1, "one worker had them all"
    return Counter(each.status for each in answers)


async def test_two_hundred_at_once_against_room_for_ten_on_four_workers(router: RouterProcess) -> None:
    async with running(Engine(delay_s=0.05)) as engine:
        await begin(router, engine, requests_per_minute=10)

        statuses = await two_hundred(router, chat_body(max_tokens=5))

        assert statuses == {200: 10, 429: 190}
        assert len(engine.requests) == 10
        await until(lambda: _has(router, 10), 60)


def models() -> bytes:
    return f"GET /v1/models HTTP/1.1\r\nhost: r\r\nauthorization: Bearer {KEY.plaintext}\r\n\r\n".encode()


@pytest.mark.chaos
async def test_tokens_of_two_hundred_at_once_stay_within_the_limit_and_settle(router: RouterProcess) -> None:
    async with running(Engine(delay_s=0.02)) as engine:
        await begin(router, engine, tokens_per_minute=1000)

        statuses = await two_hundred(router, chat_body(max_tokens=80))

        served = statuses[200]
        assert statuses == {200: served, 429: 200 - served}
        assert served >= 10, "what is reserved at once is 80 and a prompt for each"
        await until(lambda: _has(router, served), 60)
        rows = await reported(router.server)
        assert sum((row.prompt_tokens or 0) + row.completion_tokens for row in rows) <= 1000


@pytest.mark.chaos
async def test_a_killed_worker_is_started_again_its_requests_are_billed_and_the_others_serve_on(
    router: RouterProcess,
) -> None:
    async with running(Engine(tokens=100_000, delay_s=0.005)) as engine:
        await begin(router, engine)
        streams = [await asyncio.open_connection("127.0.0.1", router.port) for _ in range(16)]
        seen = [b""] * len(streams)
        for _, writer in streams:
            writer.write(a_request(chat_body(stream=True)))
        for index, (reader, _) in enumerate(streams):
            seen[index] = await asyncio.wait_for(reader.readuntil(b"tok "), 30)
        before = workers_of(router)
        assert len(before) == WORKERS

        os.kill(before[1], signal.SIGKILL)

        await until(lambda: len(workers_of(router)) == WORKERS and before[1] not in workers_of(router), 60)
        for _ in range(20):
            (answer,) = await ask(router.port, models())
            assert answer.status == 200
        await publish(router.server, message_of(deletion_requested()))
        await until(lambda: _is_told(router, RouteWithdrawn), 60)
        for index, (reader, writer) in enumerate(streams):
            with contextlib.suppress(ConnectionError):
                seen[index] += await asyncio.wait_for(reader.read(-1), 30)
            writer.close()
        await until(lambda: _has(router, len(streams)), 60)
        rows = {each.request_id: each for each in await reported(router.server)}
        finishes = Counter(each.finish for each in rows.values())
        assert set(finishes) <= {"router_crash", "drain_cut"}
        for text in seen:
            request_id = text.partition(b"x-request-id: ")[2].partition(b"\r\n")[0].decode()
            delivered = tokens_in(text)
            assert delivered - 64 <= rows[request_id].completion_tokens <= delivered


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def at_one_and_at_another(router: RouterProcess, crowd: int) -> tuple[list[Connection], Connection]:
    """So many connections of one worker, and one of another: who serves a connection, its ids say."""
    of: dict[str, list[Connection]] = {}
    while len(of) < 2 or max(map(len, of.values())) < crowd:
        reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
        boot = (await said(reader, writer, models())).headers["x-request-id"].split("-")[1]
        of.setdefault(boot, []).append((reader, writer))
    many, *others = sorted(of.values(), key=len, reverse=True)
    return many[:crowd], others[0][0]


async def said(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
    writer.write(request)
    async with asyncio.timeout(60):  # A request waits for half of that at most.
        await reader.readuntil(b"HTTP/1.1 ")
        status = int((await reader.readuntil(b"\r\n"))[:3])
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in head.strip().split("\r\n"))}
        return Answer(status, headers, await reader.readexactly(int(headers["content-length"])))


@pytest.mark.chaos
async def test_who_is_alone_at_a_worker_is_not_starved_by_a_crowd_at_another(router: RouterProcess) -> None:
    router.more["REPLICA_REQUESTS_MAX"] = "2"
    request = a_request(chat_body(max_tokens=2))
    async with running(Engine(delay_s=0.05)) as engine:
        await begin(router, engine)
        crowd, (reader, writer) = await at_one_and_at_another(router, 8)
        is_over = asyncio.Event()

        async def ask_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> set[int]:
            statuses = set()
            while not is_over.is_set():
                statuses.add((await said(reader, writer, request)).status)
            return statuses

        asking = [asyncio.create_task(ask_on(*each)) for each in crowd]
        await until(lambda: len(engine.requests) > 4, 60)

        for _ in range(10):
            assert (await said(reader, writer, request)).status == 200

        is_over.set()
        assert [await each for each in asking] == [{200}] * len(crowd)


@pytest.mark.chaos
async def test_confirmations_reach_the_journal_of_every_worker_and_all_drain_at_the_end(
    router: RouterProcess,
) -> None:
    async with running(Engine()) as engine:
        await begin(router, engine)
        await asyncio.gather(*(ask(router.port, a_request(chat_body())) for _ in range(40)))
        await until(lambda: _has(router, 40), 60)

        batches = await _batches(router)
        assert len({instance for instance, _ in batches}) > 1
        for number, (instance, request_ids) in enumerate(batches):
            confirmed = UsageConfirmed(instance=instance, request_ids=request_ids)
            envelope = Envelope(EventId(f"confirm-{number}"), confirmed, subject=instance, time_ms=1)
            await publish(router.server, message_of(envelope))

        await until(lambda: _is_confirmed(router), 60)
        assert await router.end(signal.SIGTERM) == 0
        sent = len(await _batches(router))
        router.more["WORKERS"] = "1"
        await router.start()  # One worker now, that looks into the journals of all.
        await asyncio.sleep(2.5)
        assert len(await _batches(router)) == sent, "what was confirmed is not sent again"


async def _batches(router: RouterProcess) -> list[tuple[str, tuple[str, ...]]]:
    found = [each.data for each in await told(router.server, USAGE, UsageReported)]
    return [
        (each.instance, tuple(row.request_id for row in each.requests))
        for each in found
        if isinstance(each, UsageReported)
    ]


async def _has(router: RouterProcess, count: int) -> bool:
    return len(await reported(router.server)) >= count


async def _is_told(router: RouterProcess, kind: type[Event]) -> bool:
    return bool(await told(router.server, EVT, kind))


async def _is_confirmed(router: RouterProcess) -> bool:
    """Whether no worker waits for the ledger any more."""
    pages = [replace(router, admin_port=router.admin_port + ADMIN_STRIDE * number) for number in range(WORKERS)]
    return not any([await each.metric("router_usage_backlog") for each in pages])
