"""Stop asking a Platform that does not answer: once half of twenty failed within half a minute, one probe at a time.

Open means unknown, never absent: every caller gets Unavailable, and nothing is released on it (reliability.md 3.4).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from libs.common.errors import Unavailable
from services.capacity_manager.core.reasons import Reason

WINDOW_S: Final = 30.0
CALLS_MIN: Final = 20  # Fewer say nothing: three of five may be bad luck.
FAILED_SHARE: Final = 0.5
PROBE_S: Final = 10.0


class Breaker:
    """Counts how calls end. Threads may share one."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._ends: deque[tuple[float, bool]] = deque()
        self._probe_at_s: float | None = None
        self._lock = threading.Lock()

    def check(self) -> None:
        """Let one call through. Raises Unavailable, with the time of the next probe, while the circuit is open."""
        with self._lock:
            now_s = self._monotonic_s()
            if self._probe_at_s is None:
                return
            if now_s < self._probe_at_s:
                raise Unavailable(
                    "the Platform failed too often and is asked again soon; what it holds is unknown",
                    retry_after_s=self._probe_at_s - now_s,
                    code=Reason.PLATFORM_UNAVAILABLE,
                )
            self._probe_at_s = now_s + PROBE_S  # This call is the probe; others wait for what becomes of it.

    def note(self, *, failed: bool) -> None:
        """How a call that was let through has ended."""
        with self._lock:
            now_s = self._monotonic_s()
            if self._probe_at_s is not None:
                if not failed:
                    self._probe_at_s = None
                    self._ends.clear()
                return
            self._ends.append((now_s, failed))
            while self._ends[0][0] < now_s - WINDOW_S:
                self._ends.popleft()
            failures = sum(each for _, each in self._ends)
            if len(self._ends) >= CALLS_MIN and failures >= FAILED_SHARE * len(self._ends):
                self._probe_at_s = now_s + PROBE_S
