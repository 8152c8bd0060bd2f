"""The router as a process beside a real broker: killed, restarted, cut off, asked to stop; nothing served is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from libs.common.bus.nats import NatsBus
from libs.common.bus.port import Message, bucket_delete, bucket_put
from libs.common.bus.provision import provision
from libs.common.bus.server import NatsServer
from libs.common.bus.streams import EVT, KEYS, LOAD, ROUTES, USAGE, message_of
from libs.common.events.envelope import Envelope, from_wire
from libs.common.events.event import Event
from libs.common.events.route import RequestUsage, RoutePublished, RouteWithdrawn, TrafficObserved, UsageReported
from libs.common.events.usage import UsageConfirmed
from libs.common.ids import EventId
from services.router.core.serving import CHECKPOINT_TOKENS
from tests.support.canary import files
from tests.support.nats import connected, nats_server, stored
from tests.support.ports import free_port
from tests.support.preloaded import Program
from tests.support.web import NO_TLS
from tests.unit.router.engine import Engine, running
from tests.unit.router.heard import cache_warmed, deletion_requested, requested
from tests.unit.router.scene import KEY, a_request, ask, chat_body, key_entry, tokens_in

__all__ = ["nats_server"]

pytestmark = pytest.mark.xdist_group("preloaded")


@dataclass
class RouterProcess:
    """``python -m services.router``, with a state directory that outlives it."""

    server: NatsServer
    state: Path
    port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    process: Program | None = None
    more: dict[str, str] = field(default_factory=dict)

    async def start(self) -> None:
        self.process = self.spawn()
        await until(self.is_up)

    def spawn(self) -> Program:
        settings = {
            "NATS_URL": self.server.url,
            "DATABASE_URL": f"sqlite:///{self.state}/router.db",
            "USAGE_DB": f"{self.state}/usage.db",
            "HTTP_PORT": str(self.port),
            "ADMIN_PORT": str(self.admin_port),
            "PUBLIC_URL": f"http://127.0.0.1:{self.port}/v1",
            "USAGE_RESEND_S": "1",
            "LOAD_REPORT_S": "0.2",
            "DRAIN_S": "5",
            "RESYNC_S": "0.5",
            **self.more,
        }
        env = {**os.environ, **{f"MILLRACE_{name}": value for name, value in settings.items()}}
        return Program("services.router", env=env, err=self.state / "router.log")

    async def is_up(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, (self.state / "router.log").read_text()
        with contextlib.suppress(httpx.HTTPError):
            async with httpx.AsyncClient(verify=NO_TLS) as web:
                return (await web.get(f"http://127.0.0.1:{self.port}/healthz")).status_code == 200
        return False

    async def serves(self) -> bool:
        (answer,) = await ask(self.port, get("/v1/models"))
        return answer.status == 200 and b'"chatty"' in answer.body

    async def admin(self, path: str) -> int:
        async with httpx.AsyncClient(verify=NO_TLS) as web:
            return (await web.get(f"http://127.0.0.1:{self.admin_port}/{path}")).status_code

    async def metric(self, name: str) -> float:
        async with httpx.AsyncClient(verify=NO_TLS) as web:
            text = (await web.get(f"http://127.0.0.1:{self.admin_port}/metrics")).text
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))

    async def end(self, how: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return await asyncio.to_thread(self.process.wait, 60)


async def until(holds: Callable[[], object], within_s: float = 90.0) -> None:
    async with asyncio.timeout(within_s):
        while True:
            found = holds()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.05)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: r\r\nauthorization: Bearer {KEY.plaintext}\r\n\r\n".encode()


SECRET = "canary-of-a-prompt-7f3a"
CANARY = chat_body(stream=True, messages=[{"role": "user", "content": SECRET}])


def leaks(state: Path) -> list[str]:
    """Files below the state directory, the broker's among them, that hold a prompt, an answer or a key."""
    found = files(state)
    assert {"router.log", "usage.db", "router.db"} <= {Path(name).name for name in found}
    secrets = (SECRET.encode(), b"tok ", KEY.plaintext.encode())
    return [name for name, content in found.items() if any(secret in content for secret in secrets)]


async def publish(server: NatsServer, *messages: Message) -> None:
    bus = NatsBus(server.url, name="test")
    await bus.start()
    try:
        assert await bus.publish(messages) == len(messages)
    finally:
        await bus.stop()


async def told(server: NatsServer, stream: str, kind: type[Event]) -> list[Envelope]:
    found = [from_wire(each.headers, each.body) for each in await stored(server.url, stream)]
    return [each for each in found if isinstance(each.data, kind)]


async def reported(server: NatsServer) -> list[RequestUsage]:
    """What reached the ledger's stream, each request once."""
    rows: dict[str, RequestUsage] = {}
    for each in await told(server, USAGE, UsageReported):
        assert isinstance(each.data, UsageReported)
        for row in each.data.requests:
            assert rows.setdefault(row.request_id, row) == row, "a request was reported twice with other content"
    return list(rows.values())


@pytest.fixture
async def router(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[RouterProcess]:
    await provision(nats_server.url)
    key = bucket_put(bucket=KEYS, key=KEY.key_id, value=key_entry(KEY).model_dump_json().encode(), id="key")
    await publish(nats_server, key)
    each = RouterProcess(nats_server, tmp_path)
    await each.start()
    yield each
    if each.process is not None and each.process.returncode is None:
        await each.end(signal.SIGKILL)


async def test_a_route_is_told_published_serves_is_billed_and_told_withdrawn(router: RouterProcess) -> None:
    async with running(Engine(delay_s=0.02)) as engine:
        await publish(router.server, *map(message_of, (cache_warmed(engine.url), requested())))
        await until(router.serves)
        (answer,) = await ask(router.port, a_request(CANARY))

        await until(lambda: _has(router, 1))
        (row,) = await reported(router.server)
        assert tokens_in(answer.body) == row.completion_tokens == 5
        await until(lambda: _told(router, RoutePublished))
        (published,) = await told(router.server, EVT, RoutePublished)
        assert published.data == RoutePublished(url=f"http://127.0.0.1:{router.port}/v1")

        await publish(router.server, message_of(deletion_requested()))
        await until(lambda: _told(router, RouteWithdrawn))
        (gone,) = await ask(router.port, a_request(chat_body()))
        assert gone.status == 404
        await ask(router.port, a_request(CANARY[:-1]))
        assert leaks(router.state) == []
        loads = await told(router.server, LOAD, TrafficObserved)
        assert (
            sum(
                load.requests
                for each in loads
                if isinstance(each.data, TrafficObserved)
                for load in each.data.endpoints
            )
            == 1
        )


async def test_a_broker_that_lost_its_buckets_takes_nothing_from_those_who_are_served(router: RouterProcess) -> None:
    async with running(Engine()) as engine:
        await publish(router.server, *map(message_of, (cache_warmed(engine.url), requested())))
        await until(router.serves)
        await until(lambda: _told(router, RoutePublished))

        async with connected(router.server.url) as operator:
            for bucket in (KEYS, ROUTES):
                await operator.jetstream().delete_stream(f"KV_{bucket}")
        await provision(router.server.url)
        await until(lambda: _metric_is(router, 'router_lost_entries{bucket="keys"}', 1))
        (answer,) = await ask(router.port, a_request(chat_body()))
        await until(lambda: _is_put(router, ROUTES))
        await until(lambda: _metric_is(router, 'router_lost_entries{bucket="routes"}', 0))
        await publish(router.server, bucket_delete(bucket=KEYS, key=KEY.key_id, id="revoked"))
        await until(lambda: _metric_is(router, 'router_lost_entries{bucket="keys"}', 0))
        older = bucket_put(bucket=KEYS, key=KEY.key_id, value=key_entry(KEY).model_dump_json().encode(), id="older")
        await publish(router.server, older)
        (revoked,) = await ask(router.port, a_request(chat_body()))

    assert (answer.status, revoked.status) == (200, 401)


async def test_usage_is_sent_again_until_the_ledger_confirms_it(router: RouterProcess) -> None:
    async with running(Engine()) as engine:
        await publish(router.server, *map(message_of, (cache_warmed(engine.url), requested())))
        await until(router.serves)
        await ask(router.port, a_request(chat_body()))

        await until(lambda: _batches(router, 2))
        assert await router.metric("router_usage_backlog") == 1

        (row,) = await reported(router.server)
        for instance in ("router-9", "router-0"):
            confirmed = UsageConfirmed(instance=instance, request_ids=(row.request_id,))
            await publish(
                router.server,
                message_of(Envelope(EventId(f"confirm-{instance}"), confirmed, subject=instance, time_ms=1)),
            )
        await until(lambda: _metric_is(router, "router_usage_confirmed_total", 1))
        await until(lambda: _metric_is(router, "router_usage_backlog", 0))
        batches = [each.data for each in await told(router.server, USAGE, UsageReported)]
        numbers = [each.boot_seq for each in batches if isinstance(each, UsageReported)]
        assert numbers == list(range(1, len(numbers) + 1))


async def test_killed_in_the_middle_of_a_stream_it_bills_what_was_delivered_or_a_checkpoint_less(
    router: RouterProcess,
) -> None:
    async with running(Engine(tokens=100_000, delay_s=0.002)) as engine:
        await publish(router.server, *map(message_of, (cache_warmed(engine.url), requested())))
        await until(router.serves)
        delivered: dict[str, int] = {}
        for leaves_at in (1, 70, 200):
            reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
            writer.write(a_request(chat_body(stream=True)))
            seen = b""
            while tokens_in(seen) < leaves_at:
                seen += await asyncio.wait_for(reader.read(4096), 60)

            await router.end(signal.SIGKILL)

            with contextlib.suppress(ConnectionError):
                while more := await asyncio.wait_for(reader.read(65536), 60):
                    seen += more
            writer.close()
            request_id = seen.partition(b"x-request-id: ")[2].partition(b"\r\n")[0].decode()
            delivered[request_id] = tokens_in(seen)
            await router.start()

        await until(lambda: _has(router, len(delivered)))
        rows = {each.request_id: each for each in await reported(router.server)}
        assert rows.keys() == delivered.keys()
        for request_id, tokens in delivered.items():
            assert tokens - CHECKPOINT_TOKENS <= rows[request_id].completion_tokens <= tokens
            assert rows[request_id].finish == "router_crash"


async def test_a_request_to_stop_lets_a_stream_finish_and_its_bill_be_sent(router: RouterProcess) -> None:
    async with running(Engine(tokens=60, delay_s=0.02)) as engine:
        await publish(router.server, *map(message_of, (cache_warmed(engine.url), requested())))
        await until(router.serves)
        reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
        writer.write(a_request(chat_body(stream=True)))
        await asyncio.wait_for(reader.readuntil(b"transfer-encoding"), 60)

        status = await router.end(signal.SIGTERM)

        rest = await asyncio.wait_for(reader.read(-1), 60)
        writer.close()
        assert status == 0
        assert b"[DONE]" in rest
        (row,) = await reported(router.server)
        assert (row.completion_tokens, row.finish) == (60, "stop")


async def test_without_a_broker_it_serves_from_its_copy_and_reports_later(router: RouterProcess) -> None:
    async with running(Engine()) as engine:
        await publish(router.server, *map(message_of, (cache_warmed(engine.url), requested())))
        await until(router.serves)
        await until(lambda: _is_copied(router))
        router.server.kill()
        await router.end(signal.SIGKILL)

        await router.start()

        (answer,) = await ask(router.port, a_request(chat_body(stream=True)))
        assert tokens_in(answer.body) == 5
        assert [await router.admin(page) for page in ("readyz", "serving")] == [503, 200]  # Clients are to come.
        router.server.start()
        await until(lambda: _has(router, 1), 40)


@pytest.mark.chaos
async def test_with_everything_else_away_it_serves_across_kills_and_lands_the_backlog_once(
    router: RouterProcess,
) -> None:
    async with running(Engine()) as engine:
        await publish(router.server, *map(message_of, (cache_warmed(engine.url), requested())))
        await until(router.serves)
        await until(lambda: _is_copied(router))
        router.server.kill()
        billed: dict[str, int] = {}
        for _ in range(3):
            for stream in (True, False) * 20:
                (answer,) = await ask(router.port, a_request(chat_body(stream=stream)))
                assert answer.status == 200
                billed[answer.headers["x-request-id"]] = 5
            await router.end(signal.SIGKILL)
            await router.start()

        router.server.start()
        await until(lambda: _has(router, len(billed)), 90)

        rows = await reported(router.server)
        assert {each.request_id: each.completion_tokens for each in rows} == billed


@pytest.mark.chaos
async def test_a_copy_older_than_it_may_be_serves_nobody_and_a_router_that_ran_on_still_does(
    router: RouterProcess,
) -> None:
    async with running(Engine()) as engine:
        await publish(router.server, *map(message_of, (cache_warmed(engine.url), requested())))
        await until(router.serves)
        await until(lambda: _is_copied(router))
        router.more["COPY_STALE_S"] = "4"
        router.server.kill()
        await asyncio.sleep(6)
        assert await router.serves()

        await router.end(signal.SIGKILL)
        await router.start()

        (refused,) = await ask(router.port, get("/v1/models"))
        assert refused.status == 401
        router.server.start()
        await until(router.serves, 60)


async def test_a_port_in_use_ends_it_with_one_line(router: RouterProcess) -> None:
    second = RouterProcess(router.server, router.state / "second", port=router.port)
    second.state.mkdir()

    process = second.spawn()

    assert await asyncio.to_thread(process.wait, 60) == 2
    (line,) = (second.state / "router.log").read_text().splitlines()
    assert line.startswith(f"router: can not listen on 127.0.0.1:{router.port}")
    assert line.endswith("set MILLRACE_HTTP_PORT")


async def _has(router: RouterProcess, count: int) -> bool:
    return len(await reported(router.server)) >= count


def _is_copied(router: RouterProcess) -> bool:
    """Whether it has written what it serves by: a second after the last change, on a quiet machine."""
    copy = router.state / "usage.db.tables.json"
    return copy.exists() and b"chatty" in copy.read_bytes()


async def _told(router: RouterProcess, kind: type[Event]) -> bool:
    return bool(await told(router.server, EVT, kind))


async def _is_put(router: RouterProcess, bucket: str) -> bool:
    return bool(await stored(router.server.url, f"KV_{bucket}"))


async def _batches(router: RouterProcess, count: int) -> bool:
    return len(await told(router.server, USAGE, UsageReported)) >= count


async def _metric_is(router: RouterProcess, name: str, value: float) -> bool:
    return await router.metric(name) == value
