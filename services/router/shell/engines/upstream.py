"""Connections to the engines: keep-alive, strictly parsed, given back only when the answer ended where it should."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Final, cast

import httptools

from services.router.core.event_forms import are_chunks, first_chunk_bytes
from services.router.core.familiar import Familiar, learned
from services.router.shell.engines.asker import NOBODY, Asker
from services.router.shell.engines.target import Seat

IDLE_MAX_S: Final = 4.0  # vLLM and uvicorn close at 5 s; we must be first, or a request meets a closing socket.
ENDING_MAX_S: Final = 1.0  # From [DONE] to the last chunk; engines send both at once.
IDLE_PER_REPLICA_MAX: Final = 64
WRITE_BUFFER_BYTES: Final = 256 * 1024
HEADERS_MAX: Final = 128
CONTENT_TYPE: Final = b"content-type"
OK: Final = 200
LUCK: Final = 8  # Heads differ by their date, once a second; those of an engine that always differ are only parsed.


class Unasked(Exception):
    """The engine says more than it was asked for."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to one replica, with at most one request on it."""

    __slots__ = (
        "_asker", "_bodies", "_body", "_complete", "_content_type", "_familiar", "_has_head", "_headers", "_is_fed",
        "_keeps_alive", "_luck", "_parser", "_pool", "_status", "_takes", "_told_head", "_transport", "address",
        "hears_body", "idle_since_s", "is_closing", "is_paused", "takes_chunk",
    )  # fmt: skip

    def __init__(self, pool: Pool, address: tuple[str, int]) -> None:
        self._pool = pool
        self.address = address
        self.idle_since_s = 0.0
        self._asker: Asker | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers = 0
        self._content_type = b""
        self._status = 0
        self._has_head = False
        self._told_head = False
        self._complete = self._keeps_alive = False
        self._body = b""  # What was read of the body by one read,
        self._bodies: list[bytes] = []  # and more of it where it came in several chunks.
        self._familiar: Familiar[bytes] | None = None  # The head of the last good answer, and its content type.
        self._luck = LUCK  # How often one more head may be learned before one comes that is known.
        self._is_fed = False  # Whether the parser has read of this answer.
        # Who has what comes of the body, past the asker, until its end.
        self.hears_body: Callable[[bytes], None] | None = None
        # Who takes a read that may be a whole chunk of it, past the parser; it says whether it did.
        self.takes_chunk: Callable[[bytes], bool] | None = None
        self._takes: Callable[[bytes], bool] | None = None  # The same, while the parser stands between two chunks.
        self.is_closing = True  # Whether it is of no more use.
        self.is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The replica accepted."""
        # uvloop's transports are such without saying so: an isinstance would be wrong.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.is_closing = False

    def ask(self, asker: Asker, head: bytes, body: bytes) -> None:
        """Send a request; ``asker`` hears the answer."""
        assert self._asker is None
        self._asker, self._is_fed = asker, False
        self._transport.writelines((head, body))  # One call into the kernel, and no copy.

    def pause(self) -> None:
        """The client does not keep up: read no more."""
        if not self.is_closing:
            self.is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.is_paused and not self.is_closing:
            self.is_paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Break it off: the engine stops generating when its client is gone."""
        self._forget_asker()
        self.is_closing = True
        self._transport.abort()

    def let_go(self) -> None:
        """The asker has all it needs; what is left of the answer is dropped, and the connection kept."""
        self._forget_asker()
        self._asker = NOBODY

    def _forget_asker(self) -> None:
        self._asker = self.hears_body = self.takes_chunk = self._takes = None

    def data_received(self, data: bytes) -> None:
        """A chunk of a form that is known, or any other bytes."""
        takes = self._takes
        if takes is None:
            self._parse(data)
        elif not takes(data):
            self._read(data)

    def _read(self, data: bytes) -> None:
        """What came together: chunk by chunk as long as they are taken, then what is left."""
        while (takes := self._takes) is not None and 0 < (length := first_chunk_bytes(data)) < len(data):
            if not takes(data[:length]):
                break
            data = data[length:]
            if takes(data):
                return
        self._takes = None
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        """Parse, then tell: nothing of ours runs inside the parser."""
        asker, known = self._asker, self._familiar
        if asker is None:
            self.abort()  # Nobody asked: an engine that speaks unasked is not trusted with the next request.
            return
        is_first = not self._is_fed
        if is_first:
            if known is not None and (body := known.whole(data)) is not None:
                self._asker, self._luck = None, LUCK
                self._pool.give_back(self, reusable=True)
                asker.upstream_whole(known.head, body)
                return
            self._is_fed = True
            self._headers, self._content_type, self._status, self._body = 0, b"", 0, b""
            self._has_head = self._told_head = self._complete = self._keeps_alive = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(asker, "not HTTP")
            return
        if self._headers > HEADERS_MAX:
            self._fail(asker, "too many headers")
            return
        if is_first and self._complete and self._status == OK and self._keeps_alive and self._luck:
            self._familiar = learned(data, self._content_type, body_bytes=len(self._body))
            self._luck -= 1
        if self._told_head and self._body and not self._complete and not self._bodies:
            body, self._body = self._body, b""
            (self.hears_body or asker.upstream_body)(body)
        else:
            body = self._tell(asker)
        if self.takes_chunk is not None and are_chunks(data, body):
            self._takes = self.takes_chunk

    def _tell(self, asker: Asker) -> bytes:
        body = b""
        if self._has_head and not self._told_head:
            self._told_head = True
            asker.upstream_head(self._status, self._content_type)
        if self._body and self._asker is asker:
            body, self._body = b"".join((self._body, *self._bodies)), b""
            self._bodies.clear()
            asker.upstream_body(body)
        last, done = self._asker, self._complete  # Perhaps no longer the asker: it may have let go.
        if done and last is not None:
            self._forget_asker()
            self._pool.give_back(self, reusable=self._keeps_alive)
            last.upstream_complete()
        return body

    def _fail(self, asker: Asker, reason: str) -> None:
        self.abort()
        asker.upstream_broken(reason)

    def eof_received(self) -> None:
        """The engine closes; what it still owed never comes."""
        self.is_closing = True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        asker, self.is_closing = self._asker, True
        self._forget_asker()
        del self._parser  # It knows us: a circle that only the garbage collector would find.
        self._pool.forget(self)
        if asker is not None:
            asker.upstream_lost("connection closed" if exc is None else type(exc).__name__)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """An answer begins, interim ones too. Raises Unasked, which breaks it off, after the one that was asked for.

        The next request would be given what is left of it as the beginning of its own.
        """
        if self._complete:
            raise Unasked

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        self._headers += 1
        if name.lower() == CONTENT_TYPE and not self._has_head:
            self._content_type = value

    def on_headers_complete(self) -> None:
        """The head is whole; one of the 1xx kind is not yet the answer."""
        self._status = self._parser.get_status_code()
        self._has_head = self._status >= 200
        self._keeps_alive = self._parser.should_keep_alive()  # After the message it would speak of the next.

    def on_body(self, body: bytes) -> None:
        """A piece of the body, without its framing."""
        if self._body:
            self._bodies.append(body)
        else:
            self._body = body

    def on_message_complete(self) -> None:
        """The answer, or an interim one, is whole."""
        self._complete = self._has_head


class Pool:
    """Idle connections by address."""

    def __init__(self, *, connect_timeout_s: float) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._idle: defaultdict[tuple[str, int], deque[UpstreamConnection]] = defaultdict(deque)
        self._ending: dict[UpstreamConnection, float] = {}
        self._loop = asyncio.get_running_loop()

    def take(self, seat: Seat, now_s: float) -> UpstreamConnection | None:
        """The connection used last, if one is idle and young enough."""
        idle = self._idle.get(seat.address)
        while idle:
            connection = idle.pop()
            if not connection.is_closing and now_s - connection.idle_since_s < IDLE_MAX_S:
                return connection
            connection.abort()
        return None

    async def dial(self, seat: Seat) -> UpstreamConnection:
        """A new connection. Raises OSError or TimeoutError."""
        dialled = self._loop.create_connection(lambda: UpstreamConnection(self, seat.address), *seat.address)
        _, connection = await asyncio.wait_for(dialled, self._connect_timeout_s)
        if connection.is_closing:  # Before anybody could hear of it, so nobody would.
            raise ConnectionResetError("the replica closed the connection at once")
        return connection

    def give_back(self, connection: UpstreamConnection, *, reusable: bool) -> None:
        """The answer on it ended."""
        if self._ending:
            self._ending.pop(connection, None)
        idle = self._idle[connection.address]
        if not reusable or connection.is_closing or len(idle) >= IDLE_PER_REPLICA_MAX:
            connection.abort()
            return
        connection.idle_since_s = self._loop.time()
        if connection.is_paused:
            connection.resume()
        idle.append(connection)

    def let_finish(self, connection: UpstreamConnection) -> None:
        """Its answer is as good as over: keep it if the end comes soon."""
        connection.let_go()
        self._ending[connection] = self._loop.time()

    def forget(self, connection: UpstreamConnection) -> None:
        """It closed."""
        self._ending.pop(connection, None)
        idle = self._idle.get(connection.address)
        if idle and connection in idle:
            idle.remove(connection)

    def sweep(self) -> None:
        """Close what idled too long, and forget addresses without connections."""
        now_s = self._loop.time()
        for connection, since_s in list(self._ending.items()):
            if now_s - since_s >= ENDING_MAX_S:
                connection.abort()
        for address, idle in list(self._idle.items()):
            while idle and now_s - idle[0].idle_since_s >= IDLE_MAX_S:
                idle.popleft().abort()
            if not idle:
                del self._idle[address]

    def close(self) -> None:
        """Close all that is idle."""
        for idle in self._idle.values():
            while idle:
                idle.pop().abort()
