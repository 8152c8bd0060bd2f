"""The usage journal in memory: the same promises as the one on disk, for a simulation that outlives its processes."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import msgspec

from services.router.core.serving import Row
from services.router.shell.journal.durable import Durable, kept


class JournalFile:
    """What a dead process leaves behind: rows by request id, in the order in which they came."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.live: dict[str, tuple[str, Row]] = {}  # With the boot that holds it.
        self.done: dict[str, Row] = {}
        self.sent_ms: dict[str, int] = {}


class MemoryUsageJournal:
    """A journal over a `JournalFile`, written at once."""

    def __init__(self, boot_id: str, file: JournalFile | None = None) -> None:
        self.file = file or JournalFile()
        self._boot_id = boot_id

    def begin(self, row: Row) -> None:
        """A request is admitted."""
        with self.file.lock:
            self.file.live[row.request_id] = (self._boot_id, row)

    def on_disk(self) -> Durable:
        """What was written so far."""
        return kept()

    def checkpoint(self, row: Row) -> None:
        """Replace the live row."""
        with self.file.lock:
            if row.request_id in self.file.live:
                self.file.live[row.request_id] = (self._boot_id, row)

    def finish(self, row: Row) -> Durable:
        """The request is over."""
        with self.file.lock:
            self.file.live.pop(row.request_id, None)
            self.file.done[row.request_id] = row
        return kept()

    def recover(self) -> int:
        """Finish the live rows of other boots as they stand."""
        with self.file.lock:
            dead = [row for boot_id, row in self.file.live.values() if boot_id != self._boot_id]
            for row in dead:
                del self.file.live[row.request_id]
                self.file.done[row.request_id] = row
        return len(dead)

    def unconfirmed(self, *, sent_before_ms: int, limit: int) -> Mapping[str, bytes]:
        """Finished rows that wait to be sent, or to be sent again."""
        with self.file.lock:
            waiting = [
                row
                for request_id, row in self.file.done.items()
                if self.file.sent_ms.get(request_id, sent_before_ms - 1) < sent_before_ms
            ]
        return {row.request_id: msgspec.json.encode(row) for row in waiting[:limit]}

    def mark_sent(self, request_ids: Sequence[str], *, now_ms: int) -> None:
        """The bus has these."""
        with self.file.lock:
            self.file.sent_ms.update({each: now_ms for each in request_ids if each in self.file.done})

    def confirm(self, request_ids: Sequence[str]) -> int:
        """The ledger has these."""
        with self.file.lock:
            known = [each for each in request_ids if self.file.done.pop(each, None) is not None]
            for each in known:
                self.file.sent_ms.pop(each, None)
        return len(known)

    def backlog(self) -> int:
        """How many finished rows wait."""
        return len(self.file.done)

    def close(self) -> None:
        """Nothing to give back."""
