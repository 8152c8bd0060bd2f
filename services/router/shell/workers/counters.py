"""Counters that the workers of one router share, in memory that they were forked with.

A row of cells for each name, found by its hash. Whoever reads and then writes on what it read holds the lock, for some
microseconds; the kernel gives it back if the holder dies, and nobody waits for it longer than `LOCK_WAIT_S`.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

from libs.common.errors import Unavailable

ROWS: Final = (
    8192  # Names in use at once, of the last minute; 5 MB of addresses, and memory only where there are names.
)
PROBES: Final = 64  # How far from its place a row may lie; with half the rows in use, next to never that far.
KNOWN_MAX: Final = 16_384
LOCK_WAIT_S: Final = 0.5  # A holder that lost its core on an overloaded machine has it again within this.
LOCK_POLL_S: Final = 0.0001
AT_ONCE: Final = fcntl.LOCK_EX | fcntl.LOCK_NB
KEY_CELLS: Final = 2
_KEY: Final = struct.Struct("<qq")


class Board:
    """Rows of ``cells`` numbers of 64 bits, shared by everybody forked after this was made. A context: the lock.

    With ``name_cells`` behind them names can be read from it, if they are no longer than that.
    """

    def __init__(self, *, cells: int, rows: int = ROWS, name_cells: int = 0) -> None:
        self._width = KEY_CELLS + cells + name_cells
        self._rows = rows
        self._name, self._name_cells = cells, name_cells
        self._claims = self._width * rows  # The cell that counts how often a row was given to a name.
        self.cells = memoryview(mmap.mmap(-1, (self._claims + 1) * 8)).cast("q")
        self._lock = os.memfd_create("router-board")
        self._known: dict[str, tuple[int, int, int]] = {}  # Where each lies, and the two halves of its hash.
        self._names: dict[str, int] = {}
        self._names_of = 0  # How often rows had been given when they were read.

    def __enter__(self) -> Board:
        """Keep all others out. Raises Unavailable if one of them stays in."""
        try:
            fcntl.lockf(self._lock, AT_ONCE)
        except OSError:
            self._wait()
        return self

    def _wait(self) -> None:
        give_up_s = time.monotonic() + LOCK_WAIT_S
        while True:
            time.sleep(LOCK_POLL_S)
            try:
                fcntl.lockf(self._lock, AT_ONCE)
            except OSError:
                if time.monotonic() > give_up_s:
                    raise Unavailable("the counters are held by another worker") from None
            else:
                return

    def __exit__(self, *_exc: object) -> None:
        """Let others in."""
        fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def find(self, name: str) -> int | None:
        """Where the cells of ``name`` begin."""
        known, cells = self._known.get(name), self.cells
        if known is not None:
            at, high, low = known
            if cells[at - 2] == high and cells[at - 1] == low:
                return at
        high, low = _key(name)
        for at in self._places(high):
            if cells[at - 2] == high and cells[at - 1] == low:
                return self._remember(name, at)
            if not cells[at - 1]:
                return None  # Never given away: the name would have had this one. Names that have none are many.
        return None

    def claim(self, name: str, *, idle: range | None = None, idle_before: int = 0) -> int:
        """Where the cells of ``name`` begin, from now on if they had no place. Hold the lock.

        A row whose first cell is below ``idle_before``, and whose cells in ``idle`` are all 0, is given to a new name.
        Raises Unavailable if there is no place.
        """
        found = self.find(name)
        if found is not None:
            return found
        key = _key(name)
        for at in self._places(key[0]):
            taken = self.cells[at - 2] or self.cells[at - 1]
            if taken and (idle is None or self.cells[at] >= idle_before or any(self.cells[at + each] for each in idle)):
                continue
            for cell in range(at, at + self._width - KEY_CELLS):
                self.cells[cell] = 0
            self._write_name(at, name)
            self.cells[at - 2], self.cells[at - 1] = key
            self.cells[self._claims] += 1
            return self._remember(name, at)
        raise Unavailable(f"no room for another counter beside {self._rows}")

    def names(self) -> Mapping[str, int]:
        """Where the cells of each name begin; all are read only if a row was given away since the last time."""
        claims = self.cells[self._claims]
        if claims != self._names_of:
            taken = (at for at in range(KEY_CELLS, self._claims, self._width) if self.cells[at - 1])
            self._names = {name: at for at in taken if (name := self._name_at(at))}
            self._names_of = claims
        return self._names

    def clear(self, cell: int) -> None:
        """Set this cell of every row to 0: what its writer counted is over. Hold the lock."""
        for row in range(self._rows):
            self.cells[row * self._width + KEY_CELLS + cell] = 0

    def _places(self, high: int) -> Iterator[int]:
        """Where a row with such a hash may begin, in order. One that was given away once is never free again."""
        for place in range(high, high + PROBES):
            yield place % self._rows * self._width + KEY_CELLS

    def _write_name(self, at: int, name: str) -> None:
        text, room = name.encode(), self._name_cells * 8
        if len(text) <= room:
            begin = at + self._name
            self.cells[begin : begin + self._name_cells] = memoryview(text.ljust(room, b"\0")).cast("q")

    def _name_at(self, at: int) -> str:
        return self.cells[at + self._name : at + self._name + self._name_cells].tobytes().rstrip(b"\0").decode()

    def _remember(self, name: str, at: int) -> int:
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[name] = (at, self.cells[at - 2], self.cells[at - 1])
        return at


@lru_cache(KNOWN_MAX)  # Of replicas that nobody asks as well, ten times a second.
def _key(name: str) -> tuple[int, int]:
    high, low = _KEY.unpack(hashlib.blake2b(name.encode(), digest_size=16).digest())
    return high, low | 1  # Never (0, 0), which is a free row.
