"""A unit of work in SQL. Each promise is one conditional statement: no check before an act, nothing between them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, CursorResult, Executable, bindparam, case, insert, select, update

from libs.common.audit import NOTHING_BEFORE, Deed, Sealed, sealed
from libs.common.bus.port import Message
from libs.common.errors import Conflict, MillraceError, Stale
from libs.common.store.database import Database, Duplicate, meaning
from libs.common.store.ledger import IDS_MAX, KNOWN, added_to_sums, adding, rows_of
from libs.common.store.port import Attention, Entry, JournalRow, Record, Taken
from libs.common.store.tables import CHAINS, COUNTERS, DEEDS, ENTRIES, INBOX, JOURNAL, OUTBOX, RECORDS, WORDS

COUNTED: Final = {"preserve_rowcount": True}

LOAD: Final = select(RECORDS).where(RECORDS.c.kind == bindparam("kind"), RECORDS.c.key == bindparam("key"))
# Writers of one record queue at its row, rather than all decide and all but one decide again.
LOAD_TO_WRITE: Final = LOAD.with_for_update(key_share=True)
OVERWRITE: Final = update(RECORDS).where(
    RECORDS.c.kind == bindparam("of_kind"), RECORDS.c.key == bindparam("of_key"), RECORDS.c.version == bindparam("was")
)
APPEND: Final = insert(JOURNAL).inline()
ENQUEUE: Final = insert(OUTBOX).inline()
LEFT: Final = COUNTERS.c.value - bindparam("amount")
EXTEND: Final = update(CHAINS).where(CHAINS.c.chain == bindparam("of")).values(hash=bindparam("to"))
SEAL: Final = insert(DEEDS).inline()
ALL: Final = "*"  # The chain of all rows; a tenant's has its id, which is never this.
GIVE: Final = update(COUNTERS).where(COUNTERS.c.name == bindparam("of")).values(value=case((LEFT > 0, LEFT), else_=0))


class Statements:
    """The statements whose form depends on the dialect; made once a store."""

    def __init__(self, database: Database) -> None:
        make = database.insert
        amount, limit = bindparam("amount", type_=BigInteger()), bindparam("limit", type_=BigInteger())
        fits = COUNTERS.c.value + amount <= limit
        first = select(bindparam("name", type_=WORDS), amount).where(amount <= limit)
        self.see: Executable = make(INBOX).on_conflict_do_nothing().execution_options(**COUNTED)
        self.create: Executable = make(RECORDS).on_conflict_do_nothing().execution_options(**COUNTED)
        self.enter: Executable = make(ENTRIES).on_conflict_do_nothing().execution_options(**COUNTED)
        self.add: Executable = adding(database)
        self.chain: Executable = (
            make(CHAINS)
            .values(chain=bindparam("of"), seq=1, hash=NOTHING_BEFORE)
            .on_conflict_do_update(index_elements=["chain"], set_={"seq": CHAINS.c.seq + 1})
            .returning(CHAINS.c.seq, CHAINS.c.hash)
        )
        self.take: Executable = (
            make(COUNTERS)
            .from_select(["name", "value"], first)
            .on_conflict_do_update(index_elements=["name"], set_={"value": COUNTERS.c.value + amount}, where=fits)
            .execution_options(**COUNTED)
        )


class SqlUnit:
    """Changes within one database transaction. After a database error it can only be left, never committed."""

    def __init__(self, connection: Connection, statements: Statements, *, now_ms: int) -> None:
        self._connection = connection
        self._statements = statements
        self._now_ms = now_ms
        self.broken: MillraceError | None = None

    def seen(self, reader: str, event_id: str) -> bool:
        """Whether ``reader`` took this event before; if not, it has now."""
        row = {"reader": reader, "event_id": event_id, "at_ms": self._now_ms}
        return self._run(self._statements.see, row).rowcount == 0

    def load(self, kind: str, key: str) -> Record | None:
        """The record as stored, locked against other writers until the unit ends."""
        row = self._run(LOAD_TO_WRITE, {"kind": kind, "key": key}).first()
        return None if row is None else record_of(row)

    def save(self, record: Record, *, was: int) -> None:
        """Store the record as version ``was + 1``."""
        values = _values_of(record, version=was + 1)
        if was == 0:
            if self._run(self._statements.create, values).rowcount == 0:
                raise self._why_not_created(record)
            return
        try:
            done = self._run(OVERWRITE, {**values, "of_kind": record.kind, "of_key": record.key, "was": was})
        except Duplicate:
            self.broken = _taken(record)
            raise self.broken from None
        if done.rowcount == 0:
            raise Stale(f"{record.kind} {record.key} is not at version {was}")

    def journal(self, row: JournalRow) -> None:
        """Append to the journal."""
        values = {
            "kind": row.kind,
            "key": row.key,
            "version": row.version,
            "at_ms": row.at_ms,
            "cause_id": row.cause_id,
            "cause_type": row.cause_type,
            "cause": row.cause,
        }
        self._run(APPEND, values)

    def enqueue(self, message: Message) -> None:
        """Put a message into the outbox."""
        values = {
            "id": message.id,
            "stream": message.stream,
            "subject": message.subject,
            "headers": json.dumps(dict(message.headers)),
            "body": message.body,
        }
        self._run(ENQUEUE, values)

    def take(self, counter: str, amount: int, limit: int) -> bool:
        """Add to a counter if the sum stays within ``limit``."""
        assert amount >= 0, amount
        return self._run(self._statements.take, {"name": counter, "amount": amount, "limit": limit}).rowcount == 1

    def give(self, counter: str, amount: int) -> None:
        """Subtract from a counter; it never goes below zero."""
        assert amount >= 0, amount
        self._run(GIVE, {"of": counter, "amount": amount})

    def enter(self, entry: Entry) -> None:
        """Add an entry to the ledger."""
        if self.enter_all((entry,)):
            raise Conflict(f"entry {entry.id} is in the ledger with other content", code="entry_conflict")

    def enter_all(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Add entries to the ledger, and to the sums of their hours."""
        ids = sorted({each.id for each in entries})
        known: dict[str, Entry] = {}
        for begin in range(0, len(ids), IDS_MAX):
            rows = self._run(KNOWN, {"ids": ids[begin : begin + IDS_MAX]})
            known |= {row.id: entry_of(row) for row in rows}
        new: dict[str, Entry] = {}
        conflicts = []
        for each in entries:
            there = known.get(each.id) or new.setdefault(each.id, each)
            if there != each:
                conflicts.append(each)
        if new:
            coming = tuple(new.values())
            if self._run(self._statements.enter, rows_of(coming)).rowcount != len(coming):
                raise Stale("somebody else entered some of these entries just now")
            self._run(self._statements.add, added_to_sums(coming))
        return conflicts

    def seal(self, deed: Deed) -> Sealed:
        """Append to the audit."""
        end = self._run(self._statements.chain, {"of": ALL}).one()
        of_tenant = self._run(self._statements.chain, {"of": deed.tenant_id}).one()
        row = sealed(deed, seq=end.seq, tenant_seq=of_tenant.seq, previous=end.hash, tenant_previous=of_tenant.hash)
        place = {"seq": row.seq, "tenant_seq": row.tenant_seq}
        before = {"previous": row.previous, "tenant_previous": row.tenant_previous}
        ends = {"tenant_hash": row.tenant_hash, "hash": row.hash}
        self._run(SEAL, {**place, **asdict(deed), **before, **ends})
        for chain, hash_ in ((ALL, row.hash), (deed.tenant_id, row.tenant_hash)):
            self._run(EXTEND, {"of": chain, "to": hash_})
        return row

    def _why_not_created(self, record: Record) -> MillraceError:
        if self.load(record.kind, record.key) is None:
            return _taken(record)
        return Stale(f"{record.kind} {record.key} exists already")

    def _run(self, statement: Executable, values: Mapping[str, object] | list[dict[str, object]]) -> CursorResult[Any]:
        try:
            with meaning():
                return self._connection.execute(statement, values)
        except MillraceError as error:
            self.broken = error
            raise


def record_of(row: Sequence[Any]) -> Record:
    """The record in a row of its table."""
    kind, key, state, version, sequence, scope, label, wake_at_ms, attention = row
    return Record(kind, key, state, version, sequence, scope, label, wake_at_ms, Attention(attention))


def entry_of(row: Sequence[Any]) -> Entry:
    """The ledger entry in a row of its table."""
    return Entry(*row)


def sealed_of(row: Sequence[Any]) -> Sealed:
    """The row of the audit in a row of its table."""
    seq, tenant_seq, *deed, previous, tenant_previous, tenant_hash, hash_ = row
    return Sealed(seq, tenant_seq, Deed(*deed), previous, tenant_previous, tenant_hash, hash_)


def _taken(record: Record) -> Taken:
    return Taken(f"{record.kind} {record.label!r} exists already in {record.scope}")


def _values_of(record: Record, *, version: int) -> dict[str, object]:
    return {
        "kind": record.kind,
        "key": record.key,
        "state": record.state,
        "version": version,
        "sequence": record.sequence,
        "scope": record.scope,
        "label": record.label,
        "wake_at_ms": record.wake_at_ms,
        "attention": int(record.attention),
    }
