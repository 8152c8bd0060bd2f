"""Threads at one SQLite file: writers in order, and a commit neither beside readers nor kept from its end by them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final

import pytest

from libs.common.errors import Unavailable
from libs.common.store.turns import Turns

LONG_S: Final = 60.0  # For what happens at once, also on a machine that has other things to do.


def test_writers_go_in_the_order_in_which_they_came() -> None:
    turns, came, went = Turns(wait_s=LONG_S), threading.Semaphore(0), list[int]()

    def write(number: int) -> None:
        came.release()
        with turns.writing():
            went.append(number)

    with ThreadPoolExecutor(5) as threads:
        with turns.writing():
            waiting = []
            for number in range(5):
                waiting.append(threads.submit(write, number))
                assert came.acquire(timeout=LONG_S)
                _until(partial(_waiting, turns, number + 2))
        for each in waiting:
            each.result(timeout=LONG_S)

    assert went == [0, 1, 2, 3, 4]


def test_one_that_gave_up_waiting_does_not_keep_those_behind_it() -> None:
    turns = Turns(wait_s=0.01)

    with turns.writing(), pytest.raises(Unavailable, match="inside another"), turns.writing():
        pass

    with turns.writing():
        assert len(turns._writers) == 1


def test_a_commit_waits_for_who_reads_and_new_readers_for_the_commit() -> None:
    turns, events = Turns(wait_s=LONG_S), list[str]()

    def commit() -> None:
        with turns.writing(), turns.committing():
            events.append("committed")

    def read() -> None:
        with turns.reading():
            events.append("read")

    with ThreadPoolExecutor(2) as threads:
        with turns.reading():
            committing: Future[None] = threads.submit(commit)
            _until(lambda: turns._is_committing)
            reading = threads.submit(read)
            assert not events
        committing.result(timeout=LONG_S)
        reading.result(timeout=LONG_S)

    assert events == ["committed", "read"]


def test_a_commit_that_a_reader_keeps_waiting_says_so_and_lets_others_read() -> None:
    turns = Turns(wait_s=0.01)

    with turns.reading(), turns.writing(), pytest.raises(Unavailable, match="being read"), turns.committing():
        pass

    with turns.reading(), turns.reading():
        pass


def _waiting(turns: Turns, count: int) -> bool:
    return len(turns._writers) == count


def _until(holds: Callable[[], bool]) -> None:
    for _ in range(round(LONG_S / 0.005)):
        if holds():
            return
        threading.Event().wait(0.005)
    raise AssertionError("did not come to pass")
