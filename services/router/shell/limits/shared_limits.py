"""The limits of a minute, kept by all workers of a router together: exact, because one at a time looks and takes.

The rules are those of `core/limits.py`; here is where its rows lie. What a worker admitted stays in the
windows when it dies, until the minute is over; what it had running is over at once (`forget`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from libs.common.errors import Unavailable
from services.router.core import refusals
from services.router.core.limits import Grant, Limit, MinuteLimits, Refused
from services.router.core.rows import RUNNING, WINDOW_S
from services.router.shell.workers.counters import Board

NAME_CELLS: Final = 17  # 136 bytes: `quota/<tenant>.<project>`, each of at most 64.


def a_board(workers: int) -> Board:
    """A board for the limits of so many workers, and a cell for what runs on other hosts."""
    return Board(cells=RUNNING + workers + 1, name_cells=NAME_CELLS)


class SharedRows:
    """The rows of the board, as `MinuteLimits` looks for them. Hold its lock."""

    def __init__(self, board: Board, workers: int) -> None:
        self.cells = board.cells
        self.find = board.find
        self._board = board
        self._busy = range(RUNNING, RUNNING + workers + 1)

    def claim(self, name: str, *, slot: int) -> int:
        """Where the row of ``name`` begins. Raises Unavailable if all rows are in use."""
        return self._board.claim(name, idle=self._busy, idle_before=slot - WINDOW_S)

    def names(self) -> Mapping[str, int]:
        """Where the row of each name begins."""
        return self._board.names()


class SharedLimits:
    """A `Limiter` of the worker with this number."""

    def __init__(self, board: Board, *, worker: int, workers: int) -> None:
        self._board = board
        self._rules = MinuteLimits(SharedRows(board, workers), own=worker, workers=workers)
        self._unsettled: list[tuple[Grant, int, int]] = []

    def reserve(
        self, limits: Sequence[Limit], *, tokens: int, now_ms: int, least: int | None = None
    ) -> Grant | Refused:
        """Admit one request under all of ``limits``, or under none. Raises HttpRefusal if nobody can say."""
        try:
            with self._board:
                if self._unsettled:
                    self._settle_late()
                return self._rules.reserve(limits, tokens=tokens, now_ms=now_ms, least=least)
        except Unavailable:
            raise refusals.limits_unknown() from None

    def settle(self, grant: Grant, *, tokens: int, now_ms: int) -> None:
        """The request is over and used ``tokens``; if the counters are held, that is counted a little later."""
        try:
            with self._board:
                if self._unsettled:
                    self._settle_late()
                self._rules.settle(grant, tokens=tokens, now_ms=now_ms)
        except Unavailable:
            self._unsettled.append((grant, tokens, now_ms))

    def _settle_late(self) -> None:
        while self._unsettled:
            grant, tokens, at_ms = self._unsettled[-1]
            self._rules.settle(grant, tokens=tokens, now_ms=at_ms)
            self._unsettled.pop()


def forget(board: Board, worker: int) -> None:
    """The worker died: nothing of it runs any more."""
    with board:
        board.clear(RUNNING + worker)
