"""Metering windows: half-open, aligned to the epoch, all of one size for the life of a ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libs.common.units import MINUTE_MS, SECOND_MS

SIZE_MS: Final = 1 * MINUTE_MS  # A bill is told within about a minute; a month of one meter is 43,200 windows.
SETTLE_MS: Final = 5 * SECOND_MS  # Routers report within about a second; later entries cost a second revision.
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
        return max(start_ms + self.size_ms, now_ms) + self.settle_ms

    def cut(self, from_ms: int, to_ms: int) -> tuple[tuple[int, int], ...]:
        """``[from_ms, to_ms)`` in pieces, none of which crosses a window's border."""
        pieces = []
        while from_ms < to_ms:
            end_ms = min(to_ms, self.start_of(from_ms) + self.size_ms)
            pieces.append((from_ms, end_ms))
            from_ms = end_ms
        return tuple(pieces)
