"""The usage journal on disk: what requests write is appended to a log, what waits long for the ledger goes to SQLite.

A row is appended in the event loop, for less than a microsecond, and survives the death of this process from then on. A
thread syncs the log whenever somebody waits for the disk, once for all who do (group commit), and soon after anything
else. A finished row stays in memory until the ledger has it, which takes a fraction of a second; when the file after
its own is full too, what is left is poured into SQLite, in one commit: so a ledger that is away costs disk, not memory.
The next start pours what it finds. What is in both is sent twice, and counted once: its request id is the ledger's key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from libs.common.errors import Unavailable
from libs.common.events.route import RequestUsage
from services.router.core.serving import Row
from services.router.shell import metrics
from services.router.shell.journal.durable import Durable, broken, kept
from services.router.shell.journal.finished import Finished, request_id_of
from services.router.shell.journal.segment import Segment, only_one, records
from services.router.shell.journal.store import Backlog

log = logging.getLogger(__name__)

SEGMENT_BYTES: Final = 4 * 1024 * 1024  # About 3,500 requests; filling one with zeros takes 2 ms.
LAZY_SYNC_S: Final = 0.1  # How late a checkpoint is on disk: 15 tokens of a fast stream, within what a crash may cost.
# A sync costs the kernel and us 100 us, whoever waits for it. Where some did, the next begins no sooner than this after
# it: then more share it. Below a thousand requests a second nobody waits so.
COMPANY: Final = 4
PACE_S: Final = 0.004
CLOSE_S: Final = 10.0
LIVE, DONE = b"L", b"D"

_encode: Final = msgspec.json.Encoder().encode


class LogUsageJournal:
    """A journal in files beside ``path``, which is the SQLite file.

    ``loop`` is where those who wait for the disk live: all who begin to wait in one turn of it share a sync. Without
    one, they are told in the journal's thread.
    ``waits_for_disk``: False where the disk goes with the machine anyway; then a row is durable once it is appended.
    """

    def __init__(
        self,
        path: str,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        waits_for_disk: bool = True,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._path = Path(path)
        self._post: Callable[[Callable[[], None]], object] = loop.call_soon_threadsafe if loop else lambda job: job()
        self._later: Callable[[float, Callable[[], None]], object] = loop.call_later if loop else lambda _s, job: job()
        self._waits = waits_for_disk
        self._segment_bytes = segment_bytes
        self._guard = only_one(self._path)
        self._backlog = Backlog(path)
        self._left = sorted(self._path.parent.glob(f"{self._path.name}.log.*"))  # By dead processes.
        self._number = int(self._left[-1].suffix[1:]) if self._left else 0
        self._lock = threading.Lock()
        self._live: dict[str, Row] = {}
        self._done = Finished()  # What is in the log alone.
        self._next: Durable | None = None  # What those have who wait for the next sync.
        self._is_closed = False
        self._broken: OSError | None = None
        self._not_before_s = 0.0  # When the next sync may begin.
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._segment = self._new_segment(0)
        self._unsynced: list[Segment] = []  # Those before it.
        self._full: tuple[Segment, Sequence[str]] | None = None  # The one before it, and whose last rows it may have.
        self._spare: Segment | None = None
        self._thread = threading.Thread(target=self._run, name="usage-journal", daemon=True)
        self._thread.start()
        self._jobs.put(self._make_spare)

    # What a request calls: from the event loop, so nothing here waits.

    def begin(self, row: Row) -> None:
        """A request is admitted. Raises Unavailable if that can't be written down."""
        record = LIVE + _encode(row)
        with self._lock:
            if not self._segment.append(record):
                self._turn(record)
            self._live[row.request_id] = row

    def checkpoint(self, row: Row) -> None:
        """Replace the live row."""
        record = LIVE + _encode(row)
        with self._lock:
            if row.request_id in self._live:
                with contextlib.suppress(Unavailable):  # The row before it stands.
                    if not self._segment.append(record):
                        self._turn(record)
                    self._live[row.request_id] = row

    def finish(self, row: Row) -> Durable:
        """The request is over."""
        record = _encode(row)
        with self._lock:
            if not self._segment.append(DONE + record):
                try:
                    self._turn(DONE + record)
                except Unavailable as wrong:
                    return broken(wrong)
            self._live.pop(row.request_id, None)
            self._done.add(row.request_id, record)
            return self._wait()

    def on_disk(self) -> Durable:
        """What was written so far."""
        with self._lock:
            return self._wait()

    def _wait(self) -> Durable:
        if not self._waits:
            return kept()
        waited = self._next
        if waited is None:
            self._next = waited = Durable()
            wait_s = self._not_before_s - time.monotonic()  # The loop waits, as its thread would only be woken for it.
            self._later(wait_s if wait_s > 0 else 0, lambda: self._jobs.put(self._sync))
        return waited

    def _turn(self, record: bytes) -> None:
        """Write it into the next file; that begins with the live rows, so only finished ones need the one before."""
        if self._broken is not None:
            raise Unavailable(f"the usage journal's disk failed: {self._broken.strerror}; restart the router")
        live = [LIVE + _encode(each) for each in self._live.values()]
        live_bytes = sum(map(len, live)) + 16 * len(live) + len(record)
        fresh, self._spare = self._spare, None
        if fresh is not None and fresh.size_bytes < 2 * live_bytes:
            fresh.discard()
            fresh = None
        if fresh is not None:
            fresh.rename(self._next_path())
        else:
            try:
                fresh = self._new_segment(2 * live_bytes)
            except OSError as full:
                raise Unavailable(f"the usage journal can't be written: {full.strerror}") from full
        for each in (*live, record):
            _put(fresh, each)
        old, self._segment = self._segment, fresh
        self._unsynced.append(old)
        last, self._full = self._full, (old, self._done.ids())
        self._jobs.put(self._make_spare if last is None else partial(self._retire, *last))

    def _new_segment(self, least_bytes: int) -> Segment:
        return Segment(self._next_path(), size_bytes=max(self._segment_bytes, least_bytes))

    def _next_path(self) -> Path:
        self._number += 1
        return self._path.with_name(f"{self._path.name}.log.{self._number:08}")

    # What the journal's thread does.

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=LAZY_SYNC_S if self._segment.is_dirty else None)
            except queue.Empty:
                job = self._sync
            if job is None:
                return
            try:
                job()
            except (OSError, Unavailable) as wrong:
                log.error("usage journal: %s", wrong)

    def _sync(self) -> None:
        began_s = time.monotonic()
        with self._lock:
            self._segment.note_seen()
            waited, self._next = self._next, None
            segments, self._unsynced = [*self._unsynced, self._segment], []
        error: BaseException | None = self._broken
        if error is None:
            try:
                for each in segments:
                    each.sync()
                for each in segments[:-1]:  # Full: none of its pages need be ours any longer.
                    each.unmap()
                metrics.JOURNAL_SECONDS.observe(time.monotonic() - began_s)
            except OSError as wrong:  # What the disk has now, nobody knows, and a second try would not say: stop here.
                with self._lock:
                    error = self._broken = wrong
                    self._segment.shut()
        self._not_before_s = began_s + PACE_S if waited is not None and waited.waiting >= COMPANY else 0.0
        if waited is not None:
            self._post(partial(waited.settle, error))

    def _retire(self, old: Segment, finished: Sequence[str]) -> None:
        """Remove a full file, when nothing is in it alone; the ledger has had time for nearly all of it."""
        self._sync()
        self._pour(finished)
        old.discard()
        self._make_spare()

    def _pour(self, finished: Sequence[str]) -> None:
        with self._lock:
            rows = self._done.rows(finished)
        self._backlog.add(rows)
        with self._lock:
            self._done.forget([each for each, _, _ in rows])

    def _make_spare(self) -> None:
        with self._lock:
            if self._spare is not None:
                return  # Its file would be unlinked while the loop may take it.
        path = self._path.with_name(f"{self._path.name}.spare")
        path.unlink(missing_ok=True)
        spare = Segment(path, size_bytes=self._segment_bytes)
        with self._lock:
            self._spare = spare

    # What the sender, and the next start, ask: from threads.

    def recover(self) -> int:
        """Pour what dead processes left; their live rows are finished as they stand."""
        live: dict[str, bytes] = {}
        done: dict[str, bytes] = {}
        for path in self._left:
            for record in records(path):
                request_id = request_id_of(record[1:])
                if record[:1] == DONE:
                    live.pop(request_id, None)
                    done[request_id] = record[1:]
                elif request_id not in done:
                    live[request_id] = record[1:]
        self._backlog.add([(each, row.decode(), None) for each, row in {**done, **live}.items()])
        for path in self._left:
            path.unlink()
        self._left = []
        return len(live) + self._backlog.recover()

    def adopt(self, rows: Sequence[RequestUsage]) -> None:
        """Keep finished rows of another journal, on disk. Raises Unavailable; then none is kept."""
        self._backlog.add([(each.request_id, each.model_dump_json(), None) for each in rows])

    def unconfirmed(self, *, sent_before_ms: int, limit: int) -> Mapping[str, bytes]:
        """Finished rows that wait to be sent, or to be sent again."""
        found = self._backlog.unconfirmed(sent_before_ms=sent_before_ms, limit=limit)
        with self._lock:
            return found | self._done.due(sent_before_ms=sent_before_ms, limit=limit - len(found))

    def mark_sent(self, request_ids: Sequence[str], *, now_ms: int) -> None:
        """The bus has these."""
        with self._lock:
            self._done.mark_sent(request_ids, now_ms=now_ms)
        self._backlog.mark_sent(request_ids, now_ms=now_ms)

    def confirm(self, request_ids: Sequence[str]) -> int:
        """The ledger has these."""
        with self._lock:
            known = self._done.forget(request_ids)
        return len(known) + self._backlog.confirm([each for each in request_ids if each not in known])

    def backlog(self) -> int:
        """How many finished rows wait."""
        return len(self._done) + self._backlog.count

    def close(self) -> None:
        """Finish what was asked for, then give the files back."""
        if self._is_closed:
            return
        self._is_closed = True
        self._jobs.put(self._sync)
        self._jobs.put(lambda: self._pour(self._done.ids()))
        self._jobs.put(None)
        self._thread.join(CLOSE_S)
        for each in (self._segment, *(self._full or ())[:1]):
            if self._live or self._done:
                each.close()
            else:
                each.discard()
        if self._spare is not None:
            self._spare.discard()
        self._backlog.close()
        os.close(self._guard)


def _put(segment: Segment, record: bytes) -> None:
    """Into a file that was made large enough: what does not fit would be nobody's bill."""
    if not segment.append(record):
        raise AssertionError(f"{segment.path.name} is too small for what it was made for")
