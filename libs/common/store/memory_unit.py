"""A unit of work in memory: changes that are taken over by the store together, or dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from libs.common.audit import NOTHING_BEFORE, Deed, Sealed, sealed
from libs.common.bus.port import Message
from libs.common.errors import Conflict, Stale
from libs.common.store.port import Committed, Entry, JournalRow, Record, Taken

if TYPE_CHECKING:
    from libs.common.store.memory import MemoryStore


@dataclass(slots=True)
class MemoryUnit:
    """Changes that are not yet committed."""

    store: MemoryStore
    inbox: set[tuple[str, str]] = field(default_factory=set)
    records: dict[tuple[str, str], Record] = field(default_factory=dict)
    rows: list[JournalRow] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    sealed: list[Sealed] = field(default_factory=list)

    @property
    def left(self) -> Committed:
        """What its commit leaves to do."""
        wakes_ms = (each.wake_at_ms for each in self.records.values() if each.wake_at_ms is not None)
        return Committed(bool(self.messages), min(wakes_ms, default=None))

    def foresee(self, taken: Sequence[tuple[str, str, str]]) -> None:
        """Nothing is far away here."""

    def seen(self, reader: str, event_id: str) -> bool:
        """Whether ``reader`` took this event before; if not, it has now."""
        if (reader, event_id) in self.store.inbox or (reader, event_id) in self.inbox:
            return True
        self.inbox.add((reader, event_id))
        return False

    def load(self, kind: str, key: str) -> Record | None:
        """The record as stored."""
        return self.records.get((kind, key)) or self.store.records.get((kind, key))

    def save(self, record: Record, *, was: int) -> None:
        """Store the record as version ``was + 1``."""
        stored = self.load(record.kind, record.key)
        if (stored.version if stored else 0) != was:
            raise Stale(f"{record.kind} {record.key} is not at version {was}")
        if record.label is not None:
            holder = self._holder(record.kind, record.scope, record.label)
            if holder is not None and holder.key != record.key:
                raise Taken(f"{record.kind} {record.label!r} exists already in {record.scope}")
        numbered = record if record.version == was + 1 else replace(record, version=was + 1)
        self.records[(record.kind, record.key)] = numbered

    def _holder(self, kind: str, scope: str, label: str) -> Record | None:
        wanted = (kind, scope, label)
        for each in self.records.values():
            if (each.kind, each.scope, each.label) == wanted:
                return each
        holder = self.store.find(kind, scope=scope, label=label)
        return None if holder is not None and (kind, holder.key) in self.records else holder  # It lets go in this unit.

    def journal(self, row: JournalRow) -> None:
        """Append to the journal."""
        self.rows.append(row)

    def enqueue(self, message: Message) -> None:
        """Put a message into the outbox."""
        self.messages.append(message)

    def take(self, counter: str, amount: int, limit: int) -> bool:
        """Add to a counter if the sum stays within ``limit``."""
        value = self.counters.get(counter, self.store.counter(counter)) + amount
        if value > limit:
            return False
        self.counters[counter] = value
        return True

    def give(self, counter: str, amount: int) -> None:
        """Subtract from a counter; it never goes below zero."""
        self.counters[counter] = max(0, self.counters.get(counter, self.store.counter(counter)) - amount)

    def enter(self, entry: Entry) -> None:
        """Add an entry to the ledger."""
        if self.enter_all((entry,)):
            raise Conflict(f"entry {entry.id} is in the ledger with other content", code="entry_conflict")

    def enter_all(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Add entries to the ledger."""
        conflicts = []
        for each in entries:
            known = self.entries.get(each.id) or self.store.ledger.get(each.id)
            if known is not None and known != each:
                conflicts.append(each)
            else:
                self.entries[each.id] = each
        return conflicts

    def seal(self, deed: Deed) -> Sealed:
        """Append to the audit."""
        chain = [*self.store.audit, *self.sealed]
        of_tenant = [each for each in chain if each.deed.tenant_id == deed.tenant_id]
        row = sealed(
            deed,
            seq=len(chain) + 1,
            tenant_seq=len(of_tenant) + 1,
            previous=chain[-1].hash if chain else NOTHING_BEFORE,
            tenant_previous=of_tenant[-1].tenant_hash if of_tenant else NOTHING_BEFORE,
        )
        self.sealed.append(row)
        return row
