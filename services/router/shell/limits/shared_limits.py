"""The limits of a minute, kept by all workers of a router together: exact, because one at a time looks and takes.

The rules are those of `core/limits.py`; here is where its windows and counts lie. What a worker admitted stays in the
windows when it dies, until the minute is over; what it had running is over at once (`forget`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from libs.common.errors import Unavailable
from services.router.core import refusals
from services.router.core.limits import WINDOW_S, Grant, Limit, MinuteLimits, Refused, Window
from services.router.shell.workers.counters import Board

RING: Final = 64  # Slots of a window; more than it has, and a power of two.
NEWEST, TOTAL, SLOTS = 0, 1, 2  # Cells of a row: the newest slot, the sum of all, then the slots themselves,
RUNNING: Final = SLOTS + RING  # then how many each worker has running.


def a_board(workers: int) -> Board:
    """A board for the limits of so many workers."""
    return Board(cells=RUNNING + workers)


class SharedWindow(Window):
    """A `Window` in a row of the board. Hold its lock."""

    __slots__ = ("_at", "_board", "_cells")

    def __init__(self, board: Board, at: int) -> None:
        self._board = board
        self._cells = board.cells
        self._at = at

    @property
    def total(self) -> int:  # type: ignore[override]
        """What was taken in the window."""
        return self._cells[self._at + TOTAL]

    def expire(self, slot: int) -> None:
        """Forget what no window that ends in ``slot`` touches; and count anew, should a worker have died counting."""
        cells, at = self._cells, self._at
        newest = cells[at + NEWEST]
        if slot <= newest:
            return
        for gone in range(max(newest - WINDOW_S, slot - WINDOW_S - RING), slot - WINDOW_S):
            cells[at + SLOTS + gone % RING] = 0
        cells[at + TOTAL] = sum(cells[at + SLOTS : at + SLOTS + RING])
        cells[at + NEWEST] = slot

    def add(self, slot: int, amount: int) -> None:
        """Take in this slot."""
        self.expire(slot)
        self._cells[self._at + TOTAL] += amount  # First: who dies in between has left too little room, never too much.
        self._cells[self._at + SLOTS + slot % RING] += amount

    def give_back(self, slot: int, amount: int) -> None:
        """Take less in a slot; without effect once it is forgotten."""
        if slot >= self._cells[self._at + NEWEST] - WINDOW_S:
            self._cells[self._at + SLOTS + slot % RING] -= amount
            self._cells[self._at + TOTAL] -= amount

    def free_in_s(self, slot: int, amount: int) -> int:
        """In how many seconds at least ``amount`` of it is forgotten."""
        newest = self._cells[self._at + NEWEST]
        for each in range(newest - WINDOW_S, newest + 1):
            amount -= self._cells[self._at + SLOTS + each % RING]
            if amount <= 0:
                return each + WINDOW_S + 1 - slot
        return WINDOW_S


class _Windows(dict[str, Window]):
    """Finds windows on the board, as `MinuteLimits` looks for them; holds none itself."""

    def __init__(self, board: Board, kind: str, workers: int) -> None:
        super().__init__()
        self._board = board
        self._kind = kind
        self._busy = range(RUNNING, RUNNING + workers)
        self.slot = 0

    def get(self, bucket: str, _otherwise: object = None) -> Window | None:  # type: ignore[override]
        at = self._board.find(self._kind + bucket)
        return None if at is None else SharedWindow(self._board, at)

    def setdefault(self, bucket: str, _otherwise: object = None) -> Window:
        at = self._board.claim(self._kind + bucket, idle=self._busy, idle_before=self.slot - WINDOW_S)
        return SharedWindow(self._board, at)


class _Counts(dict[str, int]):
    """How many run, of all workers; each writes its own cell."""

    def __init__(self, board: Board, worker: int, workers: int) -> None:
        super().__init__()
        self._board = board
        self._own = RUNNING + worker
        self._all = range(RUNNING, RUNNING + workers)

    def get(self, bucket: str, _otherwise: object = None) -> int:
        at = self._board.find("c|" + bucket)
        return 0 if at is None else sum(self._board.cells[at + RUNNING : at + RUNNING + len(self._all)])

    def __getitem__(self, bucket: str) -> int:
        return self.get(bucket)

    def __setitem__(self, bucket: str, count: int) -> None:
        at = self._board.claim("c|" + bucket, idle=self._all)
        self._board.cells[at + self._own] += count - self.get(bucket)

    def __delitem__(self, bucket: str) -> None:
        """Nothing runs: its row is free for another name."""


class SharedLimits:
    """A `Limiter` of the worker with this number."""

    def __init__(self, board: Board, *, worker: int, workers: int) -> None:
        self._board = board
        self._worker = worker
        self._windows = (_Windows(board, "r|", workers), _Windows(board, "t|", workers))
        self._rules = MinuteLimits(*self._windows, _Counts(board, worker, workers))
        self._unsettled: list[tuple[Grant, int, int]] = []

    def reserve(
        self, limits: Sequence[Limit], *, tokens: int, now_ms: int, least: int | None = None
    ) -> Grant | Refused:
        """Admit one request under all of ``limits``, or under none. Raises HttpRefusal if nobody can say."""
        try:
            with self._board:
                self._settle_late(now_ms)
                return self._rules.reserve(limits, tokens=tokens, now_ms=now_ms, least=least)
        except Unavailable:
            raise refusals.limits_unknown() from None

    def settle(self, grant: Grant, *, tokens: int, now_ms: int) -> None:
        """The request is over and used ``tokens``; if the counters are held, that is counted a little later."""
        self._unsettled.append((grant, tokens, now_ms))
        try:
            with self._board:
                self._settle_late(now_ms)
        except Unavailable:
            return

    def _settle_late(self, now_ms: int) -> None:
        for each in self._windows:
            each.slot = now_ms // 1000
        while self._unsettled:
            grant, tokens, at_ms = self._unsettled[-1]
            self._rules.settle(grant, tokens=tokens, now_ms=at_ms)
            self._unsettled.pop()


def forget(board: Board, worker: int) -> None:
    """The worker died: nothing of it runs any more."""
    with board:
        board.clear(RUNNING + worker)
