"""A data plane over real sockets: an edge, its journal, one tenant's key, one endpoint served by the engines given."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.registry import REGISTRY

from libs.common import keys
from libs.common.client_address import trusted_proxies
from libs.common.clock import SystemClock
from libs.common.events.route import RequestUsage
from libs.common.events.runtime import Replica
from libs.common.events.tables import KeyEntry, RouteEntry
from libs.common.ids import SystemEntropy
from services.router.shell.edge.server import Edge
from services.router.shell.engines.table import RouteTable
from services.router.shell.engines.waiting import Places
from services.router.shell.journal.log import LogUsageJournal
from services.router.shell.journal.memory import MemoryUsageJournal
from services.router.shell.journal.store import read_rows
from services.router.shell.ports import UsageJournal
from services.router.shell.request.gateway import Gateway, Limits, Probed

TENANT, PROJECT, NAME, ENDPOINT = "ten-a", "prj-a", "chatty", "ep-a"
KEY = keys.mint(SystemEntropy())
OTHER_KEY = keys.mint(SystemEntropy())
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: r\r\n\r\n"
FAST = Limits(connect_s=0.5, first_byte_s=1.0, idle_s=1.0, total_s=5.0, places=Places(queue_s=0.5, wake_s=0.2))


def key_entry(minted: keys.Minted, *, tenant: str = TENANT, scopes: tuple[str, ...] = ("inference",)) -> KeyEntry:
    return KeyEntry(key_id=minted.key_id, sha256=minted.sha256, tenant_id=tenant, project_id=PROJECT, scopes=scopes)


def a_route(urls: Sequence[str], *, generation: int = 1, name: str = NAME, endpoint: str = ENDPOINT) -> RouteEntry:
    return RouteEntry(
        endpoint_id=endpoint,
        tenant_id=TENANT,
        project_id=PROJECT,
        name=name,
        generation=generation,
        model="millrace/ngram-1",
        tier="l40s-dedicated",
        region="eu-1",
        replicas=tuple(Replica(name=f"pod-{index}", url=url) for index, url in enumerate(urls)),
        published_at_ms=1_800_000_000_000,
    )


@dataclass
class Scene:
    """What a test looks at."""

    edge: Edge
    gateway: Gateway
    journal: UsageJournal
    table: RouteTable

    @property
    def port(self) -> int:
        return self.edge.port

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def serve(self, *urls: str, name: str = NAME, endpoint: str = ENDPOINT, **more: object) -> None:
        """Route the endpoint to these engines; ``more`` is what else its entry says."""
        route = a_route(urls, name=name, endpoint=endpoint).model_copy(update=more)
        self.table.change(endpoint, route.model_dump_json().encode())

    async def bills(self, count: int) -> list[RequestUsage]:
        """The journal's finished rows, once there are ``count``."""
        async with asyncio.timeout(10):
            while self.journal.backlog() < count or self.table.live_total():
                await asyncio.sleep(0.01)
        return sorted(
            read_rows(self.journal.unconfirmed(sent_before_ms=0, limit=10_000)),
            key=lambda row: int(row.request_id.split("-")[2], 16),
        )

    async def until(self, holds: Callable[[], bool]) -> None:
        """Until something is so."""
        async with asyncio.timeout(30):
            while not holds():
                await asyncio.sleep(0.01)

    async def bill(self) -> RequestUsage:
        (row,) = await self.bills(1)
        return row


@contextlib.asynccontextmanager
async def a_scene(
    *urls: str,
    limits: Limits = FAST,
    journal_path: Path | None = None,
    journal: UsageJournal | None = None,
    tls: ssl.SSLContext | None = None,
    trusted: str = "",
    probed: Probed = lambda _key, _now_ms: None,
    host: str = "127.0.0.1",
) -> AsyncIterator[Scene]:
    """A running edge in front of the engines at ``urls``; ``trusted``: only these connect, with a PROXY header."""
    if journal is None:
        loop = asyncio.get_running_loop()
        journal = LogUsageJournal(str(journal_path), loop=loop) if journal_path else MemoryUsageJournal("b1")
    ring = keys.Keyring({KEY.key_id: key_entry(KEY), OTHER_KEY.key_id: key_entry(OTHER_KEY, tenant="ten-b")})
    table = RouteTable()
    gateway = Gateway(keyring=ring, table=table, journal=journal, clock=SystemClock(), boot_id="boot1", limits=limits)
    gateway.probed = probed
    gateway.trusted = trusted_proxies(trusted)
    edge = Edge(gateway, host=host, port=0, drain_s=1.0, tls=tls, is_behind_proxy=bool(trusted))
    edge.bind()
    running = asyncio.create_task(edge.run())
    await asyncio.sleep(0.01)
    scene = Scene(edge, gateway, journal, table)
    if urls:
        scene.serve(*urls)
    try:
        yield scene
    finally:
        await edge.drain()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        journal.close()


def chat_body(**more: object) -> bytes:
    return json.dumps({"model": NAME, "messages": [{"role": "user", "content": "hi"}], **more}).encode()


def a_request(
    body: bytes, *, path: str = "/v1/chat/completions", key: str = KEY.plaintext, headers: bytes = b""
) -> bytes:
    return b"POST %s HTTP/1.1\r\nhost: r\r\nauthorization: Bearer %s\r\n%scontent-length: %d\r\n\r\n%s" % (
        path.encode(), key.encode(), headers, len(body), body,
    )  # fmt: skip


@dataclass
class Answer:
    """An HTTP answer as a client got it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, object]:
        found = json.loads(self.body)["error"]
        assert set(found) == {"message", "type", "param", "code"}
        return dict(found)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """One whole answer off a connection."""
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status_line, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
        if headers.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(await reader.readline(), 16):
                parts.append((await reader.readexactly(size + 2))[:-2])
            await reader.readexactly(2)
            body = b"".join(parts)
        else:
            body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Answer(int(status_line.split()[1]), headers, body)


async def ask(port: int, *requests: bytes) -> list[Answer]:
    """Send requests on one connection and read as many answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"".join(requests))
        return [await read_answer(reader) for _ in requests]
    finally:
        writer.close()


def refused_count(code: str) -> float:
    """How many refusals of this code the process has told Prometheus of."""
    return REGISTRY.get_sample_value("router_refusals_total", {"code": code}) or 0.0


def tokens_in(data: bytes, word: bytes = b"tok ") -> int:
    """How many tokens of the engine's text are in what a client received."""
    return data.count(word)
