"""What is told of one request, wherever it is told: its ids, its receipt, its line, its span."""

from __future__ import annotations

from typing import Final

import msgspec

from libs.common.clock import Clock
from services.router.core.refusals import HttpRefusal
from services.router.core.serving import Row
from services.router.core.traces import OPERATIONS, PROVIDER, Span, Trace
from services.router.shell import metrics
from services.router.shell.seen.access_log import AccessLog, Line, moment
from services.router.shell.seen.spans import Tracer

OK: Final = 200
CLIENT_LEFT: Final = 499  # nginx's word for who left before an answer began.


class Books:
    """Where requests are told of: metrics, access log, traces."""

    def __init__(self, clock: Clock, *, log: AccessLog | None = None, tracer: Tracer | None = None) -> None:
        self.clock = clock
        self.log = log or AccessLog()
        self.tracer = tracer or Tracer()


class Account(msgspec.Struct, eq=False):
    """One request. `request_id` is ours, and that of the bill; `shown_id` is what its client calls it."""

    books: Books
    started_ms: int
    began_s: float  # The same by the loop's clock.
    request_id: str
    shown_id: str
    trace: Trace | None
    queue_ms: int = 0  # How long it waited until an engine was asked; of two tries the last one counts.
    replica: str = ""
    media: bytes = b""  # What its answer is, where that is not the usual.
    status: int = CLIENT_LEFT  # Until it is known.
    code: str = ""
    row: Row | None = None  # Its bill, when that is written.
    ended_ms: int = 0

    def answered(self, place: bytes, cached_tokens: int | None) -> bytes:
        """Its answer begins: the receipt, a header that says how it is served, as a dictionary of RFC 9651.

        ``place`` is what it says of the endpoint (`Target.place`); ``cached_tokens``, where the engine has said it, is
        how much of the prompt was in its cache.
        """
        metrics.COUNTS.answered[2] += 1
        self.status = 200
        cached = b"" if cached_tokens is None else b", cached_tokens=%d" % cached_tokens
        return b'millrace-receipt: id="%s"%s, queue_ms=%d%s\r\n' % (
            self.request_id.encode(), place, self.queue_ms, cached,
        )  # fmt: skip

    def refused(self, refusal: HttpRefusal) -> str:
        """It ends with this refusal, if its answer has not begun; returns the id to say it under."""
        self.code = refusal.error_code or ""
        if self.status == CLIENT_LEFT:
            self.status = refusal.status
        return self.shown_id

    def looked_up(self) -> None:
        """It was answered without an engine."""
        metrics.COUNTS.answered[2] += 1
        self.status = 200
        self.over()

    def over(self, now_ms: int | None = None) -> None:
        """It has ended."""
        books, row = self.books, self.row
        self.ended_ms = books.clock.now_ms() if now_ms is None else now_ms
        if row is None:
            if books.log.is_on:
                books.log.unbilled(self)
            return
        metrics.MEASURES.note(row, self.queue_ms)
        if self.trace is not None and self.trace.is_sampled:
            books.tracer.note(self._span(self.trace, row))
        if books.log.is_on:
            books.log.note(self)

    def line(self) -> Line:
        """What the access log says of it."""
        row, time, status, code = self.row, moment(self.ended_ms), self.status, self.code
        client_id = "" if self.shown_id == self.request_id else self.shown_id
        trace_id = "" if self.trace is None else self.trace.trace
        duration_ms = self.ended_ms - self.started_ms
        if row is None:
            word = "refused" if status >= 400 else "served"
            return Line(time, word, self.request_id, client_id, trace_id, status, code, duration_ms=duration_ms)
        first_token_ms = None if row.first_token_ms is None else row.first_token_ms - row.started_ms
        return Line(
            time, "served", self.request_id, client_id, trace_id, status, code, row.api, row.tenant_id, row.project_id,
            row.endpoint_id, row.key_id, self.replica, row.finish, row.prompt_tokens, row.cached_prompt_tokens,
            row.completion_tokens, self.queue_ms, first_token_ms, duration_ms,
        )  # fmt: skip

    def _span(self, trace: Trace, row: Row) -> Span:
        operation = OPERATIONS.get(row.api, row.api)
        return Span(
            trace=trace,
            name=f"{operation} {row.model}",
            start_ms=self.started_ms,
            end_ms=self.ended_ms,
            error=self.code,
            first_token_ms=row.first_token_ms,
            attributes={
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": PROVIDER,
                "gen_ai.request.model": row.model,
                "gen_ai.usage.input_tokens": row.prompt_tokens,
                "gen_ai.usage.output_tokens": row.completion_tokens,
                "gen_ai.usage.cache_read.input_tokens": row.cached_prompt_tokens,
                "gen_ai.response.finish_reasons": (row.finish,),
                "http.response.status_code": self.status,
                "error.type": self.code,
                "millrace.request_id": self.request_id,
                "millrace.endpoint_id": row.endpoint_id,
                "millrace.tenant_id": row.tenant_id,
                "millrace.replica": self.replica,
                "millrace.queue_ms": self.queue_ms,
            },
        )
