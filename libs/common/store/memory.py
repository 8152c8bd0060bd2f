"""The store in memory: the same promises, no disk. A simulation makes it fail at its commit boundaries."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Final

from libs.common.audit import Sealed
from libs.common.bus.port import Message, is_of_bucket
from libs.common.store.memory_unit import MemoryUnit
from libs.common.store.port import (
    Attention,
    Committed,
    Due,
    Entry,
    Glance,
    JournalRow,
    Outgoing,
    Record,
    Sum,
    Told,
    Total,
)

TOLD_KEPT: Final = 10_000  # Messages that can be read again; bounds what a long simulation holds.


class MemoryStore:
    """A database that forgets when the process ends; `on_commit` is called before and after each commit."""

    def __init__(self, on_commit: Callable[[str], None] = lambda _moment: None) -> None:
        self._on_commit = on_commit
        self._lock = threading.RLock()
        self.records: dict[tuple[str, str], Record] = {}
        self.inbox: set[tuple[str, str]] = set()
        self.rows: list[JournalRow] = []  # In order; each gets its number when somebody reads it.
        self.outbox: dict[int, Message] = {}
        self.last_put: dict[str, Message] = {}
        self.counters: dict[str, int] = {}
        self.ledger: dict[str, Entry] = {}
        self.audit: list[Sealed] = []
        self._position = 0
        self._told: deque[Outgoing] = deque(maxlen=TOLD_KEPT)
        self._hear: list[Callable[[Committed], None]] = []

    def listen(self, hear: Callable[[Committed], None]) -> None:
        """Tell ``hear`` of each commit from now on."""
        self._hear.append(hear)

    @contextmanager
    def transaction(self) -> Iterator[MemoryUnit]:
        """Begin a unit of work."""
        with self._lock:
            unit = MemoryUnit(self)
            yield unit
            self._on_commit("before")
            self._commit(unit)
            self._on_commit("after")
        for hear in self._hear:
            hear(unit.left)

    def _commit(self, unit: MemoryUnit) -> None:
        self.inbox |= unit.inbox
        self.records.update(unit.records)
        self.rows += unit.rows
        for message in unit.messages:
            if is_of_bucket(message):
                self.last_put[message.subject] = message
            self._position += 1
            self.outbox[self._position] = message
            self._told.append(Outgoing(self._position, message))
        self.counters.update(unit.counters)
        self.ledger.update(unit.entries)
        self.audit += unit.sealed

    def load(self, kind: str, key: str) -> Record | None:
        """Read one record."""
        return self.records.get((kind, key))

    def load_all(self, kind: str, keys: Sequence[str]) -> Sequence[Record]:
        """Read several records."""
        return [self.records[kind, key] for key in sorted({*keys}) if (kind, key) in self.records]

    def find(self, kind: str, *, scope: str, label: str) -> Record | None:
        """The record that has this label."""
        return next(
            (each for each in self._of(kind) if each.scope == scope and each.label == label),
            None,
        )

    def page(self, kind: str, *, scope: str | None = None, after: str = "", limit: int = 100) -> Sequence[Record]:
        """Records of a kind in order of their key."""
        return [each for each in self._of(kind) if each.key > after and scope in (None, each.scope)][:limit]

    def attended(self, kind: str, at_least: Attention, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Keys of the records that want this much attention or more."""
        return [each.key for each in self._of(kind) if each.attention >= at_least and each.key > after][:limit]

    def glances(self, kind: str, at_least: Attention, *, after: str = "", limit: int = 1000) -> Sequence[Glance]:
        """The same records as `attended`, without their states."""
        found = (each for each in self._of(kind) if each.attention >= at_least and each.key > after)
        return [Glance(each.key, each.version, each.attention) for each in islice(found, limit)]

    def due(self, kinds: Sequence[str], until_ms: int, limit: int) -> Sequence[Due]:
        """The records of these kinds whose wake-up has come by then."""
        with self._lock:
            found = [
                (each.wake_at_ms, each.kind, each.key)
                for each in self.records.values()
                if each.wake_at_ms is not None and each.wake_at_ms <= until_ms and each.kind in kinds
            ]
        return [Due(kind, key, at_ms) for at_ms, kind, key in sorted(found)[:limit]]

    def pending(self, limit: int) -> Sequence[Outgoing]:
        """The oldest messages of the outbox that are not marked as sent."""
        with self._lock:
            return [Outgoing(position, message) for position, message in list(self.outbox.items())[:limit]]

    def mark_sent(self, positions: Sequence[int]) -> None:
        """The bus has these."""
        with self._lock:
            for position in positions:
                self.outbox.pop(position, None)

    def told(self, *, after: int, limit: int = 1000) -> Told:
        """The outbox in order of commits, sent or not."""
        with self._lock:
            first = self._told[0].position if self._told else 0
            start = max(0, after - first + 1)  # Positions here have no gap.
            return Told(first, self._position, list(islice(self._told, start, start + limit)))

    def counter(self, name: str) -> int:
        """The value of a counter."""
        return self.counters.get(name, 0)

    def journal_rows(self, *, after: int = 0, limit: int = 1000) -> Sequence[JournalRow]:
        """The journal in order of commits."""
        return [replace(row, seq=seq) for seq, row in enumerate(self.rows[after : after + limit], after + 1)]

    def entries(
        self, *, account: str | None = None, from_ms: int = 0, to_ms: int | None = None, limit: int = 1000
    ) -> Sequence[Entry]:
        """Ledger entries by time."""
        found = [
            each
            for each in self.ledger.values()
            if account in (None, each.account) and each.at_ms >= from_ms and (to_ms is None or each.at_ms < to_ms)
        ]
        return sorted(found, key=lambda each: (each.at_ms, each.id))[:limit]

    def deeds(
        self, *, tenant_id: str | None = None, project_id: str | None = None, after: int = 0, limit: int = 1000
    ) -> Sequence[Sealed]:
        """The audit in its order."""
        found = self.audit[after:]
        if tenant_id is not None:
            found = [each for each in self.audit if each.deed.tenant_id == tenant_id and each.tenant_seq > after]
        return [each for each in found if project_id in (None, each.deed.project_id)][:limit]

    def puts(self, *, after: str = "", limit: int = 1000) -> Sequence[Message]:
        """What each key of a bucket was last set to."""
        return [each for key, each in sorted(self.last_put.items()) if key > after and each.body][:limit]

    def sums(
        self,
        *,
        from_ms: int,
        to_ms: int,
        under: str | None = None,
        accounts: Sequence[str] | None = None,
        every_ms: int | None = None,
    ) -> Sequence[Sum]:
        """Exact sums of ledger entries, by account, meter, labels and interval."""
        sums: dict[tuple[str, str, str, int], int] = {}
        for each in self.ledger.values():
            is_wanted = under is None or f"{each.account}/".startswith(f"{under}/")
            if from_ms <= each.at_ms < to_ms and is_wanted and (accounts is None or each.account in accounts):
                start_ms = 0 if every_ms is None else each.at_ms - each.at_ms % every_ms
                place = (each.account, each.meter, each.labels, start_ms)
                sums[place] = sums.get(place, 0) + each.quantity
        return [Sum(*place, sums[place]) for place in sorted(sums)]

    def entries_of(self, ids: Sequence[str]) -> Sequence[Entry]:
        """The ledger entries that have one of these ids."""
        return [self.ledger[each] for each in sorted({*ids}) if each in self.ledger]

    def totals(self, *, from_ms: int, to_ms: int, account: str | None = None) -> Sequence[Total]:
        """Sums of ledger entries, by account and meter."""
        sums: dict[tuple[str, str], int] = {}
        for each in self.ledger.values():
            if account in (None, each.account) and from_ms <= each.at_ms < to_ms:
                sums[(each.account, each.meter)] = sums.get((each.account, each.meter), 0) + each.quantity
        return [Total(account_, meter, quantity) for (account_, meter), quantity in sorted(sums.items())]

    def prune(self, now_ms: int) -> int:
        """Nothing to forget: the process ends before anything is old."""
        del now_ms
        return 0

    def close(self) -> None:
        """Nothing to give back."""

    def _of(self, kind: str) -> list[Record]:
        with self._lock:
            return sorted((each for each in self.records.values() if each.kind == kind), key=lambda each: each.key)
