"""Metering windows: half-open, aligned to the epoch, all of one size for the life of a ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from libs.common.units import MINUTE_MS, SECOND_MS

SIZE_MS: Final = 1 * MINUTE_MS  # A bill is told within about a minute; a month of one meter is 43,200 windows.
SETTLE_MS: Final = 5 * SECOND_MS  # Routers report within about a second; later entries cost a second revision.
RUN_MAX: Final = 8  # Windows added up in one reading: on SQLite, commits wait for it.
AGAIN_MIN_MS: Final = 1 * SECOND_MS
DOUBLINGS_MAX: Final = 4  # From 5 s to 80 s: so long may a window that goes on changing be behind its ledger.
CATCH_UP_MAX: Final = 720  # Windows of held time booked in one commit after an outage; the next tick goes on.


@dataclass(frozen=True, slots=True)
class Windows:
    """How time is cut. `settle_ms` is how long after its end, or after a late entry, a window is told."""

    size_ms: int = SIZE_MS
    settle_ms: int = SETTLE_MS

    def start_of(self, at_ms: int) -> int:
        """The start of the window that a moment belongs to."""
        return at_ms - at_ms % self.size_ms

    def closed_until(self, now_ms: int) -> int:
        """The end of the last window that has closed and settled."""
        return self.start_of(now_ms - self.settle_ms)

    def closes_next(self, now_ms: int) -> int:
        """When the next window will have closed and settled; always later than now."""
        return self.closed_until(now_ms) + self.size_ms + self.settle_ms

    def told_at(self, start_ms: int, *, now_ms: int) -> int:
        """When a window that got an entry just now should be compared with what was told of it."""
        return self._together(max(start_ms + self.size_ms, now_ms) + self.settle_ms)

    def told_again_at(self, looks: int, *, due_ms: int, now_ms: int) -> int:
        """When a window that differed so often should be compared again: at first at once, to see what it was told.

        One that gets entries all the time, as while a backlog is entered, is told less and less often: to add it up
        again and again would take as long as to enter what it holds.
        """
        if looks <= 1:
            return due_ms
        return self._together(now_ms + max(self.settle_ms, AGAIN_MIN_MS) * 2 ** min(looks - 2, DOUBLINGS_MAX))

    def runs(self, starts: Sequence[int]) -> Iterator[tuple[int, int]]:
        """``[from_ms, to_ms)`` of these windows, by their sorted starts: one for those that follow each other."""
        begin = 0
        for place, start_ms in enumerate(starts, start=1):
            is_end = place == len(starts) or starts[place] != start_ms + self.size_ms or place - begin >= RUN_MAX
            if is_end:
                yield starts[begin], start_ms + self.size_ms
                begin = place

    def _together(self, at_ms: int) -> int:
        """The time from which on windows that are to be told at about this time are: one look is for all of them."""
        return -(-at_ms // self.settle_ms) * self.settle_ms if self.settle_ms else at_ms

    def cut(self, from_ms: int, to_ms: int) -> tuple[tuple[int, int], ...]:
        """``[from_ms, to_ms)`` in pieces, none of which crosses a window's border."""
        pieces = []
        while from_ms < to_ms:
            end_ms = min(to_ms, self.start_of(from_ms) + self.size_ms)
            pieces.append((from_ms, end_ms))
            from_ms = end_ms
        return tuple(pieces)
