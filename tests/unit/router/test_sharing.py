"""Workers with a queue each share an endpoint's places as if there were one queue: nobody starves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.core import openai
from services.router.core.queueing import waiting_max
from services.router.core.refusals import HttpRefusal
from services.router.core.sharing import NOBODY, Others
from services.router.core.surface import Api
from services.router.shell.engines.table import RouteTable
from services.router.shell.engines.target import Seat, Target
from services.router.shell.engines.waiting import Places, WaitingRoom
from services.router.shell.workers.counters import Board
from services.router.shell.workers.loads import SharedLoad, a_load_board, forget_load
from tests.unit.router.scene import ENDPOINT, a_route, chat_body

STEP_S = 0.1  # Between two looks of a worker at the others.
LANES = st.lists(st.integers(0, 5), min_size=2, max_size=6)


@given(LANES, st.integers(0, 50), st.integers(0, 100))
def test_all_shares_together_are_all_places(lanes: list[int], places: int, turn: int) -> None:
    shares = [
        Others(own, tuple(0 if each == own else count for each, count in enumerate(lanes))).share(
            places, lanes=lanes[own], turn=turn
        )
        for own in range(len(lanes))
    ]

    if not any(lanes):
        assert shares == [places] * len(lanes)
        return
    assert sum(shares) == places
    assert all(abs(each - places * count / sum(lanes)) <= 1 for each, count in zip(shares, lanes, strict=True))


def test_a_single_place_goes_round() -> None:
    given_to = [[Others(own, (own, 1 - own)).share(1, lanes=1, turn=turn) for own in (0, 1)] for turn in range(4)]

    assert given_to == [[1, 0], [0, 1]] * 2


def test_who_fills_the_queue_elsewhere_keeps_nobody_out_here() -> None:
    assert NOBODY.room(16) == 16
    assert Others(0, (0, 1), (0, 4)).room(16) == 12
    assert Others(0, (0, 1), (0, 16)).room(16) == 8


@dataclass(eq=False)
class Request:
    """One that takes a while at its replica."""

    client: str
    seat: Seat | None = None
    refused: HttpRefusal | None = None

    def seated(self, seat: Seat) -> None:
        self.seat = seat

    def turned_away(self, refusal: HttpRefusal) -> None:
        self.refused = refusal


@dataclass
class Worker:
    """One of two, with its own queue; its clients ask again as soon as they have an answer."""

    board: Board
    number: int
    now_s: float = 1000.0
    running: list[Request] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.table = RouteTable()
        self.table.change(ENDPOINT, a_route(["http://a:1"]).model_dump_json().encode())
        self.load = SharedLoad(self.board, self.table, worker=self.number, workers=2)
        self.room = WaitingRoom(Places(outstanding_max=4, queue_s=10_000), lambda: self.now_s)

    @property
    def target(self) -> Target:
        (found,) = self.table.targets()
        return found

    def ask(self, client: str, *, tier: str = "default") -> Request:
        request = Request(client)
        self.asked.append(request)
        ask = openai.read(Api.CHAT, chat_body(service_tier=tier))
        self.room.enter(request, self.target, ask=ask, lane=client)
        return request

    def step(self) -> list[str]:
        """A tenth of a second: look at the others, let in who may, end half of what runs; whose requests ended."""
        self.now_s += STEP_S
        self.load.share(int(self.now_s))
        self.room.sweep()
        known = [each for each in self.asked if each.seat is not None]
        ended = known[: (len(known) + 1) // 2]
        for each in ended:
            self.asked.remove(each)
            assert each.seat is not None
            each.seat.given_back(answered=False)
            self.room.serve(self.target)
        return [each.client for each in ended]


def two_workers() -> tuple[Board, Worker, Worker]:
    board = a_load_board(2)
    return board, Worker(board, 0), Worker(board, 1)


def lived(workers: tuple[Worker, Worker], steps: int) -> Counter[str]:
    """Both go on, and whoever has an answer asks again."""
    ended: Counter[str] = Counter()
    for _ in range(steps):
        for worker in workers:
            for client in worker.step():
                ended[client] += 1
                worker.ask(client)
        assert workers[0].target.seats[0].outstanding <= 4 + 1
    return ended


def test_a_client_of_one_worker_is_not_starved_by_a_crowd_at_another() -> None:
    _, crowded, other = two_workers()
    for _ in range(12):
        crowded.ask("crowd")
    crowded.load.share(1000)
    other.load.share(1000)
    other.ask("single")

    ended = lived((crowded, other), 100)

    assert ended["single"] >= 50, "it has one request at a time, which takes a step or two"
    assert ended["crowd"] > ended["single"]


def test_two_crowds_at_two_workers_have_half_each() -> None:
    _, one, other = two_workers()
    for _ in range(12):
        one.ask("one")
    one.load.share(1000)
    other.load.share(1000)
    for _ in range(12):
        other.ask("other")

    ended = lived((one, other), 200)

    assert ended["one"] == pytest.approx(ended["other"], rel=0.2)


def test_batch_waits_for_those_who_do_not_wherever_they_are() -> None:
    _, batch, other = two_workers()
    for _ in range(6):
        batch.ask("batch", tier="flex")
    batch.load.share(1000)
    other.load.share(1000)
    waiting = [other.ask("single") for _ in range(4)]

    for _ in range(20):
        batch.step()
        other.step()
        if any(each.seat is None for each in waiting):
            assert batch.ask("batch", tier="flex").seat is None

    assert all(each.seat is not None for each in waiting)


def test_nobody_waits_for_a_worker_that_died_or_has_nobody_left() -> None:
    board, one, other = two_workers()
    other.room.enter(Request("x"), other.target, ask=openai.read(Api.CHAT, chat_body()), lane="x")
    for _ in range(8):
        other.ask("dead")
    other.load.share(1000)
    one.load.share(1000)
    assert one.target.queue.others.requests == (0, 5)

    forget_load(board, 1)
    one.load.share(1001)

    assert one.target.queue.others is NOBODY
    assert [one.ask("a").seat is not None for _ in range(5)] == [True] * 4 + [False]


def test_all_queues_together_are_bounded() -> None:
    _, one, other = two_workers()
    for _ in range(2):
        for worker in (one, other):
            worker.load.share(1000)
            for _ in range(40):
                worker.ask("flood")
            worker.load.share(1000)

    waiting = one.target.queue.count + other.target.queue.count
    assert waiting_max(4) <= waiting <= waiting_max(4) * 3 // 2
    assert min(one.target.queue.count, other.target.queue.count) > 0
