"""What is known of a bucket of limits: a row of numbers, of this process alone or in memory that several share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableSequence
from typing import Final, Protocol

WINDOW_S: Final = 60
IDLE_MAX: Final = 4096  # Buckets kept before those without anything in their window are dropped.
RING: Final = 64  # Slots of a window, and the next three; a power of two.

# Cells of a row: the newest slot; of requests and of tokens each the sum of the window, the oldest slot that may hold
# any, and the slots themselves; then how many each worker has running, and how many run on other hosts. What the newest
# slot holds is in the sum alone, until there is a newer one: so a request changes one cell and not two.
NEWEST: Final = 0
REQUESTS: Final = 1
TOKENS: Final = REQUESTS + 2 + RING
RUNNING: Final = TOKENS + 2 + RING
OLDEST, SLOTS = 1, 2  # From where a kind's cells begin.


class Rows(Protocol):
    """Where the rows are: of this process alone, or shared."""

    @property
    def cells(self) -> MutableSequence[int] | memoryview[int]:
        """All of them, one row after the other."""

    @property
    def find(self) -> Callable[[str], int | None]:
        """Says where the row of a name begins."""

    def claim(self, name: str, *, slot: int) -> int:
        """The same, a row of zeros if there was none; one that no window of ``slot`` needs may be given away."""

    def names(self) -> Mapping[str, int]:
        """Where the row of each name begins."""


class OwnRows:
    """Rows of this process alone."""

    def __init__(self) -> None:
        self.cells: list[int] = []
        self._at: dict[str, int] = {}
        self._free: list[int] = []
        self.find: Callable[[str], int | None] = self._at.get

    def claim(self, name: str, *, slot: int) -> int:
        """The same, a row of zeros if there was none."""
        if name in self._at:
            return self._at[name]
        if len(self._at) >= IDLE_MAX:
            self._drop_idle(slot)
        zeros = [0] * (RUNNING + 2)
        if not self._free:
            self._free.append(len(self.cells))
            self.cells.extend(zeros)
        self._at[name] = at = self._free.pop()
        self.cells[at : at + len(zeros)] = zeros
        return at

    def names(self) -> Mapping[str, int]:
        """Where the row of each name begins."""
        return self._at

    def _drop_idle(self, slot: int) -> None:
        for name, at in list(self._at.items()):
            if self.cells[at + NEWEST] < slot - WINDOW_S and not any(self.cells[at + RUNNING : at + RUNNING + 2]):
                self._free.append(self._at.pop(name))
