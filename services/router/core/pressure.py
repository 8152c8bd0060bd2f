"""How much a turn of the event loop takes on when more comes than this process can serve.

A turn is one round of the event loop. What comes while it is young is served as it comes. What comes later waits,
unread, behind those who wait already. They are served in the turns that follow, oldest first, in each as many as fit
into `TURN_S`: so a burst costs nobody an error, and what engines say meanwhile is not kept waiting either. Who would
wait for longer than `WAIT_S` does not wait at all and is sent away at once. More than `REFUSED_MOST` are not sent away
in one turn: whoever asks again before it is time is slowed down, and not all time goes into refusals. Pure; told the
time.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, TypeVar

TURN_S: Final = 0.006  # Requests are taken on for so long in a turn; their answers take as long, in a later one.
TURN_LEAST: Final = 64  # Requests of a turn that are always served: a process that lost its core goes on working.
REFUSED_MOST: Final = 512  # That takes about as long.
WAIT_S: Final = 1.0  # The longest that anybody is let wait for this process, at the pace of the last while.
PACE_S: Final = 0.1  # That is: of the last such time in which somebody always waited.
ROOM_FIRST: Final = 4096  # How many may wait before a pace is known; it would be more.
ROOM_LEAST: Final = 256  # At any pace: one that stood still says little of the next moment.
ROOM_MAX: Final = 10_000

Who = TypeVar("Who")


class Pressure(Generic[Who]):
    """Who waits, and who leaves. Called from the event loop alone."""

    __slots__ = (
        "_leaving", "_left", "_pace_since_s", "_refused", "_taken", "_turn_s", "_waiting", "is_crowded", "room",
    )  # fmt: skip

    def __init__(self) -> None:
        self._waiting: deque[Who] = deque()
        self._leaving: deque[Who] = deque()
        self.is_crowded = False  # Whether who comes now is not served now.
        self.room = ROOM_FIRST  # How many may wait.
        self._turn_s = 0.0  # Since when this turn takes on what comes, or those who wait,
        self._left = 0  # and how many of those it serves at least.
        self._refused = 0  # How many were sent away in it.
        self._pace_since_s: float | None = None  # Since when somebody always waited,
        self._taken = 0  # and how many were served since.

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits, for one or the other."""
        return not self._waiting and not self._leaving

    def began(self, now_s: float) -> int:
        """A turn's first request is read; how many of its requests are served however long it takes."""
        self._turn_s = now_s
        return TURN_LEAST

    def admits(self, now_s: float) -> bool:
        """Whether one more than those is served in this turn; if not, `put` it, and whoever comes after it."""
        self.is_crowded = now_s - self._turn_s >= TURN_S
        return not self.is_crowded

    def refuses(self, *, has_room: bool = True) -> bool:
        """Whether one that is not admitted is sent away at once; if not, `put` it."""
        if (has_room and len(self._waiting) < self.room) or self._leaving or self._refused >= REFUSED_MOST:
            return False
        self._refused += 1
        return True

    def put(self, who: Who, *, has_room: bool = True) -> None:
        """Let it wait for its turn, or be sent away in one of the next."""
        (self._waiting if has_room and len(self._waiting) < self.room else self._leaving).append(who)

    def serves(self, now_s: float) -> None:
        """All that came with this turn is read: those who wait are next."""
        self._turn_s, self._left = now_s, TURN_LEAST

    def next_served(self, now_s: float) -> Who | None:
        """Who is served now; None if that is all for this turn."""
        if not self._waiting or (self._left <= 0 and now_s - self._turn_s >= TURN_S):
            return None
        self._left -= 1
        self._taken += 1
        return self._waiting.popleft()

    def next_refused(self) -> Who | None:
        """Who is sent away now; None if that is all for this turn."""
        if not self._leaving or self._refused >= REFUSED_MOST:
            return None
        self._refused += 1
        return self._leaving.popleft()

    def ended(self, now_s: float) -> bool:
        """The turn is over. Returns whether somebody is left for the next one."""
        self.is_crowded, self._refused = bool(self._waiting), 0
        if not self.is_crowded:
            self._pace_since_s = None
        elif self._pace_since_s is None:
            self._pace_since_s, self._taken = now_s, 0
        elif now_s - self._pace_since_s >= PACE_S:
            per_s = self._taken / (now_s - self._pace_since_s)
            self.room = min(max(ROOM_LEAST, int(per_s * WAIT_S)), ROOM_MAX)
            self._pace_since_s, self._taken = now_s, 0
        return not self.is_empty
