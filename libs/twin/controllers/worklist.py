"""What a controller has to look at: what changed, and what is due. Looking costs as much as there is to see."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

Key = tuple[str, str]


class Worklist:
    """Keys that were marked, and keys whose time has come; each is handed out once for it."""

    def __init__(self) -> None:
        self._marked: set[Key] = set()
        self._due_ms: dict[Key, int] = {}
        self._times: list[tuple[int, Key]] = []

    def mark(self, key: Key) -> None:
        """Look at it in the next step."""
        self._marked.add(key)

    def mark_all(self, keys: Iterable[Key]) -> None:
        """Look at all of these in the next step."""
        self._marked.update(keys)

    def at(self, key: Key, when_ms: int | None) -> None:
        """Look again at that time, whatever was said before; None asks for nothing."""
        if when_ms is None:
            self._due_ms.pop(key, None)
        elif self._due_ms.get(key) != when_ms:
            self._due_ms[key] = when_ms
            heapq.heappush(self._times, (when_ms, key))

    def take(self, now_ms: int) -> list[Key]:
        """What to look at now, in order of the keys."""
        while (first := self._first()) is not None and first[0] <= now_ms:
            heapq.heappop(self._times)
            del self._due_ms[first[1]]
            self._marked.add(first[1])
        taken = sorted(self._marked)
        self._marked.clear()
        return taken

    def next_ms(self) -> int | None:
        """When the next is due by itself."""
        first = self._first()
        return first[0] if first else None

    def _first(self) -> tuple[int, Key] | None:
        while self._times and self._due_ms.get(self._times[0][1]) != self._times[0][0]:
            heapq.heappop(self._times)  # Put off, or called off.
        return self._times[0] if self._times else None
