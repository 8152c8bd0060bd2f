"""What replicas have to do for all workers of a router, and who waits: each says its part, and hears the others'.

A replica's `load` and `outstanding` in a worker are its own and the others', these as of the last look, a tenth of a
second ago at most. So a choice costs what it did, and the most that a replica may have is passed by no more than what
the others sent there since that look. Who waits is looked at where anybody does (core/sharing.py).
"""

from __future__ import annotations

from typing import Final

from services.router.core.sharing import NOBODY, Others
from services.router.shell.engines.table import RouteTable
from services.router.shell.engines.target import Seat, Target
from services.router.shell.workers.counters import Board

SEATS: Final = 16_384  # Replicas that somebody asks at once, of all endpoints.
IDLE_S: Final = 60  # After so long without anything to do a replica's row may be another's.
# When a row was written last; then of each worker load and outstanding, or the lanes and the requests that wait.
USED, FIRST, CELLS = 0, 1, 2
WAITING: Final = "waiting"  # The row of the endpoints for which any wait.


def a_load_board(workers: int) -> Board:
    """A board for the loads of so many workers."""
    return Board(cells=FIRST + CELLS * workers, rows=SEATS)


class SharedLoad:
    """One worker's part of it."""

    def __init__(self, board: Board, table: RouteTable, *, worker: int, workers: int) -> None:
        self._board = board
        self._table = table
        self._worker = worker
        self._own = FIRST + CELLS * worker
        self._all = range(FIRST, FIRST + CELLS * workers)
        self._said: dict[str, tuple[int, int]] = {}

    def share(self, now_s: int) -> None:
        """Say what changed since the last time, and look at the others. Raises Unavailable if there is no room."""
        seen: dict[str, tuple[int, int]] = {}
        waiting, do_others_wait = 0, any(self._of_others(WAITING, 1))
        for target in self._table.targets():
            queue = target.queue
            if queue.count:
                seen[target.entry.endpoint_id] = target.lanes_to_seat(), queue.count
                waiting += 1
            if do_others_wait or queue.others is not NOBODY:
                self._look_who_waits(target)
            for seat in target.seats:
                own = seat.load - seat.load_elsewhere, seat.outstanding - seat.outstanding_elsewhere
                if own != (0, 0):
                    seen[seat.known_as] = own
                self._look(seat)
        if waiting:
            seen[WAITING] = 0, waiting
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

    def _look_who_waits(self, target: Target) -> None:
        lanes, requests = (self._of_others(target.entry.endpoint_id, cell) for cell in range(CELLS))
        target.queue.see(Others(self._worker, lanes, requests) if any(requests) else NOBODY)

    def _of_others(self, name: str, cell: int) -> tuple[int, ...]:
        """What each worker says in that cell of the row; 0 at our own place."""
        at = self._board.find(name)
        if at is None:
            return ()
        found = self._board.cells[at + self._all.start + cell : at + self._all.stop : CELLS].tolist()
        found[self._worker] = 0
        return tuple(found)

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
