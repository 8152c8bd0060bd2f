"""Who is served in this turn of the event loop, who waits for the next, who is sent away in bytes that are ready."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from libs.common.units import MIB
from services.router.core import http_rules, refusals
from services.router.core.pressure import TURN_LEAST, Pressure
from services.router.shell import metrics

log = logging.getLogger(__name__)

RETRY_AFTER_S: Final = (1, 2, 3, 4)  # In turns, so that those who were refused together do not come back together.
MANY: Final = 8  # Requests that are served in one turn: half a millisecond, and their answers.
HELD_BYTES_MAX: Final = 64 * MIB  # What all who wait may have sent, unread.
_NUMBER: Final = "\0"  # Where the number in a request's id is put.


class Caller(Protocol):
    """A connection whose request waits; what came of it is `unread`."""

    unread: bytes

    def take_turn(self, *, is_served: bool) -> None:
        """Be served, or sent away."""

    def abort(self) -> None:
        """Give the connection up."""


class Arrivals:
    """Requests as they come to this process; sending one away takes no more than it must (decision 21)."""

    __slots__ = (
        "_answers", "_held_bytes", "_is_due", "_is_in_turn", "_loop", "_numbers", "_pressure", "_refusals", "_shed",
        "_surely", "let_in",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, ids: str, numbers: Iterator[int]) -> None:
        self._loop = loop
        self._numbers = numbers  # With ``ids`` before each, in hexadecimal, they are the ids of requests.
        self._pressure: Pressure[Caller] = Pressure()
        self._surely = 0  # Requests of this turn that are served without looking at the clock.
        self._is_in_turn = False  # Whether a request of this turn was read.
        self._is_due = False  # Whether `turn` will be called.
        self._held_bytes = 0
        self._shed = 0  # Sent away and not yet counted.
        self.let_in: Callable[[], None] = lambda: None  # New connections, in turns that are long.
        self._refusals = [refusals.busy(each) for each in RETRY_AFTER_S]
        self._answers = [_ready(each, ids) for each in self._refusals]

    def admits(self) -> bool:
        """Whether the request that begins now is served now."""
        if self._pressure.is_crowded:
            return False
        if not self._is_in_turn:
            self._is_in_turn = True
            self._surely = self._pressure.began(time.monotonic())
            self._see_to_it()
        if self._surely:
            self._surely -= 1
            return True
        return self._pressure.admits(time.monotonic())

    def refuses(self) -> bool:
        """Whether one that is not admitted is sent away now; if not, it is to `wait`."""
        return self._pressure.refuses(has_room=self._held_bytes <= HELD_BYTES_MAX)

    def wait(self, caller: Caller) -> None:
        """Have it take its turn; until then it tells of what else came."""
        self._held_bytes += len(caller.unread)
        self._pressure.put(caller, has_room=self._held_bytes <= HELD_BYTES_MAX)
        self._see_to_it()

    def grew(self, size_bytes: int) -> None:
        """More came of one who waits."""
        self._held_bytes += size_bytes

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits."""
        return self._pressure.is_empty

    def turn(self) -> None:
        """All that had come is read or waits; called before the loop looks again for what has come."""
        self._is_in_turn = self._is_due = False
        pressure, clock = self._pressure, time.monotonic
        pressure.serves(clock())
        while (caller := pressure.next_served(clock())) is not None:
            self._take_turn(caller, is_served=True)
        while (caller := pressure.next_refused()) is not None:
            self._take_turn(caller, is_served=False)
        if pressure.ended(clock()):
            self._see_to_it()
        if self._surely <= TURN_LEAST - MANY:
            self.let_in()
        if self._shed:
            metrics.note_shed(self._refusals[0], self._shed)
            self._shed = 0

    def refusal(self) -> refusals.HttpRefusal:
        """Why one is sent away, for one that was read already."""
        metrics.SHED_BUSY.inc()
        return self._refusals[0]

    def answer(self) -> bytes:
        """The same, said at once."""
        self._see_to_it()  # That it is counted.
        self._shed += 1
        number = next(self._numbers)
        before, after = self._answers[number % len(RETRY_AFTER_S)]
        return b"%b%x%b" % (before, number, after)

    def _see_to_it(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self.turn)

    def _take_turn(self, caller: Caller, *, is_served: bool) -> None:
        self._held_bytes -= len(caller.unread)
        try:
            caller.take_turn(is_served=is_served)
        except Exception:  # As the loop does with what a transport calls: those behind it are to have their turns.
            log.exception("a connection failed")
            caller.abort()


def _ready(refusal: refusals.HttpRefusal, ids: str) -> tuple[bytes, bytes]:
    """The answer's bytes before the number of its request and after it."""
    answer = http_rules.answer(
        503, refusal.body(), request_id=ids + _NUMBER, keep_alive=True, retry_after_s=refusal.retry_after_s
    )
    before, _, after = answer.partition(_NUMBER.encode())
    return before, after
