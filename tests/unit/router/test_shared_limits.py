"""Limits that the workers of a router keep together: the rules of one process, exact between four."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier

import pytest

from libs.common.errors import Unavailable
from services.router.core.limits import Grant, Limit, MinuteLimits, Refused
from services.router.core.refusals import HttpRefusal
from services.router.core.rows import RUNNING
from services.router.shell.limits.shared_limits import SharedLimits, a_board, forget
from services.router.shell.workers import counters as boards
from services.router.shell.workers.counters import Board

WORKERS = 4
FORK = multiprocessing.get_context("fork")
TEN = [Limit("endpoint/a", requests=10, tokens=1000)]


@pytest.mark.parametrize("seed", range(20))
def test_two_workers_say_what_one_process_would(seed: int) -> None:
    chance, board = random.Random(seed), a_board(2)
    alone, both = MinuteLimits(), [SharedLimits(board, worker=each, workers=2) for each in range(2)]
    held: list[tuple[Grant, Grant]] = []
    now_ms = 1_000_000
    for _ in range(400):
        now_ms += chance.choice((0, 10, 400, 1000, 7000, 70_000))
        one = chance.choice(both)
        if held and chance.random() < 0.4:
            expected, found = held.pop(chance.randrange(len(held)))
            used = chance.randrange(200)
            alone.settle(expected, tokens=used, now_ms=now_ms)
            one.settle(found, tokens=used, now_ms=now_ms)
            continue
        limits = [Limit(f"b{each}", requests=chance.choice((None, 3, 9)), tokens=500) for each in range(3)]
        limits = chance.sample(limits, chance.randrange(1, 4))
        tokens = chance.randrange(1, 120)
        said = alone.reserve(limits, tokens=tokens, now_ms=now_ms)
        same = one.reserve(limits, tokens=tokens, now_ms=now_ms)
        assert said == same
        if isinstance(said, Grant) and isinstance(same, Grant):
            held.append((said, same))


def _take_what_there_is(board: Board, worker: int, ready: Barrier, found: multiprocessing.SimpleQueue[int]) -> None:
    limits = SharedLimits(board, worker=worker, workers=WORKERS)
    ready.wait()
    admitted = 0
    for attempt in range(50):
        said = limits.reserve(TEN, tokens=90 + attempt % 3, now_ms=5_000_000)
        admitted += isinstance(said, Grant)
    found.put(admitted)


@pytest.mark.parametrize("again", range(3))
def test_four_processes_with_two_hundred_requests_admit_ten_for_ten(again: int) -> None:
    board, ready, found = a_board(WORKERS), FORK.Barrier(WORKERS), FORK.SimpleQueue()
    processes = [FORK.Process(target=_take_what_there_is, args=(board, each, ready, found)) for each in range(WORKERS)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(60)

    assert sum(found.get() for _ in processes) == 10
    said = SharedLimits(board, worker=0, workers=WORKERS).reserve(TEN, tokens=1, now_ms=5_000_000)
    assert isinstance(said, Refused)
    assert said.requests_left is not None
    assert said.requests_left.remaining == 0


def _die_with_the_lock(board: Board) -> None:
    board.__enter__()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_with_the_lock_stops_nobody() -> None:
    board = a_board(2)
    dead = FORK.Process(target=_die_with_the_lock, args=(board,))
    dead.start()
    dead.join(30)

    assert dead.exitcode == -signal.SIGKILL
    assert isinstance(SharedLimits(board, worker=0, workers=2).reserve(TEN, tokens=1, now_ms=1_000_000), Grant)


def _hold(board: Board, ready: Barrier) -> None:
    with board:
        ready.wait()
        ready.wait()


def test_while_a_worker_stands_still_with_the_lock_requests_are_refused_and_bills_wait() -> None:
    board, ready = a_board(2), FORK.Barrier(2)
    limits = SharedLimits(board, worker=0, workers=2)
    first = limits.reserve(TEN, tokens=900, now_ms=1_000_000)
    assert isinstance(first, Grant)
    holder = FORK.Process(target=_hold, args=(board, ready))
    holder.start()
    ready.wait()

    with pytest.raises(HttpRefusal) as refused:
        limits.reserve(TEN, tokens=1, now_ms=1_000_000)
    limits.settle(first, tokens=100, now_ms=1_000_000)
    ready.wait()
    holder.join(30)

    assert refused.value.status == 503
    again = limits.reserve(TEN, tokens=890, now_ms=1_000_000)
    assert isinstance(again, Grant)
    assert b"remaining-tokens: 10\r\n" in again.headers


def test_what_a_dead_worker_had_running_is_over_and_what_it_admitted_still_counts() -> None:
    board = a_board(2)
    limits = [SharedLimits(board, worker=each, workers=2) for each in range(2)]
    for _ in range(9):
        limits[1].reserve(TEN, tokens=1, now_ms=1_000_000)
    at = board.find("endpoint/a")
    assert at is not None
    board.cells[at + RUNNING + 1] = 5

    forget(board, 1)

    assert board.cells[at + RUNNING + 1] == 0
    assert isinstance(limits[0].reserve(TEN, tokens=1, now_ms=1_000_000), Grant)
    assert isinstance(limits[0].reserve(TEN, tokens=1, now_ms=1_000_000), Refused)


def test_a_full_board_gives_idle_rows_to_new_names_and_refuses_when_none_is_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(boards, "PROBES", 8)
    board = Board(cells=4, rows=8)
    with board:
        for each in range(8):
            at = board.claim(f"name-{each}", idle=range(1, 2), idle_before=100)
            board.cells[at] = 100 + each
        with pytest.raises(Unavailable, match="no room"):
            board.claim("one more", idle=range(1, 2), idle_before=100)

        at = board.claim("one more", idle=range(1, 2), idle_before=101)

        assert board.find("one more") == at
        assert board.find("name-0") is None
        assert board.find("name-7") is not None


def test_a_name_without_a_row_is_not_looked_for_beyond_one_that_was_never_given_away() -> None:
    board = Board(cells=4, rows=64)
    with board:
        taken = [board.claim(f"name-{each}") for each in range(32)]
    looked: list[int] = []

    class Watched(Board):
        def _places(self, high: int) -> Iterator[int]:
            for at in super()._places(high):
                looked.append(at)
                yield at

    board.__class__ = Watched

    assert [board.find(f"other-{each}") for each in range(1000)] == [None] * 1000
    assert [board.find(f"name-{each}") for each in range(32)] == taken
    assert len(looked) < 1000 * 16  # Of 64 places that it may have, on a board that is half full.


def test_names_are_read_from_a_board_that_keeps_them_and_no_longer_than_they_have_a_row() -> None:
    board, seen = Board(cells=2, rows=64, name_cells=2), Board(cells=2, rows=64)
    with board:
        first = board.claim("quota/acme")
        board.claim("a name that is longer than its cells")
    assert board.names() == {"quota/acme": first}

    board.cells[first] = 7
    with board:
        for each in range(63):
            board.claim(f"new-{each}", idle=range(1, 2), idle_before=8)

    assert "quota/acme" not in board.names()
    assert board.names()["new-62"] == board.find("new-62")
    assert seen.names() == {}
