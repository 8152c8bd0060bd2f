"""Whose turn it is at a SQLite file, among the threads of one process.

SQLite's own queue sleeps and polls, so under load whoever polls most gets in: a handler that writes all the time would
keep the outbox and the clock away for seconds. Here writers go in the order they came, and readers wait for a commit,
as SQLite has them do while its journal is a rollback journal, without polling.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from libs.common.errors import Unavailable

WAIT_S: Final = 5.0  # Beyond this something is stuck; the bus delivers again.


class Turns:
    """One writer at a time, in order; any number of readers, but while a writer commits."""

    def __init__(self, *, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._changed = threading.Condition()
        self._writers: deque[threading.Lock] = deque()  # The first of them writes; each lock opens when it is its turn.
        self._readers = 0
        self._is_committing = False

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A turn to write. Raises Unavailable if it does not come in time."""
        mine = threading.Lock()
        mine.acquire()
        with self._changed:
            self._writers.append(mine)
            if self._writers[0] is mine:
                mine.release()
        try:
            if not mine.acquire(timeout=self._wait_s):
                raise Unavailable(f"the database was busy for {self._wait_s:g} s; is a unit of work inside another?")
            yield
        finally:
            with self._changed:
                was_first = self._writers[0] is mine
                self._writers.remove(mine)
                if was_first and self._writers:
                    self._writers[0].release()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Beside other readers. Raises Unavailable if a commit takes too long."""
        with self._changed:
            self._wait_until(lambda: not self._is_committing)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Without readers, within a turn to write; those who come now wait. Raises Unavailable if one reads on."""
        with self._changed:
            self._is_committing = True
            try:
                self._wait_until(lambda: not self._readers)
            except Unavailable:
                self._end_commit()
                raise
        try:
            yield
        finally:
            with self._changed:
                self._end_commit()

    def _end_commit(self) -> None:
        self._is_committing = False
        self._changed.notify_all()

    def _wait_until(self, holds: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + self._wait_s
        while not holds():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not self._changed.wait(left_s):
                raise Unavailable(f"the database was being read or written for {self._wait_s:g} s")
