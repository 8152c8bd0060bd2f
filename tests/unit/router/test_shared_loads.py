"""A replica's load is that of all workers: what one gave it to do, the others take into account."""

from __future__ import annotations

from services.router.shell.engines.table import RouteTable
from services.router.shell.engines.target import Seat, Target
from services.router.shell.workers.counters import Board
from services.router.shell.workers.loads import IDLE_S, SharedLoad, a_load_board, forget_load
from tests.unit.router.scene import ENDPOINT, a_route

A, B = "http://a:1", "http://b:1"


class Worker:
    """One of three, with a table of its own."""

    def __init__(self, board: Board, number: int) -> None:
        self.table = RouteTable()
        self.table.change(ENDPOINT, a_route([A, B]).model_dump_json().encode())
        self.load = SharedLoad(board, self.table, worker=number, workers=3)

    @property
    def target(self) -> Target:
        (found,) = self.table.targets()
        return found

    def seat(self, url: str) -> Seat:
        return next(each for each in self.target.seats if each.url == url)

    def chosen(self) -> set[str]:
        return {seat.url for _ in range(20) if (seat := self.target.choose(outstanding_max=4)) is not None}


def three_workers() -> tuple[Board, list[Worker]]:
    board = a_load_board(3)
    return board, [Worker(board, number) for number in range(3)]


def look(*workers: Worker, now_s: int = 1000) -> None:
    for _ in range(2):  # Whoever looks first sees what the last said at the second look.
        for each in workers:
            each.load.share(now_s)


def test_a_worker_avoids_what_another_keeps_busy() -> None:
    _, (one, two, three) = three_workers()
    one.seat(A).taken(0.0)
    two.seat(A).taken(0.0)

    look(one, two, three)

    assert three.chosen() == {B}
    assert one.seat(A).outstanding == two.seat(A).outstanding == three.seat(A).outstanding == 2


def test_a_replica_is_full_when_all_workers_together_have_filled_it() -> None:
    _, (one, two, three) = three_workers()
    for each in (one, two):
        for url in (A, B):
            each.seat(url).taken(0.0)
            each.seat(url).taken(0.0)

    look(one, two, three)

    assert three.chosen() == set()


def test_what_is_over_weighs_nothing_anywhere() -> None:
    _, (one, two, _) = three_workers()
    seat = one.seat(A)
    seat.taken(0.0)
    look(one, two)
    seat.answered()
    seat.given_back(answered=True)

    look(one, two)

    assert [(each.seat(A).load, each.seat(A).outstanding) for each in (one, two)] == [(0, 0), (0, 0)]
    assert two.chosen() == {A, B}


def test_looking_often_counts_nothing_twice() -> None:
    _, (one, two, _) = three_workers()
    one.seat(A).taken(0.0)
    two.seat(A).taken(0.0)

    for _ in range(5):
        look(one, two)

    assert one.seat(A).outstanding == two.seat(A).outstanding == 2


def test_a_replica_that_left_the_route_is_given_back_to_the_others() -> None:
    _, (one, two, _) = three_workers()
    one.seat(A).taken(0.0)
    look(one, two)
    one.table.change(ENDPOINT, a_route([B]).model_dump_json().encode())

    look(one, two)

    assert two.seat(A).outstanding == 0


def test_what_a_dead_worker_had_asked_for_is_forgotten() -> None:
    board, (one, two, _) = three_workers()
    one.seat(A).taken(0.0)
    look(one, two)

    forget_load(board, 0)

    look(two)
    assert two.seat(A).outstanding == 0


def test_rows_of_replicas_that_nobody_asks_are_given_to_others() -> None:
    board = Board(cells=7, rows=1)
    one = Worker(board, 0)
    one.seat(A).taken(0.0)
    look(one)
    one.seat(A).given_back(answered=False)
    look(one)
    one.seat(B).taken(0.0)

    look(one, now_s=1000 + IDLE_S + 1)

    assert board.find(f"{B}|") is not None
    assert board.find(f"{A}|") is None
