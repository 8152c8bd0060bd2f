"""The time, as something that is asked for: the wall's in a process, a test's own in a test."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Says what time it is."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""


class SystemClock:
    """The wall clock of this machine."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return self._now_ms

    def advance(self, duration_ms: int) -> None:
        """Move forward by ``duration_ms``."""
        assert duration_ms >= 0, duration_ms
        self._now_ms += duration_ms
