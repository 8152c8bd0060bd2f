"""Finished requests that wait long for the ledger, in one SQLite file; most never get here (see `log.py`).

It speaks sqlite3 itself, without SQLModel: a handful of statements. Each may be done twice with the same effect.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from pydantic import TypeAdapter

from libs.common.errors import Unavailable
from libs.common.events.route import RequestUsage

ResultT = TypeVar("ResultT")

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS live (request_id TEXT PRIMARY KEY, boot_id TEXT NOT NULL, data TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS done (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL UNIQUE, data TEXT NOT NULL, sent_ms INTEGER
);
CREATE INDEX IF NOT EXISTS due ON done (coalesce(sent_ms, 0), seq);
"""
_ROWS: Final = TypeAdapter(list[RequestUsage])


class Backlog:
    """The file at ``path``. Called from threads, never from the event loop."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        try:
            self._file = _open(path)
            self.count = int(self._file.execute("SELECT count(*) FROM done").fetchone()[0])
        except sqlite3.Error as wrong:
            raise Unavailable(f"can not open the usage journal {path}: {wrong}") from wrong

    def add(self, rows: Sequence[tuple[str, str, int | None]]) -> None:
        """Keep finished rows: id, JSON, when they were last sent. Raises Unavailable; then none is kept."""
        if rows:
            insert = "INSERT OR IGNORE INTO done (request_id, data, sent_ms) VALUES (?, ?, ?)"
            self.count += self._commit(lambda file: file.executemany(insert, rows).rowcount)

    def recover(self) -> int:
        """Finish the live rows that a router of version 0.1 left, as they stand; returns how many."""

        def work(file: sqlite3.Connection) -> int:
            file.execute("INSERT OR IGNORE INTO done (request_id, data) SELECT request_id, data FROM live")
            return file.execute("DELETE FROM live").rowcount

        found = self._commit(work)
        self.count += found
        return found

    def unconfirmed(self, *, sent_before_ms: int, limit: int) -> dict[str, bytes]:
        """Rows that were never sent or last sent before then, oldest first, as JSON by request id."""
        if not self.count:
            return {}
        query = (
            "SELECT request_id, data FROM done WHERE coalesce(sent_ms, 0) < ?"
            " ORDER BY coalesce(sent_ms, 0), seq LIMIT ?"
        )
        found = self._commit(lambda file: file.execute(query, (sent_before_ms, limit)).fetchall())
        return {request_id: data.encode() for request_id, data in found}

    def mark_sent(self, request_ids: Sequence[str], *, now_ms: int) -> None:
        """The bus has these."""
        if self.count:
            rows = [(now_ms, each) for each in request_ids]
            self._commit(lambda file: file.executemany("UPDATE done SET sent_ms = ? WHERE request_id = ?", rows))

    def confirm(self, request_ids: Iterable[str]) -> int:
        """The ledger has these: forget them; returns how many there were."""
        rows = [(each,) for each in request_ids]
        if not self.count or not rows:
            return 0
        gone = self._commit(lambda file: file.executemany("DELETE FROM done WHERE request_id = ?", rows).rowcount)
        self.count -= gone
        return gone

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def _commit(self, work: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        with self._lock:
            try:
                self._file.execute("BEGIN IMMEDIATE")
                result = work(self._file)
                self._file.execute("COMMIT")
            except sqlite3.Error as wrong:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise Unavailable(f"the usage journal does not answer: {type(wrong).__name__}") from wrong
        return result


def read_rows(rows: Mapping[str, bytes]) -> list[RequestUsage]:
    """Rows as they are reported."""
    return _ROWS.validate_json(b"[%s]" % b",".join(rows.values()))


def _open(path: str) -> sqlite3.Connection:
    file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    # Rollback journal, not WAL: the SQLite of Debian 12 has the WAL-reset bug (reliability.md L15).
    file.execute("PRAGMA journal_mode=DELETE")
    file.execute("PRAGMA synchronous=FULL")
    file.execute("PRAGMA busy_timeout=5000")
    file.executescript(SCHEMA)
    return file
