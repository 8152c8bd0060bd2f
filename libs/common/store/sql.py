"""The store on SQL: SQLite for one machine, PostgreSQL for production. What `port` promises, in statements.

The outbox is read by state, never by a cursor: PostgreSQL commits positions out of order (reliability.md L14).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Executable,
    Integer,
    Row,
    Table,
    bindparam,
    delete,
    func,
    select,
    text,
    tuple_,
    update,
)

from libs.common.audit import Sealed
from libs.common.bus.port import Message
from libs.common.clock import Clock, SystemClock
from libs.common.store.database import Database, meaning
from libs.common.store.entering import entries_from, with_ids
from libs.common.store.foreseeing import KEYS_MAX, LOAD, LOAD_ALL, record_of
from libs.common.store.ledger import Among, summing
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
from libs.common.store.tables import COUNTERS, DEEDS, ENTRIES, INBOX, JOURNAL, OUTBOX, PUTS, RECORDS
from libs.common.store.unit import SqlUnit, Statements, sealed_of
from libs.common.units import DAY_MS

INBOX_KEPT_MS: Final = 35 * DAY_MS  # reliability.md R7: longer than a stream or a backup can bring an event again.
OUTBOX_KEPT_MS: Final = 7 * DAY_MS  # R8: what was sent can be sent again after a broker lost its disk.
PRUNE_ROWS: Final = 1000  # In one transaction, so that pruning never holds up the service.
PRUNE_ROUNDS_MAX: Final = 100

R: Final = RECORDS.c
ATTENDED: Final = text("attention > 0")  # Literal, so that both planners see that the partial index answers it.
OUTGOING: Final = select(
    OUTBOX.c.position, OUTBOX.c.id, OUTBOX.c.stream, OUTBOX.c.subject, OUTBOX.c.body, OUTBOX.c.headers
).order_by(OUTBOX.c.position)
# What is asked when nothing happens is made once: to make a statement anew costs several times what it does.
LIMIT: Final = bindparam("limit", type_=Integer())
PENDING: Final = OUTGOING.where(OUTBOX.c.sent_at_ms.is_(None)).limit(LIMIT)
DUE: Final = (
    select(R.kind, R.key, R.wake_at_ms)
    .where(R.kind.in_(bindparam("kinds", expanding=True)), R.wake_at_ms <= bindparam("until_ms"))
    .order_by(R.wake_at_ms, R.kind, R.key)
    .limit(LIMIT)
)
GLANCES: Final = (
    select(R.key, R.version, R.attention)
    .where(R.kind == bindparam("kind"), R.key > bindparam("after"))
    .order_by(R.key)
    .limit(LIMIT)
)
GLANCES_ATTENDED: Final = GLANCES.where(ATTENDED, R.attention >= bindparam("at_least"))
SPAN: Final = select(func.min(OUTBOX.c.position), func.max(OUTBOX.c.position))


class SqlStore:
    """A service's own database, by URL: ``sqlite:////path/file.db`` or ``postgresql+psycopg://user@host/name``.

    Makes its tables if they are missing. Raises Invalid for a URL that is neither, Unavailable if nothing answers.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._database = Database(url)
        self._statements = Statements(self._database)
        self._hear: list[Callable[[Committed], None]] = []

    def listen(self, hear: Callable[[Committed], None]) -> None:
        """Tell ``hear`` of each commit from now on."""
        self._hear.append(hear)

    @contextmanager
    def transaction(self) -> Iterator[SqlUnit]:
        """Begin a unit of work."""
        with self._database.writing() as connection:
            unit = SqlUnit(connection, self._statements, now_ms=self._clock.now_ms())
            yield unit
            if unit.broken is not None:  # Somebody caught the error; PostgreSQL would "commit" by rolling back.
                raise unit.broken
            unit.flush()
        for hear in self._hear:
            hear(unit.left)

    def load(self, kind: str, key: str) -> Record | None:
        """Read one record."""
        found = self._read(LOAD, {"kind": kind, "key": key})
        return record_of(found[0]) if found else None

    def load_all(self, kind: str, keys: Sequence[str]) -> Sequence[Record]:
        """Read several records."""
        wanted = sorted({*keys})
        chunks = (wanted[begin : begin + KEYS_MAX] for begin in range(0, len(wanted), KEYS_MAX))
        return [record_of(row) for chunk in chunks for row in self._read(LOAD_ALL, {"kind": kind, "keys": chunk})]

    def find(self, kind: str, *, scope: str, label: str) -> Record | None:
        """The record that has this label."""
        found = self._read(select(RECORDS).where(R.kind == kind, R.scope == scope, R.label == label))
        return record_of(found[0]) if found else None

    def page(self, kind: str, *, scope: str | None = None, after: str = "", limit: int = 100) -> Sequence[Record]:
        """Records of a kind in order of their key."""
        wanted = select(RECORDS).where(R.kind == kind, R.key > after).order_by(R.key).limit(limit)
        return [record_of(row) for row in self._read(wanted if scope is None else wanted.where(R.scope == scope))]

    def attended(self, kind: str, at_least: Attention, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Keys of the records that want this much attention or more."""
        wanted = select(R.key).where(R.kind == kind, R.key > after).order_by(R.key).limit(limit)
        if at_least > Attention.NONE:
            wanted = wanted.where(ATTENDED, R.attention >= int(at_least))
        return [row.key for row in self._read(wanted)]

    def glances(self, kind: str, at_least: Attention, *, after: str = "", limit: int = 1000) -> Sequence[Glance]:
        """The same records as `attended`, without their states."""
        values = {"kind": kind, "after": after, "limit": limit}
        if at_least > Attention.NONE:
            found = self._read(GLANCES_ATTENDED, {**values, "at_least": int(at_least)})
        else:
            found = self._read(GLANCES, values)
        return [Glance(row.key, row.version, Attention(row.attention)) for row in found]

    def due(self, kinds: Sequence[str], until_ms: int, limit: int) -> Sequence[Due]:
        """The records of these kinds whose wake-up has come by then."""
        found = self._read(DUE, {"kinds": list(kinds), "until_ms": until_ms, "limit": limit})
        return [Due(row.kind, row.key, row.wake_at_ms) for row in found]

    def pending(self, limit: int) -> Sequence[Outgoing]:
        """The oldest messages of the outbox that are not marked as sent."""
        return [_outgoing(row) for row in self._read(PENDING, {"limit": limit})]

    def mark_sent(self, positions: Sequence[int]) -> None:
        """The bus has these."""
        if not positions:
            return
        mark = update(OUTBOX).where(OUTBOX.c.position.in_(positions)).values(sent_at_ms=self._clock.now_ms())
        with self._database.writing() as connection, meaning():
            connection.execute(mark)

    def told(self, *, after: int, limit: int = 1000) -> Told:
        """The outbox in order of commits, sent or not."""
        first, last = self._read(SPAN)[0]
        if last is None or last <= after:  # Nothing new: no writer has to wait for this reading.
            return Told(first or 0, last or 0, ())
        with self._database.settled(OUTBOX) as connection:
            first, last = connection.execute(SPAN).fetchall()[0]
            rows = connection.execute(OUTGOING.where(OUTBOX.c.position > after).limit(limit)).fetchall()
        return Told(first or 0, last or 0, [_outgoing(row) for row in rows])

    def puts(self, *, after: str = "", limit: int = 1000) -> Sequence[Message]:
        """What each key of a bucket was last set to."""
        kept = (PUTS.c.subject > after, func.length(PUTS.c.body) > 0)
        return [
            Message(row.id, row.stream, row.subject, row.body)
            for row in self._read(select(PUTS).where(*kept).order_by(PUTS.c.subject).limit(limit))
        ]

    def counter(self, name: str) -> int:
        """The value of a counter."""
        found = self._read(select(COUNTERS.c.value).where(COUNTERS.c.name == name))
        return int(found[0].value) if found else 0

    def journal_rows(self, *, after: int = 0, limit: int = 1000) -> Sequence[JournalRow]:
        """The journal in order of commits."""
        wanted = select(JOURNAL).where(JOURNAL.c.seq > after).order_by(JOURNAL.c.seq).limit(limit)
        with self._database.settled(JOURNAL) as connection:
            return [JournalRow(**row._mapping) for row in connection.execute(wanted)]

    def entries(
        self, *, account: str | None = None, from_ms: int = 0, to_ms: int | None = None, limit: int = 1000
    ) -> Sequence[Entry]:
        """Ledger entries by time."""
        wanted = select(ENTRIES).where(*_within(account, from_ms, to_ms))
        rows = self._read(wanted.order_by(ENTRIES.c.at_ms, ENTRIES.c.id).limit(limit))
        return entries_from(self._database.dialect, rows, self._read)

    def deeds(
        self, *, tenant_id: str | None = None, project_id: str | None = None, after: int = 0, limit: int = 1000
    ) -> Sequence[Sealed]:
        """The audit in its order."""
        number = DEEDS.c.seq if tenant_id is None else DEEDS.c.tenant_seq
        wanted = select(DEEDS).where(number > after).order_by(number).limit(limit)
        if tenant_id is not None:
            wanted = wanted.where(DEEDS.c.tenant_id == tenant_id)
        if project_id is not None:
            wanted = wanted.where(DEEDS.c.project_id == project_id)
        return [sealed_of(row) for row in self._read(wanted)]

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
        wanted = summing((from_ms, to_ms), Among(under, None if accounts is None else tuple(accounts)), every_ms)
        return [Sum(row[0], row[1], row[2], row[3], int(row[4])) for row in self._read(wanted)]

    def entries_of(self, ids: Sequence[str]) -> Sequence[Entry]:
        """The ledger entries that have one of these ids."""
        found = with_ids(self._database.dialect, ids, self._read)
        return [found[each] for each in sorted(found)]

    def totals(self, *, from_ms: int, to_ms: int, account: str | None = None) -> Sequence[Total]:
        """Sums of ledger entries, by account and meter."""
        by = (ENTRIES.c.account, ENTRIES.c.meter)
        wanted = select(*by, func.sum(ENTRIES.c.quantity)).where(*_within(account, from_ms, to_ms))
        return [Total(name, meter, int(sum_)) for name, meter, sum_ in self._read(wanted.group_by(*by).order_by(*by))]

    def prune(self, now_ms: int) -> int:
        """Forget events that can't come again and messages sent long ago; returns how many rows went."""
        self._database.keep_months(now_ms)
        return self._prune(INBOX, INBOX.c.at_ms, now_ms - INBOX_KEPT_MS) + self._prune(
            OUTBOX, OUTBOX.c.sent_at_ms, now_ms - OUTBOX_KEPT_MS
        )

    def close(self) -> None:
        """Give back connections."""
        self._database.close()

    def _read(self, wanted: Executable, values: Mapping[str, object] | None = None) -> Sequence[Row[*tuple[Any, ...]]]:
        with self._database.reading() as connection:
            return connection.execute(wanted, values).fetchall()

    def _prune(self, table: Table, at_ms: Column[int], before_ms: int) -> int:
        pruned = 0
        key = table.primary_key.columns
        for _ in range(PRUNE_ROUNDS_MAX):
            old = select(*key).where(at_ms < before_ms).limit(PRUNE_ROWS)
            with self._database.writing() as connection, meaning():
                went = connection.execute(delete(table).where(tuple_(*key).in_(old))).rowcount
            pruned += went
            if went < PRUNE_ROWS:
                break
        return pruned


def _outgoing(row: Row[*tuple[Any, ...]]) -> Outgoing:
    return Outgoing(row.position, Message(row.id, row.stream, row.subject, row.body, json.loads(row.headers)))


def _within(account: str | None, from_ms: int, to_ms: int | None) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = [ENTRIES.c.at_ms >= from_ms]
    if to_ms is not None:
        wanted.append(ENTRIES.c.at_ms < to_ms)
    if account is not None:
        wanted.append(ENTRIES.c.account == account)
    return wanted
