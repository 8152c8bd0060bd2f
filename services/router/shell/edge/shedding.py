"""Sending away what this process has no time for: known before a request is read, said in bytes that are ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final

from services.router.core import http_rules, refusals
from services.router.core.pressure import Pressure
from services.router.shell import metrics

RETRY_AFTER_S: Final = (1, 2, 3, 4)  # In turns, so that those who were refused together do not come back together.
_NUMBER: Final = "\0"  # Where the number in a request's id is put.


class Shedding:
    """Whether a request is served, and the answer if it is not; that takes no more than it must (decision 21)."""

    __slots__ = ("_answers", "_loop", "_numbers", "_pressure", "_refusals", "_shed", "_surely", "_turn_s", "is_shut")

    def __init__(self, loop: asyncio.AbstractEventLoop, ids: str, numbers: Iterator[int]) -> None:
        self._loop = loop
        self._numbers = numbers  # With ``ids`` before each, in hexadecimal, they are the ids of requests.
        self._pressure = Pressure()
        self._surely = 0  # Requests of this turn that are served without looking at the clock.
        self._shed = 0  # Sent away in this turn.
        self._turn_s = 0.0  # When its first request was read; 0 between turns.
        self.is_shut = False  # Whether what else comes in this turn is sent away.
        self._refusals = [refusals.busy(each) for each in RETRY_AFTER_S]
        self._answers = [_ready(each, ids) for each in self._refusals]

    def admits(self) -> bool:
        """Whether the request that begins now is served."""
        if not self._turn_s:
            self._begin()
        if self._surely:
            self._surely -= 1
            return True
        if not self.is_shut:
            self.is_shut = not self._pressure.admits(time.monotonic())
        return not self.is_shut

    def refusal(self) -> refusals.HttpRefusal:
        """Why it is not, for one that was read already."""
        metrics.SHED_BUSY.inc()
        return self._refusals[0]

    def answer(self) -> bytes:
        """The same, said at once."""
        if not self._turn_s:
            self._begin()  # What was to be sent away came in an earlier turn, and its end in this one.
        self._shed += 1
        number = next(self._numbers)
        before, after = self._answers[number % len(RETRY_AFTER_S)]
        return b"%b%x%b" % (before, number, after)

    def _begin(self) -> None:
        self._turn_s = time.monotonic()
        self._surely = self._pressure.began(self._turn_s)
        self._loop.call_soon(self._turn_ended)

    def _turn_ended(self) -> None:
        """What is called soon is called before the loop looks again for what has come."""
        self._pressure.ended(time.monotonic())
        self._turn_s, self.is_shut = 0.0, False
        if self._shed:
            metrics.note_shed(self._refusals[0], self._shed)
            self._shed = 0


def _ready(refusal: refusals.HttpRefusal, ids: str) -> tuple[bytes, bytes]:
    """The answer's bytes before the number of its request and after it."""
    answer = http_rules.answer(
        503, refusal.body(), request_id=ids + _NUMBER, keep_alive=True, retry_after_s=refusal.retry_after_s
    )
    before, _, after = answer.partition(_NUMBER.encode())
    return before, after
