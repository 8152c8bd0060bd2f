"""A stream from an engine's bytes to its client's, driven by hand: reads, what the client takes, the clock, the end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from libs.common.clock import ManualClock
from services.router.core.event_forms import Form, Forms
from services.router.core.serving import Row
from services.router.core.sse import Piece
from services.router.shell.edge.connection import ClientConnection
from services.router.shell.journal.durable import Durable
from services.router.shell.journal.memory import MemoryUsageJournal
from tests.bench.by_hand import STREAM, Bench, Socket, a_plane

SCALE: Final = 100  # So much less than in truth fits into a socket's buffer: two or three events.
SIZES: Final = re.compile(rb"(?<=\r\n)[0-9A-Fa-f]{1,5}(?=\r\n)")


class Step(NamedTuple):
    """What the engine's socket gives, how much the client's takes of what it was given, and what the clock does."""

    read: bytes
    taken: int = 10_000
    later_ms: int = 0


@dataclass
class Slow(Socket):
    """A client's transport that takes what it is told to, and says when it is full."""

    client: ClientConnection | None = None
    unsent: int = 0
    high: int = 0
    is_full: bool = False

    def write(self, data: bytes) -> None:
        super().write(data)
        self.unsent += len(data)
        self._look()

    def set_write_buffer_limits(self, high: int = 0) -> None:
        self.high = high // SCALE
        self._look()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def close(self) -> None:
        self.closed = True

    def take(self, count: int) -> None:
        """So many bytes leave."""
        self.unsent = max(0, self.unsent - count)
        if self.client is not None and self.is_full and self.unsent <= self.high // 4:
            self.is_full = False
            self.client.resume_writing()

    def _look(self) -> None:
        if self.client is not None and not self.is_full and self.unsent > self.high:
            self.is_full = True
            self.client.pause_writing()


@dataclass
class Far(Socket):
    """An engine's transport, which gives nothing while it is paused."""

    is_paused: bool = False

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Noted(MemoryUsageJournal):
    """A journal that tells what it was told."""

    def __init__(self) -> None:
        super().__init__("b00t")
        self.told: list[tuple[str, Row]] = []

    def checkpoint(self, row: Row) -> None:
        self.told.append(("checkpoint", row))
        super().checkpoint(row)

    def finish(self, row: Row) -> Durable:
        self.told.append(("finish", row))
        return super().finish(row)


class NoForms(Forms):
    """Familiarity, switched off."""

    def learned(self, event: bytes, piece: Piece, *, wants_usage: bool) -> Form | None:
        return None


@dataclass
class Counting:
    """An engine's parser, and what it was given."""

    parser: object
    given: list[bytes] = field(default_factory=list)

    def feed_data(self, data: bytes) -> None:
        self.given.append(data)
        self.parser.feed_data(data)  # type: ignore[attr-defined]

    def get_status_code(self) -> int:
        return int(self.parser.get_status_code())  # type: ignore[attr-defined]

    def should_keep_alive(self) -> bool:
        return bool(self.parser.should_keep_alive())  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Seen:
    """What came of it."""

    out: bytes
    told: tuple[tuple[str, Row], ...]
    is_kept: bool  # Whether the engine's connection was good for another request,
    is_open: bool  # and the client's.
    parsed: int = field(compare=False)  # Reads that the parser had.


def lived(asked: bytes, steps: Sequence[Step], end: str, *, forms: Callable[[], Forms] = Forms) -> Seen:
    """One stream, from its request to its end."""
    return asyncio.run(_lived(asked, steps, end, forms()))


async def _lived(asked: bytes, steps: Sequence[Step], end: str, forms: Forms) -> Seen:
    journal = Noted()
    gateway, client = a_plane(journal)
    gateway.clock = clock = ManualClock()
    gateway.now_s = lambda: clock.now_ms() / 1000
    near, far = Slow(), Far()
    bench = Bench(gateway, client, near, far)
    near.client = client
    for target in gateway.table.targets():
        target.forms = forms
    parser = Counting(bench.engine._parser)
    bench.engine._parser = parser  # type: ignore[assignment]
    bench.ask(asked)
    out = b""
    for step in (Step(STREAM), *steps):
        if far.is_paused:
            near.take(1_000_000)
        if far.closed or bench.engine.is_closing:
            break
        bench.engine.data_received(step.read)
        near.take(step.taken)
        clock.advance(step.later_ms)
        client.sweep(gateway.now_s())
        out += near.taken()
    _end(end, bench, near)
    client.sweep(gateway.now_s())
    out += near.taken()
    kept = gateway.pool._idle.get(bench.engine.address, ())
    sizes_alike = SIZES.sub(lambda found: b"%x" % int(found[0], 16), out)
    return Seen(sizes_alike, tuple(journal.told), bench.engine in kept, client.is_open, len(parser.given))


def _end(end: str, bench: Bench, near: Slow) -> None:
    if end == "reset":
        bench.client.connection_lost(ConnectionResetError())
        return
    near.take(1_000_000)
    if end == "left":
        bench.client.eof_received()
        bench.client.connection_lost(None)
    elif not bench.engine.is_closing:
        bench.engine.connection_lost(None)
        near.take(1_000_000)
