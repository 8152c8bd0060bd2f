"""A line for every request, without a word of what was said: made as bytes, written in lots, off the event loop."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Protocol

import msgspec

from libs.common.units import SECOND_MS
from services.router.shell import metrics

OFF: Final = ""
STDERR: Final = "-"
STDERR_FD: Final = 2
PERIOD_S: Final = 0.25
WAITING_MAX: Final = 20_000  # Lines; a disk that stands still loses lines, which are counted, and never a request.
LOT: Final = 64  # Lines that are made in a row, as measures are added up (core/measures.py).
REFUSED_MAX: Final = 25  # Lines about refusals a period: 100 a second; a flood of bad keys is counted, not written.


class Line(msgspec.Struct, omit_defaults=True):
    """One request. Ids, counts and times; what is unknown is left out."""

    time: str
    message: str
    request_id: str
    client_request_id: str = ""
    trace_id: str = ""
    status: int = 0
    code: str = ""
    api: str = ""
    tenant_id: str = ""
    project_id: str = ""
    endpoint_id: str = ""
    key_id: str = ""
    replica: str = ""
    finish: str = ""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    queue_ms: int | None = None
    first_token_ms: int | None = None
    duration_ms: int | None = None


class Ended(Protocol):
    """A request that is over."""

    def line(self) -> Line:
        """What is written of it."""


class AccessLog:
    """Collects lines and writes them."""

    def __init__(self, path: str = OFF) -> None:
        self.is_on = path != OFF
        self._path = path
        self._encoder = msgspec.json.Encoder()
        self._ended: list[Ended] = []  # Of whom no line is made yet.
        self._lines: list[bytes] = []  # Lots of them,
        self._waiting = 0  # and how many lines that are.
        self._refused = 0

    def note(self, ended: Ended) -> None:
        """A request that reached an endpoint is over."""
        lot = self._ended
        lot.append(ended)
        if len(lot) >= LOT:
            self._make_lines()

    def unbilled(self, ended: Ended) -> None:
        """One that did not; of these only so many a second are written."""
        if self._refused >= REFUSED_MAX:
            metrics.LINES_LOST.inc()
            return
        self._refused += 1
        self.note(ended)

    def _make_lines(self) -> None:
        ended, self._ended = self._ended, []
        if self._waiting >= WAITING_MAX:
            metrics.LINES_LOST.inc(len(ended))
            return
        self._waiting += len(ended)
        self._lines.append(self._encoder.encode_lines([each.line() for each in ended]))

    async def run(self) -> None:
        """Write until cancelled, and what is left then."""
        if not self.is_on:
            return
        fd = STDERR_FD if self._path == STDERR else os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                if self._lines or self._ended:
                    await asyncio.to_thread(_write, fd, self._taken())
                self._refused = 0
        finally:
            _write(fd, self._taken())
            if fd != STDERR_FD:
                os.close(fd)

    def _taken(self) -> bytes:
        self._make_lines()
        lines, self._lines, self._waiting = self._lines, [], 0
        return b"".join(lines)


def moment(at_ms: int) -> str:
    """A time as logs have it; of a second most is the same."""
    return "%s.%03d+00:00" % (_second(at_ms // SECOND_MS), at_ms % SECOND_MS)  # noqa: UP031 - half the time of an f-string.


@lru_cache(maxsize=4)
def _second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
