"""When this process itself is what is overloaded: how many requests of a turn are served, and which are sent away.

A turn is one round of the event loop: whatever had come when it began, waited for the one before. While turns are
short nothing is refused, and a burst that takes one long turn is none of our business. When no turn has been short for
`STANDING_S`, requests come faster than they can be served, and a queue that stands helps nobody (that is CoDel's
thought): then each turn serves as many as fit into `TURN_S` and refuses the rest at once. A refusal costs a twentieth
of a request, so what can be served is served, and nobody waits for longer than two turns. Pure; told the time.
"""

from __future__ import annotations

from typing import Final

SHORT_S: Final = 0.005  # A turn in which nobody waits to speak of: some thirty requests.
IDLE_TIMES: Final = 2  # What follows a turn for longer than so many of it was rest, not the other half of the work.
STANDING_S: Final = 0.1  # CoDel's interval: a burst that is served within it was no overload.
TURN_S: Final = 0.01  # Served in a turn of an overloaded process; two of them, and the refusals, are well below 50 ms.
TURN_LEAST: Final = 64  # Requests of a turn that are always served: a process that lost its core goes on working.


class Pressure:
    """What is known of the turns so far. Called from the event loop alone, for every request that begins."""

    __slots__ = ("_ended_s", "_served", "_since_s", "_turn_s", "is_over")

    def __init__(self) -> None:
        self._turn_s = self._ended_s = 0.0
        self.is_over = False  # Whether requests come faster than they can be served,
        self._since_s = 0.0  # and when a turn last said that it is as we think.
        self._served = 0  # In this turn.

    def admits(self, *, turn_s: float, now_s: float) -> bool:
        """Whether a request is served that is read ``now_s``, in the turn that began at ``turn_s``."""
        if turn_s != self._turn_s:
            self._begin(turn_s)
        self._served += 1
        return not self.is_over or self._served <= TURN_LEAST or now_s - turn_s < TURN_S

    def ended(self, now_s: float) -> None:
        """The turn in which the last request was read is over: all that had come with it is handled."""
        self._ended_s = now_s

    def _begin(self, turn_s: float) -> None:
        """Look at the turn that ended; what it says must hold for a while before we believe it."""
        lasted_s, then_s = self._ended_s - self._turn_s, turn_s - self._ended_s
        was_long = lasted_s >= SHORT_S and then_s < IDLE_TIMES * lasted_s
        if was_long is self.is_over:
            self._since_s = turn_s
        elif turn_s - self._since_s >= STANDING_S:
            self.is_over, self._since_s = was_long, turn_s
        self._turn_s, self._served = turn_s, 0
