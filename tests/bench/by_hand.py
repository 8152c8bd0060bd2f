"""A client's connection and an engine's with the router between them, all driven by hand: no sockets, no kernel."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from libs.common.clock import SystemClock
from libs.common.events.endpoint import Limits
from libs.common.events.runtime import Replica
from libs.common.events.tables import KeyEntry, QuotaEntry, RouteEntry
from libs.common.keys import Keyring
from services.router.core.pressure import TURN_LEAST
from services.router.shell.edge.connection import ClientConnection
from services.router.shell.edge.server import Edge
from services.router.shell.engines.table import RouteTable
from services.router.shell.engines.upstream import UpstreamConnection
from services.router.shell.journal.log import LogUsageJournal
from services.router.shell.limits.budgets import Budgets
from services.router.shell.ports import UsageJournal
from services.router.shell.request.account import Books
from services.router.shell.request.gateway import Gateway
from services.router.shell.seen.access_log import AccessLog
from tests.bench.peers.load import request
from tests.bench.peers.proxies import KEY, MODEL, PLENTY

ADDRESS: Final = ("127.0.0.1", 9)

ANSWER: Final = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m-0","choices":[{"index":0,"message":{"role":'
    b'"assistant","content":"' + b"word " * 20 + b'"},"finish_reason":"stop"}],"usage":{"prompt_tokens":460,'
    b'"completion_tokens":20,"total_tokens":480,"prompt_tokens_details":{"cached_tokens":0}}}'
)
WHOLE: Final = (
    b"HTTP/1.1 200 OK\r\ndate: Sat, 28 Nov 2026 12:00:00 GMT\r\nserver: uvicorn\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
)
STREAM: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
EVENT: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m-0","choices":[{"index":0,'
    b'"delta":{"content":" word"},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":460,'
    b'"total_tokens":%d,"completion_tokens":%d}}\n\n'
)


REQUEST: Final = request(body_bytes=1850)
LARGE: Final = request(body_bytes=65_536)
LIMITED: Final = REQUEST.replace(b'"model":"m"', b'"model":"l"')  # An endpoint of one request a minute.
STRIPPED: Final = request(body_bytes=1850, stream=1000)
PASSED: Final = request(body_bytes=1850, stream=1000, usage=True)


def framed(data: bytes) -> bytes:
    """An HTTP chunk, as the engine writes it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def last(count: int) -> bytes:
    """How the engine ends a stream."""
    reason = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    usage = b'data: {"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":460,"completion_tokens":%d}}\n\n' % count
    return b"".join(map(framed, (reason, usage, b"data: [DONE]\n\n", b"")))


@dataclass
class Socket:
    """A transport that takes all at once."""

    peer: tuple[str, int] = ("127.0.0.1", 5)
    written: list[bytes] = field(default_factory=list)
    closed: bool = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def writelines(self, data: list[bytes]) -> None:
        self.written.extend(data)

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        return self.peer

    def set_write_buffer_limits(self, high: int = 0) -> None:
        """Nothing is ever buffered."""

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""

    def abort(self) -> None:
        self.closed = True

    def taken(self) -> bytes:
        """What was written since the last look."""
        found = b"".join(self.written)
        self.written.clear()
        return found


@dataclass
class Bench:
    """One client's connection, one engine's, and the router between them."""

    gateway: Gateway
    client: ClientConnection
    near: Socket = field(default_factory=Socket)
    far: Socket = field(default_factory=Socket)
    asked: int = 0

    def __post_init__(self) -> None:
        self.client.connection_made(cast(asyncio.Transport, self.near))
        self.engine = UpstreamConnection(self.gateway.pool, ADDRESS)
        self.engine.connection_made(cast(asyncio.Transport, self.far))
        self.gateway.pool.give_back(self.engine, reusable=True)

    def ask(self, asked: bytes) -> None:
        """The client's bytes come in; the engine is asked."""
        self._turn()
        self.engine.idle_since_s = self.gateway.now_s()
        self.client.data_received(asked)
        assert self.far.taken(), self.near.taken()

    def served(self, asked: bytes) -> None:
        """One request, from its first byte to its last."""
        self.ask(asked)
        self.engine.data_received(WHOLE)
        assert self.near.taken().startswith(b"HTTP/1.1 200"), "not served"

    def refused(self, asked: bytes) -> None:
        """One that gets no further than us."""
        self._turn()
        self.client.data_received(asked)
        assert self.near.taken().startswith((b"HTTP/1.1 429", b"HTTP/1.1 503")), "not refused"

    def _turn(self) -> None:
        """The loop has rounds, and none in which more comes than is served at once."""
        self.asked += 1
        if self.asked % TURN_LEAST == 0:
            self.gateway.arrivals.turn()


def a_bench(state: Path) -> Bench:
    """The router's data plane as it is shipped, but for the disk's own time: rows are written, and not waited for."""
    loop = asyncio.get_running_loop()
    return Bench(*a_plane(LogUsageJournal(str(state / "usage.db"), loop=loop, waits_for_disk=False)))


def a_plane(journal: UsageJournal) -> tuple[Gateway, ClientConnection]:
    """A data plane with two endpoints, one of them limited, and a client's connection to it."""
    table = RouteTable()
    key = KeyEntry(key_id=KEY.key_id, sha256=KEY.sha256, tenant_id="acme", project_id="main", scopes=("inference",))
    gateway = Gateway(
        keyring=Keyring({KEY.key_id: key}), table=table, journal=journal, clock=SystemClock(), boot_id="b00t"
    )
    gateway.books = Books(gateway.clock, log=AccessLog("/dev/null"))
    gateway.budgets = Budgets(gateway.quotas, gateway.clock, instance="bench", boot_id="b00t")
    seats = tuple(Replica(name=f"pod-{n}", url=f"http://{ADDRESS[0]}:{ADDRESS[1]}", model=f"m-{n}") for n in range(4))
    route = RouteEntry(
        endpoint_id="ep-1", tenant_id="acme", project_id="main", name=MODEL, generation=1, model="engine-m",
        tier="h100-dedicated", region="eu-1", published_at_ms=1, replicas=seats,
    )  # fmt: skip
    quota = QuotaEntry(tenant_id="acme", requests_per_minute=PLENTY, tokens_per_minute=PLENTY)
    limited = route.model_copy(update={"endpoint_id": "ep-2", "name": "l", "limits": Limits(requests_per_minute=1)})
    for each in (route, limited):
        table.change(each.endpoint_id, each.model_dump_json().encode())
    gateway.quotas.change("acme", quota.model_dump_json().encode())
    return gateway, ClientConnection(Edge(gateway, host="127.0.0.1", port=0))
