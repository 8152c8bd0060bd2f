"""A unit of work in SQL. Each promise is one conditional statement: no check before an act, nothing between them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, CursorResult, Executable, bindparam, case, insert, select, update

from libs.common.audit import NOTHING_BEFORE, Deed, Sealed, sealed
from libs.common.bus.port import Message, is_of_bucket
from libs.common.errors import Conflict, MillraceError, Stale
from libs.common.store.database import Database, Duplicate, meaning
from libs.common.store.entering import COUNTED, add_to_sums, new_of, with_ids
from libs.common.store.entering import insert as insert_entries
from libs.common.store.foreseeing import LOAD, Foreseen, foresee, record_of
from libs.common.store.port import Committed, Entry, JournalRow, Record, Taken
from libs.common.store.tables import CHAINS, COUNTERS, DEEDS, INBOX, JOURNAL, OUTBOX, PUTS, RECORDS, WORDS

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
        self.see_all: Executable = make(INBOX).on_conflict_do_nothing().returning(INBOX.c.reader, INBOX.c.event_id)
        put = make(PUTS)
        news = {each: put.excluded[each] for each in ("stream", "id", "body")}
        self.put: Executable = put.on_conflict_do_update(index_elements=["subject"], set_=news)
        self.create: Executable = make(RECORDS).on_conflict_do_nothing().execution_options(**COUNTED)
        self.dialect = database.dialect
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
        self._foreseen: Foreseen | None = None
        self._later: dict[Executable, list[dict[str, object]]] = {}
        self._is_outgoing = False
        self._wakes_ms: list[int] = []
        self.broken: MillraceError | None = None

    @property
    def left(self) -> Committed:
        """What its commit leaves to do."""
        return Committed(self._is_outgoing, min(self._wakes_ms, default=None))

    def foresee(self, taken: Sequence[tuple[str, str, str]]) -> None:
        """Read what is taken next in one go, and lock it in the order given."""
        if len({(kind, key) for kind, key, _ in taken}) == len(taken):
            self._foreseen = foresee(taken, self._run, self._statements.see_all, now_ms=self._now_ms)

    def seen(self, reader: str, event_id: str) -> bool:
        """Whether ``reader`` took this event before; if not, it has now."""
        if self._foreseen and (known := self._foreseen.seen.pop((reader, event_id), None)) is not None:
            return known
        row = {"reader": reader, "event_id": event_id, "at_ms": self._now_ms}
        return self._run(self._statements.see, row).rowcount == 0

    def load(self, kind: str, key: str) -> Record | None:
        """The record as stored, locked against other writers until the unit ends."""
        if self._foreseen and (kind, key) in self._foreseen.records:
            return self._foreseen.records[kind, key]
        row = self._run(LOAD_TO_WRITE, {"kind": kind, "key": key}).first()
        return None if row is None else record_of(row)

    def save(self, record: Record, *, was: int) -> None:
        """Store the record as version ``was + 1``."""
        values = _values_of(record, version=was + 1)
        if record.wake_at_ms is not None:
            self._wakes_ms.append(record.wake_at_ms)
        foreseen = self._foreseen.records.pop((record.kind, record.key), None) if self._foreseen else None
        if was == 0:
            if self._run(self._statements.create, values).rowcount == 0:
                raise self._why_not_created(record)
            return
        values = {**values, "of_kind": record.kind, "of_key": record.key, "was": was}
        if foreseen is not None and record.label is None:
            self._append(OVERWRITE, values)
            return
        try:
            done = self._run(OVERWRITE, values)
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
        self._append(APPEND, values)

    def enqueue(self, message: Message) -> None:
        """Put a message into the outbox."""
        values = {
            "id": message.id,
            "stream": message.stream,
            "subject": message.subject,
            "headers": json.dumps(dict(message.headers)),
            "body": message.body,
        }
        self._append(ENQUEUE, values)
        self._is_outgoing = True
        if is_of_bucket(message):
            put = {"subject": message.subject, "stream": message.stream, "id": message.id, "body": message.body}
            self._append(self._statements.put, put)

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
        if not entries:
            return []
        new, conflicts = new_of(entries, {})
        if not conflicts and self._added(new):  # All are new, as nearly always: nothing was asked.
            return []
        known = with_ids(self._statements.dialect, (each.id for each in entries), self._run)
        new, conflicts = new_of(entries, known)
        new = tuple(each for each in new if each.id not in known)
        if new and not self._added(new):
            raise Stale("somebody else entered some of these entries just now")
        return conflicts

    def _added(self, new: Sequence[Entry]) -> bool:
        """Whether all of these were new, and are added to the ledger and its sums; else nothing changed."""
        with self._meaning():
            attempt = self._connection.begin_nested()
            if not insert_entries(self._connection, new):
                attempt.rollback()
                return False
            add_to_sums(self._connection, new)
            attempt.commit()
            return True

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

    def flush(self) -> None:
        """Write what of a foreseen unit nobody reads before the commit, each table's rows in one go. Raises Stale."""
        for statement, rows in self._later.items():
            if self._run(statement, rows).rowcount != len(rows) and statement is OVERWRITE:
                raise Stale("somebody else wrote some of these records just now")

    def _append(self, statement: Executable, values: Mapping[str, object]) -> None:
        if self._foreseen is None:
            self._run(statement, values)
        else:
            self._later.setdefault(statement, []).append(dict(values))

    def _why_not_created(self, record: Record) -> MillraceError:
        if self.load(record.kind, record.key) is None:
            return _taken(record)
        return Stale(f"{record.kind} {record.key} exists already")

    def _run(self, statement: Executable, values: Mapping[str, object] | list[dict[str, object]]) -> CursorResult[Any]:
        with self._meaning():
            return self._connection.execute(statement, values)

    @contextmanager
    def _meaning(self) -> Iterator[None]:
        try:
            with meaning():
                yield
        except MillraceError as error:
            self.broken = error
            raise


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
