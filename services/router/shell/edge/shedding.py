"""Sending away what this process has no time for: known before a request is read, said in bytes that are ready."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from services.router.core import http_rules, refusals
from services.router.core.pressure import Pressure
from services.router.shell import metrics

RETRY_AFTER_S: Final = (1, 2, 3, 4)  # In turns, so that those who were refused together do not come back together.
_ID: Final = "\0"  # Where the request's id is put.


class Shedding:
    """Whether a request is served, and the answer if it is not."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._turn_s = 0.0  # When the turn's first request was read; 0 between turns.
        self._pressure = Pressure()
        self._count = 0
        self._refusals = [refusals.busy(each) for each in RETRY_AFTER_S]
        self._answers = [
            http_rules.answer(503, each.body(), request_id=_ID, keep_alive=True, retry_after_s=each.retry_after_s)
            for each in self._refusals
        ]

    def admits(self) -> bool:
        """Whether the request that begins now is served."""
        if self._turn_s and not self._pressure.is_over:
            return True  # Only a turn that begins finds out otherwise.
        now_s = time.monotonic()
        if not self._turn_s:
            self._turn_s = now_s
            self._loop.call_soon(self._turn_ended)
        return self._pressure.admits(turn_s=self._turn_s, now_s=now_s)

    def refusal(self) -> refusals.HttpRefusal:
        """Why it is not, for one that was read already."""
        metrics.SHED_BUSY.inc()
        return self._refusals[0]

    def answer(self, request_id: str) -> bytes:
        """The same, said at once."""
        number = self._next()
        metrics.note_refusal(self._refusals[number])
        return self._answers[number].replace(_ID.encode(), request_id.encode(), 1)

    def _turn_ended(self) -> None:
        """What is called soon is called before the loop looks again for what has come."""
        self._turn_s = 0.0
        self._pressure.ended(time.monotonic())

    def _next(self) -> int:
        metrics.SHED_BUSY.inc()
        self._count = (self._count + 1) % len(RETRY_AFTER_S)
        return self._count
