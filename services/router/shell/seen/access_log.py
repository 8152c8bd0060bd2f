"""A line for every request, without a word of what was said: made as bytes, written in lots, off the event loop."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import Final

import msgspec

from libs.common.units import SECOND_MS
from services.router.core.serving import Row
from services.router.shell import metrics

OFF: Final = ""
STDERR: Final = "-"
STDERR_FD: Final = 2
PERIOD_S: Final = 0.25
WAITING_MAX: Final = 20_000  # Lines; a disk that stands still loses lines, which are counted, and never a request.
WHOSE_MAX: Final = 4096  # Keys at replicas whose part of a line is kept.
LOT: Final = 64  # Plain lines that are written in a row, as measures are added up (core/measures.py).
REFUSED_MAX: Final = 25  # Lines about refusals a period: 100 a second; a flood of bad keys is counted, not written.


class Line(msgspec.Struct, omit_defaults=True):
    """One request. Ids, counts and times; what is unknown is left out."""

    time: str
    message: str
    request_id: str
    level: str = "info"
    service: str = "router"
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


class Whose(msgspec.Struct, frozen=True):
    """What many lines have in common."""

    api: str
    tenant_id: str
    project_id: str
    endpoint_id: str
    key_id: str
    replica: str


class AccessLog:
    """Collects lines and writes them."""

    def __init__(self, path: str = OFF) -> None:
        self.is_on = path != OFF
        self._path = path
        self._encoder = msgspec.json.Encoder()
        self._lines: list[bytes] = []
        self._plain: list[tuple[Row, str, int | None, int, int]] = []  # Not written yet.
        self._refused = 0
        self._second, self._prefix = 0, ""
        self._whose: dict[tuple[str, str, str, str], str] = {}

    def moment(self, now_ms: int) -> str:
        """A time as logs have it; of a second most is the same."""
        second, ms = now_ms // SECOND_MS, now_ms % SECOND_MS
        if second != self._second:
            self._second, self._prefix = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._prefix}.{ms:03}+00:00"

    def served(self, line: Line) -> None:
        """A request that reached an endpoint is over."""
        if not self.is_on:
            return
        self._write_plain()  # In the order in which they ended.
        if len(self._lines) >= WAITING_MAX:
            metrics.LINES_LOST.inc()
            return
        self._lines.append(self._encoder.encode(line))

    def plain(self, row: Row, *, replica: str, cached: int | None, queue_ms: int, now_ms: int) -> None:
        """One that was served and of which nothing else is to be said: written with others like it."""
        self._plain.append((row, replica, cached, queue_ms, now_ms))
        if len(self._plain) >= LOT:
            self._write_plain()

    def _write_plain(self) -> None:
        """The same lines as `served` writes, of text that is ready."""
        plain, self._plain = self._plain, []
        if len(self._lines) >= WAITING_MAX:
            metrics.LINES_LOST.inc(len(plain))
            return
        for row, replica, cached, queue_ms, now_ms in plain:
            common = self._whose.get((row.key_id, row.endpoint_id, replica, row.api)) or self._common(row, replica)
            prompt = "" if row.prompt_tokens is None else f'"prompt_tokens":{row.prompt_tokens},'
            in_cache = "" if cached is None else f'"cached_tokens":{cached},'
            first = "" if row.first_token_ms is None else f'"first_token_ms":{row.first_token_ms - row.started_ms},'
            line = (
                f'{{"time":"{self.moment(now_ms)}","message":"served","request_id":"{row.request_id}","status":200,'
                f'{common},"finish":"{row.finish}",{prompt}{in_cache}"completion_tokens":{row.completion_tokens},'
                f'"queue_ms":{queue_ms},{first}"duration_ms":{now_ms - row.started_ms}}}'
            )
            self._lines.append(line.encode())

    def _common(self, row: Row, replica: str) -> str:
        if len(self._whose) >= WHOSE_MAX:
            self._whose.clear()
        whose = Whose(row.api, row.tenant_id, row.project_id, row.endpoint_id, row.key_id, replica)
        text = self._encoder.encode(whose)[1:-1].decode()
        self._whose[row.key_id, row.endpoint_id, replica, row.api] = text
        return text

    def unbilled(self, line: Line) -> None:
        """One that did not; of these only so many a second are written."""
        if self._refused >= REFUSED_MAX:
            metrics.LINES_LOST.inc()
            return
        self._refused += 1
        self.served(line)

    async def run(self) -> None:
        """Write until cancelled, and what is left then."""
        if not self.is_on:
            return
        fd = STDERR_FD if self._path == STDERR else os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                if self._lines or self._plain:
                    await asyncio.to_thread(_write, fd, self._taken())
                self._refused = 0
        finally:
            _write(fd, self._taken())
            if fd != STDERR_FD:
                os.close(fd)

    def _taken(self) -> bytes:
        self._write_plain()
        lines, self._lines = self._lines, []
        return b"".join(line + b"\n" for line in lines)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
