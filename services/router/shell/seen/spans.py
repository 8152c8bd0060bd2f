"""Traces into the world: which requests are recorded, and their spans on their way to a collector over OTLP/HTTP.

Written by hand in JSON, as OpenTelemetry's SDK would cost a thread, a queue and 30 us a request; see decision 10.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import random
from collections import deque
from typing import Final
from urllib.parse import urlsplit

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
        while True:
            await asyncio.sleep(PERIOD_S)
            while self._waiting:
                await self._export(instance)

    async def _export(self, instance: str) -> None:
        batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
        body = json.dumps(otlp(batch, service="router", instance=instance)).encode()
        try:
            await asyncio.to_thread(_post, f"{self._url}/v1/traces", body)
        except (OSError, http.client.HTTPException) as wrong:
            metrics.SPANS_LOST.inc(len(batch))
            log.warning("spans were not taken", extra=fields(count=len(batch), reason=type(wrong).__name__))

    def _id(self, bits: int) -> str:
        return f"{self._chance.getrandbits(bits) or 1:0{bits // 4}x}"


def _post(url: str, body: bytes) -> None:
    """Have it taken. Raises OSError or HTTPException if it is not. No `httpx`: it takes 5 MiB of every router."""
    to = urlsplit(url)
    kind = http.client.HTTPSConnection if to.scheme == "https" else http.client.HTTPConnection
    connection = kind(to.hostname or "", to.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", to.path, body, {"content-type": "application/json", "connection": "close"})
        status = connection.getresponse().status
        if status // 100 != 2:
            raise http.client.HTTPException(f"answered {status}")
    finally:
        connection.close()
