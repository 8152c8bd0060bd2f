"""What replicas have to do for all workers of a router: each says what it gave them, and counts what the others said.

A replica's `load` and `outstanding` in a worker are its own and the others', these as of the last look, a tenth of a
second ago at most. So a choice costs what it did, and the most that a replica may have is passed by no more than what
the others sent there since that look.
"""

from __future__ import annotations

from typing import Final

from services.router.shell.engines.table import RouteTable
from services.router.shell.engines.target import Seat
from services.router.shell.workers.counters import Board

SEATS: Final = 16_384  # Replicas that somebody asks at once, of all endpoints.
IDLE_S: Final = 60  # After so long without anything to do a replica's row may be another's.
USED, FIRST, CELLS = 0, 1, 2  # When a row was written last; then of each worker load and outstanding.


def a_load_board(workers: int) -> Board:
    """A board for the loads of so many workers."""
    return Board(cells=FIRST + CELLS * workers, rows=SEATS)


class SharedLoad:
    """One worker's part of it."""

    def __init__(self, board: Board, table: RouteTable, *, worker: int, workers: int) -> None:
        self._board = board
        self._table = table
        self._own = FIRST + CELLS * worker
        self._all = range(FIRST, FIRST + CELLS * workers)
        self._said: dict[str, tuple[int, int]] = {}

    def share(self, now_s: int) -> None:
        """Say what changed since the last time, and look at the others. Raises Unavailable if there is no room."""
        seen: dict[str, tuple[int, int]] = {}
        for target in self._table.targets():
            for seat in target.seats:
                own = seat.load - seat.load_elsewhere, seat.outstanding - seat.outstanding_elsewhere
                if own != (0, 0):
                    seen[seat.known_as] = own
                self._look(seat)
        for name in {*seen, *self._said}:
            own = seen.get(name, (0, 0))
            if self._said.get(name) != own:
                self._say(name, own, now_s)
        self._said = seen

    def _say(self, name: str, own: tuple[int, int], now_s: int) -> None:
        with self._board:
            at = self._board.claim(name, idle=self._all, idle_before=now_s - IDLE_S)
            cells = self._board.cells
            cells[at + USED], cells[at + self._own], cells[at + self._own + 1] = now_s, *own

    def _look(self, seat: Seat) -> None:
        at, cells = self._board.find(seat.known_as), self._board.cells
        load = outstanding = 0
        if at is not None:
            first, end = at + self._all.start, at + self._all.stop
            load = sum(cells[first:end:CELLS]) - cells[at + self._own]
            outstanding = sum(cells[first + 1 : end : CELLS]) - cells[at + self._own + 1]
        seat.load += load - seat.load_elsewhere
        seat.outstanding += outstanding - seat.outstanding_elsewhere
        seat.load_elsewhere, seat.outstanding_elsewhere = load, outstanding


def forget_load(board: Board, worker: int) -> None:
    """The worker died: nothing that it asked for is being done."""
    with board:
        for cell in range(CELLS):
            board.clear(FIRST + CELLS * worker + cell)
