"""When this process itself is what is overloaded: how many requests of a turn are served, and which are sent away.

A turn is one round of the event loop: whatever had come when it began, waited for the one before. While turns are
short nothing is refused, and a burst that takes one long turn is none of our business. When no turn has been short for
`STANDING_S`, requests come faster than they can be served, and a queue that stands helps nobody (that is CoDel's
thought): then each turn serves as many as fit into `TURN_S` and refuses the rest at once. A refusal costs a fifteenth
of a request, so what can be served is served, and nobody waits for longer than two turns. Pure; told the time.
"""

from __future__ import annotations

from typing import Final

SHORT_S: Final = 0.005  # A turn in which nobody waits to speak of: some thirty requests.
IDLE_TIMES: Final = 2  # What follows a turn for longer than so many of it was rest, not the other half of the work.
STANDING_S: Final = 0.05  # How long a burst may take to be served and be no overload. Who is refused waited no longer.
TURN_S: Final = 0.006  # Requests are read for so long in a turn of overload; their answers take as long, then refusals.
TURN_LEAST: Final = 64  # Requests of a turn that are always served: a process that lost its core goes on working.


class Pressure:
    """What is known of the turns so far. Called from the event loop alone."""

    __slots__ = ("_ended_s", "_is_over", "_since_s", "_turn_s", "_was_long")

    def __init__(self) -> None:
        self._turn_s = self._ended_s = 0.0
        self._was_long = False  # Whether the turn before was,
        self._since_s = 0.0  # and since when all have been like it.
        self._is_over = False  # Whether requests come faster than they can be served.

    def began(self, turn_s: float) -> int:
        """A turn's first request is read; how many of its requests are served however long it takes."""
        lasted_s, then_s = self._ended_s - self._turn_s, turn_s - self._ended_s
        was_long = lasted_s >= SHORT_S and then_s < IDLE_TIMES * lasted_s
        if was_long is not self._was_long:
            self._was_long, self._since_s = was_long, turn_s
        if turn_s - self._since_s >= STANDING_S:
            self._is_over = was_long
        self._turn_s = turn_s
        return TURN_LEAST

    def admits(self, now_s: float) -> bool:
        """Whether one more than those is served, that is read ``now_s``."""
        if now_s - self._turn_s < TURN_S:
            return True
        if self._was_long and now_s - self._since_s >= STANDING_S:
            self._is_over = True  # Not at the next turn: then those who wait in this one would have waited too long.
        return not self._is_over

    def ended(self, now_s: float) -> None:
        """The turn is over: all that had come with it is handled."""
        self._ended_s = now_s
