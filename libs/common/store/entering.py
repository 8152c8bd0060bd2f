"""How ledger entries get into SQL: set by set, past the statement compiler, since this is the path of every request.

Entries that carry the same content, as those of one request do, keep it once: the first holds it, the others name it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection, Executable, Select, bindparam, select, text

from libs.common.store.port import Entry
from libs.common.store.tables import DAY_SUMS, ENTRIES, SUMS
from libs.common.units import DAY_MS, HOUR_MS

IDS_MAX: Final = 500  # Asked for in one statement; far below what either database takes.
# In one statement of SQLite: its driver lets go of Python's lock at each, and beside busy threads waits to get it back.
ROWS_AT_ONCE: Final = 100
SHARED_MIN_BYTES: Final = 128  # Shorter content costs no more than the name of where it is.
COUNTED: Final = {"preserve_rowcount": True}
Values = tuple[object, ...]
Place = tuple[str, int, str, str]

INTO: Final = "INSERT INTO entries (id, account, meter, quantity, at_ms, data, labels, data_of)"
TO_SUMS: Final = "INSERT INTO {0} (account, start_ms, meter, labels, quantity)"
ADD: Final = "ON CONFLICT (account, start_ms, meter, labels) DO UPDATE SET quantity = {0}.quantity + excluded.quantity"
UNNEST: Final = (
    "FROM unnest(%b::text[], %b::text[], %b::text[], %b::bigint[], %b::bigint[], %b::bytea[], %b::text[], %b::text[])"
)
UNNEST_SUMS: Final = "FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::text[], %b::bigint[])"
# PostgreSQL can't keep an id unique over partitions: a table of its own does, and an entry stands where its id does.
STATEMENTS: Final[Mapping[str, tuple[tuple[str, ...], str]]] = MappingProxyType(
    {
        "sqlite": (
            (f"{INTO} VALUES ROWS ON CONFLICT DO NOTHING",),
            f"{TO_SUMS} VALUES ROWS {ADD}",
        ),
        "postgresql": (
            (
                "INSERT INTO entry_ids (id, at_ms) SELECT * FROM unnest(%b::text[], %b::bigint[])"
                " ON CONFLICT DO NOTHING",
                f"{INTO} SELECT * {UNNEST}",
            ),
            f"{TO_SUMS} SELECT * {UNNEST_SUMS} {ADD}",
        ),
    }
)
WITH_ID: Final[Select[Any]] = select(ENTRIES).where(ENTRIES.c.id.in_(bindparam("ids", expanding=True)))
# By the table of ids, which knows in which partition to look.
PLACED: Final[Executable] = text(
    "SELECT entries.id, account, meter, quantity, entries.at_ms, data, labels, data_of FROM entry_ids"
    " JOIN entries ON entries.id = entry_ids.id AND entries.at_ms = entry_ids.at_ms WHERE entry_ids.id = ANY(:ids)"
)
Fetch = Callable[[Executable, Mapping[str, object]], Iterable[Sequence[Any]]]


def new_of(entries: Sequence[Entry], known: Mapping[str, Entry]) -> tuple[tuple[Entry, ...], list[Entry]]:
    """Those to be added, each id once, and those whose id stands with other content."""
    new: dict[str, Entry] = {}
    conflicts = []
    for each in entries:
        there = known.get(each.id) or new.setdefault(each.id, each)
        if there is not each and there != each:
            conflicts.append(each)
    return tuple(new.values()), conflicts


def insert(connection: Connection, entries: Sequence[Entry]) -> bool:
    """Add entries, all of which must be new; False, with some of them added, if one is not."""
    dialect = connection.dialect.name
    statements, _ = STATEMENTS[dialect]
    rows = _rows(entries)
    if dialect == "sqlite":
        return _run_in_parts(connection, statements[0], rows) == len(rows)
    columns = tuple(map(list, zip(*rows, strict=True)))
    if _run(connection, statements[0], (columns[0], columns[4])) != len(rows):
        return False
    return _run(connection, statements[1], columns) == len(rows)


def add_to_sums(connection: Connection, entries: Sequence[Entry]) -> None:
    """Add entries to the sums of their hours and days, in one order for all writers: none waits in a ring."""
    hours: dict[Place, int] = {}
    for each in entries:
        place = (each.account, each.at_ms - each.at_ms % HOUR_MS, each.meter, each.labels)
        hours[place] = hours.get(place, 0) + each.quantity
    days: dict[Place, int] = {}
    for (account, start_ms, meter, labels), quantity in hours.items():
        place = (account, start_ms - start_ms % DAY_MS, meter, labels)
        days[place] = days.get(place, 0) + quantity
    dialect = connection.dialect.name
    _, statement = STATEMENTS[dialect]
    for table, sums in ((SUMS, hours), (DAY_SUMS, days)):
        rows: list[Values] = [(*place, sums[place]) for place in sorted(sums)]
        if dialect == "sqlite":
            _run_in_parts(connection, statement.format(table.name), rows)
        else:
            _run(connection, statement.format(table.name), tuple(map(list, zip(*rows, strict=True))))


def with_ids(dialect: str, ids: Iterable[str], fetch: Fetch) -> dict[str, Entry]:
    """The entries that have these ids, by id."""
    wanted = sorted({*ids})
    statement = WITH_ID if dialect == "sqlite" else PLACED
    chunks = (wanted[begin : begin + IDS_MAX] for begin in range(0, len(wanted), IDS_MAX))
    rows = [row for chunk in chunks for row in fetch(statement, {"ids": chunk})]
    return {each.id: each for each in entries_from(dialect, rows, fetch)}


def entries_from(dialect: str, rows: Sequence[Sequence[Any]], fetch: Fetch) -> list[Entry]:
    """The entries in rows of their table, each with its content."""
    whole = {row[0]: row[5] for row in rows if row[7] is None}
    elsewhere = {row[7] for row in rows if row[7] is not None and row[7] not in whole}
    if elsewhere:
        whole |= {each.id: each.data for each in with_ids(dialect, elsewhere, fetch).values()}
    return [Entry(row[0], row[1], row[2], row[3], row[4], whole[row[7] or row[0]], row[6]) for row in rows]


def _rows(entries: Sequence[Entry]) -> list[Values]:
    """Rows of the table; of neighbours with one content and one time only the first keeps it."""
    rows: list[Values] = []
    first: Entry | None = None
    for each in entries:
        is_shared = first is not None and each.data == first.data and each.at_ms == first.at_ms
        if is_shared and first is not None and len(each.data) >= SHARED_MIN_BYTES:
            data, data_of = b"", first.id
        else:
            data, data_of, first = each.data, None, each
        rows.append((each.id, each.account, each.meter, each.quantity, each.at_ms, data, each.labels, data_of))
    return rows


def _run_in_parts(connection: Connection, statement: str, rows: Sequence[Values]) -> int:
    changed = 0
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[begin : begin + ROWS_AT_ONCE]
        row = f"({', '.join('?' * len(part[0]))})"
        all_of_it = statement.replace("ROWS", ", ".join([row] * len(part)))
        changed += _run(connection, all_of_it, tuple(chain.from_iterable(part)))
    return changed


def _run(connection: Connection, statement: str, values: Values) -> int:
    return connection.exec_driver_sql(statement, values, execution_options=COUNTED).rowcount
