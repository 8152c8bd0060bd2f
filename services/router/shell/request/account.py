"""What is told of one request, wherever it is told: its ids, its receipt, its line, its span."""

from __future__ import annotations

from typing import Final

from libs.common.clock import Clock
from services.router.core.refusals import HttpRefusal
from services.router.core.serving import Row
from services.router.core.traces import OPERATIONS, PROVIDER, Span, Trace
from services.router.shell import metrics
from services.router.shell.seen.access_log import AccessLog, Line
from services.router.shell.seen.spans import Tracer

OK: Final = 200
CLIENT_LEFT: Final = 499  # nginx's word for who left before an answer began.


class Books:
    """Where requests are told of: metrics, access log, traces."""

    def __init__(self, clock: Clock, *, log: AccessLog | None = None, tracer: Tracer | None = None) -> None:
        self.clock = clock
        self.log = log or AccessLog()
        self.tracer = tracer or Tracer()


class Account:
    """One request. `request_id` is ours, and that of the bill; `shown_id` is what its client calls it."""

    __slots__ = (
        "_books", "_cached_tokens", "_code", "_queue_ms", "_replica", "_row", "_status", "began_s",
        "media", "request_id", "shown_id", "started_ms", "trace",
    )  # fmt: skip

    def __init__(
        self,
        books: Books,
        started_ms: int,
        began_s: float,
        request_id: str,
        client_id: str = "",
        traceparent: str = "",
    ) -> None:
        self._books = books
        self.began_s = began_s  # As `started_ms`, by the loop's clock.
        self.started_ms = started_ms
        self._queue_ms = 0  # How long it waited until an engine was asked.
        self.request_id = request_id
        self.shown_id = client_id or request_id
        tracer = books.tracer
        self.trace: Trace | None = tracer.begin(traceparent) if traceparent or tracer.is_on else None
        self._replica = ""
        self._cached_tokens: int | None = None
        self.media = b""  # What its answer is, where that is not the usual.
        self._status, self._code = CLIENT_LEFT, ""
        self._row: Row | None = None

    def asked(self, replica: str, now_s: float) -> None:
        """An engine is being asked; of two tries the last one counts."""
        self._queue_ms = int((now_s - self.began_s) * 1000)
        self._replica = replica

    @property
    def is_billed(self) -> bool:
        """Whether its bill is written."""
        return self._row is not None

    def answered(self, place: bytes, cached_tokens: int | None) -> bytes:
        """Its answer begins: the receipt, a header that says how it is served, as a dictionary of RFC 9651.

        ``place`` is what it says of the endpoint (`Target.place`); ``cached_tokens``, where the engine has said it, is
        how much of the prompt was in its cache.
        """
        metrics.COUNTS.answered[2] += 1
        self._status = 200
        cached = b"" if cached_tokens is None else b", cached_tokens=%d" % cached_tokens
        return b'millrace-receipt: id="%s"%s, queue_ms=%d%s\r\n' % (
            self.request_id.encode(), place, self._queue_ms, cached,
        )  # fmt: skip

    def refused(self, refusal: HttpRefusal) -> str:
        """It ends with this refusal, if its answer has not begun; returns the id to say it under."""
        self._code = refusal.error_code or ""
        if self._status == CLIENT_LEFT:
            self._status = refusal.status
        return self.shown_id

    def billed(self, row: Row, cached_tokens: int | None) -> None:
        """Its bill is written."""
        self._row, self._cached_tokens = row, cached_tokens
        metrics.MEASURES.note(row, queue_ms=self._queue_ms, cached_tokens=cached_tokens or 0)

    def looked_up(self) -> None:
        """It was answered without an engine."""
        metrics.COUNTS.answered[2] += 1
        self._status = 200
        self.over()

    def over(self, now_ms: int | None = None) -> None:
        """It has ended."""
        books = self._books
        if not books.log.is_on and self.trace is None:
            return
        if now_ms is None:
            now_ms = books.clock.now_ms()
        if books.log.is_on:
            row, is_plain = self._row, self.shown_id == self.request_id and self.trace is None and not self._code
            if row is not None and is_plain and self._status == OK:
                cached, queue_ms = self._cached_tokens, self._queue_ms
                books.log.plain(row, replica=self._replica, cached=cached, queue_ms=queue_ms, now_ms=now_ms)
            else:
                self._write(row, now_ms)
        if self.trace is not None and self.trace.is_sampled and self._row is not None:
            books.tracer.note(self._span(self.trace, self._row, now_ms))

    def _write(self, row: Row | None, now_ms: int) -> None:
        line = Line(
            self._books.log.moment(now_ms),
            "refused" if row is None and self._status >= 400 else "served",
            self.request_id,
        )
        if self.shown_id != self.request_id:
            line.client_request_id = self.shown_id
        if self.trace is not None:
            line.trace_id = self.trace.trace
        line.status, line.code, line.duration_ms = self._status, self._code, now_ms - self.started_ms
        if row is None:
            self._books.log.unbilled(line)
            return
        line.api, line.finish = row.api, row.finish
        line.tenant_id, line.project_id = row.tenant_id, row.project_id
        line.endpoint_id, line.key_id, line.replica = row.endpoint_id, row.key_id, self._replica
        line.prompt_tokens, line.completion_tokens = row.prompt_tokens, row.completion_tokens
        line.cached_tokens, line.queue_ms = self._cached_tokens, self._queue_ms
        if row.first_token_ms is not None:
            line.first_token_ms = row.first_token_ms - row.started_ms
        self._books.log.served(line)

    def _span(self, trace: Trace, row: Row, now_ms: int) -> Span:
        operation = OPERATIONS.get(row.api, row.api)
        return Span(
            trace=trace,
            name=f"{operation} {row.model}",
            start_ms=self.started_ms,
            end_ms=now_ms,
            error=self._code,
            first_token_ms=row.first_token_ms,
            attributes={
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": PROVIDER,
                "gen_ai.request.model": row.model,
                "gen_ai.usage.input_tokens": row.prompt_tokens,
                "gen_ai.usage.output_tokens": row.completion_tokens,
                "gen_ai.usage.cache_read.input_tokens": self._cached_tokens,
                "gen_ai.response.finish_reasons": (row.finish,),
                "http.response.status_code": self._status,
                "error.type": self._code,
                "millrace.request_id": self.request_id,
                "millrace.endpoint_id": row.endpoint_id,
                "millrace.tenant_id": row.tenant_id,
                "millrace.replica": self._replica,
                "millrace.queue_ms": self._queue_ms,
            },
        )
