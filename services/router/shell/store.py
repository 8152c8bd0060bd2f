"""The usage journal on disk: one SQLite file, one writer thread, many requests to a commit.

A request must not wait for its own fsync behind everybody else's, nor the event loop for any: what is asked for is
queued, the writer takes all that waits into one transaction, and the futures are done after its commit. It speaks
sqlite3 itself, without SQLModel: five statements, on the way of every request. Each may be done twice (a commit whose
outcome is unknown is tried again) and has the same effect.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from libs.common.errors import Unavailable
from libs.common.events.route import RequestUsage
from services.router.shell import metrics

log = logging.getLogger(__name__)

GROUP_MAX: Final = 512  # Rows of one commit; bounds how long the first of them waits.
QUEUE_MAX: Final = 20_000  # Far beyond what any load leaves waiting; past it the disk is stuck and we refuse to serve.
CALL_TIMEOUT_S: Final = 10.0  # A disk that takes longer is not answering.
ResultT = TypeVar("ResultT")

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS live (request_id TEXT PRIMARY KEY, boot_id TEXT NOT NULL, data TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS done (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL UNIQUE, data TEXT NOT NULL, sent_ms INTEGER
);
"""


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[sqlite3.Connection], Any]
    future: Future[Any]


class SqlUsageJournal:
    """A journal in the file at ``path``, written on behalf of ``boot_id``."""

    def __init__(self, path: str, *, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id
        self._jobs: queue.Queue[_Job | None] = queue.Queue(QUEUE_MAX)
        self._opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="usage-journal", daemon=True)
        self._thread.start()
        self._opened.result(CALL_TIMEOUT_S)

    def begin(self, row: RequestUsage) -> Future[None]:
        """A request is admitted."""
        values = (row.request_id, self._boot_id, row.model_dump_json())
        return self._submit(lambda file: _do(file, "INSERT OR REPLACE INTO live VALUES (?, ?, ?)", values))

    def checkpoint(self, row: RequestUsage) -> Future[None]:
        """Replace the live row."""
        values = (row.model_dump_json(), row.request_id)
        return self._submit(lambda file: _do(file, "UPDATE live SET data = ? WHERE request_id = ?", values))

    def finish(self, row: RequestUsage) -> Future[None]:
        """The request is over."""
        request_id, data = row.request_id, row.model_dump_json()

        def work(file: sqlite3.Connection) -> None:
            file.execute("DELETE FROM live WHERE request_id = ?", (request_id,))
            file.execute("INSERT OR IGNORE INTO done (request_id, data) VALUES (?, ?)", (request_id, data))

        return self._submit(work)

    def recover(self) -> int:
        """Finish the live rows of other boots as they stand."""

        def work(file: sqlite3.Connection) -> int:
            others = (self._boot_id,)
            file.execute(
                "INSERT OR IGNORE INTO done (request_id, data) SELECT request_id, data FROM live WHERE boot_id <> ?"
                " ORDER BY request_id",
                others,
            )
            return file.execute("DELETE FROM live WHERE boot_id <> ?", others).rowcount

        return self._call(work)

    def unconfirmed(self, *, sent_before_ms: int, limit: int) -> Sequence[RequestUsage]:
        """Finished rows that wait to be sent, or to be sent again."""
        query = "SELECT data FROM done WHERE sent_ms IS NULL OR sent_ms < ? ORDER BY seq LIMIT ?"
        rows = self._call(lambda file: file.execute(query, (sent_before_ms, limit)).fetchall())
        return [RequestUsage.model_validate_json(data) for (data,) in rows]

    def mark_sent(self, request_ids: Sequence[str], *, now_ms: int) -> None:
        """The bus has these."""
        rows = [(now_ms, each) for each in request_ids]
        self._call(lambda file: file.executemany("UPDATE done SET sent_ms = ? WHERE request_id = ?", rows).rowcount)

    def confirm(self, request_ids: Sequence[str]) -> int:
        """The ledger has these."""
        rows = [(each,) for each in request_ids]
        return self._call(lambda file: file.executemany("DELETE FROM done WHERE request_id = ?", rows).rowcount)

    def backlog(self) -> int:
        """How many finished rows wait."""
        return self._call(lambda file: int(file.execute("SELECT count(*) FROM done").fetchone()[0]))

    def close(self) -> None:
        """Finish what was asked for, then give the file back."""
        self._jobs.put(None)
        self._thread.join(CALL_TIMEOUT_S)

    def _call(self, work: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        try:
            return self._submit(work).result(CALL_TIMEOUT_S)
        except (sqlite3.Error, TimeoutError) as wrong:
            raise Unavailable(f"the usage journal does not answer: {type(wrong).__name__}") from wrong

    def _submit(self, work: Callable[[sqlite3.Connection], ResultT]) -> Future[ResultT]:
        future: Future[ResultT] = Future()
        try:
            self._jobs.put_nowait(_Job(work, future))
        except queue.Full:
            future.set_exception(Unavailable("the usage journal is too far behind"))
        return future

    def _run(self) -> None:
        try:
            file = _open(self._path)
        except sqlite3.Error as wrong:
            self._opened.set_exception(Unavailable(f"can not open the usage journal {self._path}: {wrong}"))
            return
        self._opened.set_result(None)
        is_open = True
        while is_open:
            group, is_open = self._next_group()
            if group:
                with metrics.JOURNAL_SECONDS.time():
                    _commit(file, group)
        file.close()

    def _next_group(self) -> tuple[list[_Job], bool]:
        job = self._jobs.get()
        group: list[_Job] = []
        while job is not None:
            group.append(job)
            if len(group) >= GROUP_MAX:
                return group, True
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return group, True
        return group, False


def _open(path: str) -> sqlite3.Connection:
    file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    # Rollback journal, not WAL: the SQLite of Debian 12 has the WAL-reset bug (reliability.md L15).
    file.execute("PRAGMA journal_mode=DELETE")
    file.execute("PRAGMA synchronous=FULL")
    file.execute("PRAGMA busy_timeout=5000")
    file.executescript(SCHEMA)
    return file


def _commit(file: sqlite3.Connection, group: Sequence[_Job]) -> None:
    """All in one transaction; if one of them can't be done, each on its own, so that only the bad one fails."""
    try:
        results = _transact(file, group)
    except sqlite3.Error as wrong:
        if len(group) == 1:
            log.error("usage journal refused a write: %s", type(wrong).__name__)
            group[0].future.set_exception(wrong)
            time.sleep(0.01)  # A full disk is not asked in a busy loop.
            return
        for job in group:
            _commit(file, [job])
        return
    for job, result in zip(group, results, strict=True):
        job.future.set_result(result)


def _transact(file: sqlite3.Connection, group: Sequence[_Job]) -> list[Any]:
    try:
        file.execute("BEGIN IMMEDIATE")
        results = [job.work(file) for job in group]
        file.execute("COMMIT")
    except sqlite3.Error:
        if file.in_transaction:
            file.execute("ROLLBACK")
        raise
    return results


def _do(file: sqlite3.Connection, statement: str, values: tuple[str, ...]) -> None:
    file.execute(statement, values)
