"""Traces into the world: which requests are recorded, and their spans on their way to a collector over OTLP/HTTP.

Written by hand in JSON, as OpenTelemetry's SDK would cost a thread, a queue and 30 us a request; see decision 10.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from typing import Final

import httpx

from libs.common.telemetry.logging import fields
from services.router.core.traces import Span, Trace, begun, joined, otlp
from services.router.shell import metrics

log = logging.getLogger(__name__)

WAITING_MAX: Final = 4096  # Spans; beyond, the oldest are dropped and counted: a request never waits for a collector.
BATCH_MAX: Final = 512
PERIOD_S: Final = 1.0
TIMEOUT_S: Final = 5.0


class Tracer:
    """Says of each request whether it is traced. Costs nothing where nobody asked for it."""

    def __init__(self, *, url: str = "", ratio: float = 0.0) -> None:
        self._url = url
        self.is_on = bool(url)  # Else only who says that it is traced itself is.
        self._ratio = ratio if url else 0.0
        self._chance = random.Random()  # noqa: S311 - ids of traces are no secrets.
        self._waiting: deque[Span] = deque(maxlen=WAITING_MAX)

    def begin(self, traceparent: str) -> Trace | None:
        """The request's place in a trace: the caller's, or, for so many of the rest, one of its own."""
        if traceparent:
            found = joined(traceparent, span=self._id(64))
            if found is not None:
                return found
        if self._ratio and self._chance.random() < self._ratio:
            return begun(trace=self._id(128), span=self._id(64))
        return None

    def note(self, span: Span) -> None:
        """A request is over."""
        if self._url and span.trace.is_sampled:
            if len(self._waiting) == WAITING_MAX:
                metrics.SPANS_LOST.inc()
            self._waiting.append(span)

    async def run(self, instance: str) -> None:
        """Export until cancelled; returns at once if there is nowhere to export to."""
        if not self._url:
            return
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as web:
            while True:
                await asyncio.sleep(PERIOD_S)
                while self._waiting:
                    await self._export(web, instance)

    async def _export(self, web: httpx.AsyncClient, instance: str) -> None:
        batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
        try:
            answer = await web.post(f"{self._url}/v1/traces", json=otlp(batch, service="router", instance=instance))
            answer.raise_for_status()
        except httpx.HTTPError as wrong:
            metrics.SPANS_LOST.inc(len(batch))
            log.warning("spans were not taken", extra=fields(count=len(batch), reason=type(wrong).__name__))

    def _id(self, bits: int) -> str:
        return f"{self._chance.getrandbits(bits) or 1:0{bits // 4}x}"
