"""The workers of one router to each other: what each of them serves from, and a line to each.

The control half runs in worker 0 and sees the data planes of all: a route is held when every worker holds it, and gone
when none does. Each worker posts what it sees a few times a second; what it no longer lets in, it counts after that, so
a row that says «not let in, none running» stays true.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Final

from libs.common.errors import Unavailable
from libs.common.events.tables import RouteEntry
from libs.common.events.usage import UsageConfirmed
from libs.common.ids import SystemEntropy
from services.router.shell.engines.table import RouteTable
from services.router.shell.limits.shared_limits import a_board, forget
from services.router.shell.workers.counters import Board
from services.router.shell.workers.loads import SharedLoad, a_load_board, forget_load

log = logging.getLogger(__name__)

POST_S: Final = 0.1
MAIL_BYTES_MAX: Final = 200_000  # 500 requests confirmed are some 15 KB; what is too long is lost, as mail may be.
ENDPOINTS: Final = 16_384
HELD, LIVE, CUT, CELLS = 0, 1, 2, 3  # Cells of a worker in the row of an endpoint.
LETS_IN: Final = 1 << 40
PRESENT: Final = "here"  # The row that says which workers serve.


class Team:
    """What the workers share. Made before they are forked."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.limits = a_board(count)
        self.elsewhere = a_board(0)  # What of it other hosts admitted.
        self.boot_id = SystemEntropy().token_bytes(5).hex()  # A worker that starts again is no other host.
        self.loads = a_load_board(count)
        self.routes = Board(cells=1 + CELLS * count, rows=ENDPOINTS)
        self._lines = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(count)]
        for pair in self._lines:
            for each in pair:
                each.setblocking(False)
        with self.routes:
            self._present = self.routes.claim(PRESENT)

    def tell(self, worker: int, what: str, value: object) -> None:
        """Send a word to a worker. It may be lost: it is said again, or asked again, by whoever needs it."""
        with contextlib.suppress(OSError):
            self._lines[worker][0].send(json.dumps({what: value}).encode())

    def forward(self, instance: str, told: UsageConfirmed) -> None:
        """Pass a confirmation on to the worker whose journal has the rows; other routers' is not for us."""
        name, _, number = told.instance.rpartition("-w")
        if name == instance and number.isdigit() and int(number) < self.count:
            self.tell(int(number), "confirm", list(told.request_ids))

    async def hear(self, worker: int, words: Mapping[str, Callable[[object], object]]) -> None:
        """Act on what is told to the worker, in threads, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            said: dict[str, object] = json.loads(await loop.sock_recv(self._lines[worker][1], MAIL_BYTES_MAX))
            for what, value in said.items():
                await asyncio.to_thread(words[what], value)

    def serves(self, worker: int) -> bool:
        """Whether the worker serves, so that its word counts."""
        return bool(self.routes.cells[self._present + 1 + worker * CELLS])

    def begin(self, worker: int) -> None:
        """The worker has loaded its tables, and serves from now on."""
        self.routes.cells[self._present + 1 + worker * CELLS] = 1

    def bury(self, worker: int) -> None:
        """The worker died: it holds nothing, and nothing of it runs."""
        with contextlib.suppress(Unavailable), self.routes:
            for cell in range(CELLS):
                self.routes.clear(1 + worker * CELLS + cell)
        with contextlib.suppress(Unavailable):
            forget(self.limits, worker)
        with contextlib.suppress(Unavailable):
            forget_load(self.loads, worker)

    def cells_of(self, endpoint_id: str, worker: int) -> int | None:
        """Where the worker's cells of the endpoint begin."""
        at = self.routes.find(endpoint_id)
        return None if at is None else at + 1 + worker * CELLS


class Postings:
    """What one worker lets the others see of its table; ``looked`` is called when it saw theirs."""

    def __init__(self, team: Team, worker: int, table: RouteTable, looked: Callable[[], None]) -> None:
        self._team = team
        self._worker = worker
        self._table = table
        self._looked = looked
        self._posted: dict[str, tuple[RouteEntry | None, int, int]] = {}
        self._loads = SharedLoad(team.loads, table, worker=worker, workers=team.count)

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            with contextlib.suppress(Unavailable):  # Next time.
                self.post()
                self._team.begin(self._worker)
                self._loads.share(int(time.monotonic()))
            self._looked()
            await asyncio.sleep(POST_S)

    def post(self) -> None:
        """Post what changed since the last time."""
        for endpoint_id in {*self._table.endpoints(), *self._posted}:
            held = self._table.held(endpoint_id)  # Before `live`: what is not let in any more can't begin.
            seen = (held, self._table.live(endpoint_id), self._table.streams_cut(endpoint_id))
            if self._posted.get(endpoint_id) != seen:
                self._write(endpoint_id, seen)

    def _write(self, endpoint_id: str, seen: tuple[RouteEntry | None, int, int]) -> None:
        held, live, cut = seen
        board = self._team.routes
        with board:
            at = board.claim(endpoint_id) + 1 + self._worker * CELLS
            board.cells[at + LIVE], board.cells[at + CUT], board.cells[at + HELD] = live, cut, mark_of(held)
        if held is None and not live:
            self._posted.pop(endpoint_id, None)
        else:
            self._posted[endpoint_id] = seen


class TeamTable:
    """The `DataPlane` of all workers, as the control half in worker 0 sees it."""

    def __init__(self, team: Team, table: RouteTable) -> None:
        self._team = team
        self._table = table
        self._last: dict[str, RouteEntry] = {}

    def held(self, endpoint_id: str) -> RouteEntry | None:
        """The route, if every worker holds the same; as long as they differ, one of generation 0 that lets in."""
        own = self._table.held(endpoint_id)
        marks = {self._mark(endpoint_id, worker) for worker in range(1, self._team.count) if self._team.serves(worker)}
        if marks <= {mark_of(own)}:
            return own
        known = own or self._last.get(endpoint_id)
        if own is not None:
            self._last[endpoint_id] = own
        return known.model_copy(update={"generation": 0, "paused": False}) if known is not None else None

    def is_lost(self, endpoint_id: str) -> bool:
        """Whether the bus lost the route that our table still has; each worker watches the same bucket."""
        return self._table.is_lost(endpoint_id)

    def live(self, endpoint_id: str) -> int:
        """How many requests run on the endpoint, in all workers."""
        return self._table.live(endpoint_id) + self._sum(endpoint_id, LIVE)

    def streams_cut(self, endpoint_id: str) -> int:
        """How many were cut, in all workers."""
        return self._table.streams_cut(endpoint_id) + self._sum(endpoint_id, CUT)

    def cut(self, endpoint_id: str) -> None:
        """End what runs on the endpoint, everywhere."""
        self._table.cut(endpoint_id)
        for worker in range(1, self._team.count):
            self._team.tell(worker, "cut", endpoint_id)

    def _mark(self, endpoint_id: str, worker: int) -> int:
        at = self._team.cells_of(endpoint_id, worker)
        return 0 if at is None else self._team.routes.cells[at + HELD]

    def _sum(self, endpoint_id: str, cell: int) -> int:
        found = (self._team.cells_of(endpoint_id, worker) for worker in range(1, self._team.count))
        return sum(self._team.routes.cells[at + cell] for at in found if at is not None)


def mark_of(entry: RouteEntry | None) -> int:
    """A number for what a worker holds: 0 for nothing."""
    if entry is None:
        return 0
    return zlib.crc32(entry.model_dump_json().encode()) + 1 + (0 if entry.paused else LETS_IN)
