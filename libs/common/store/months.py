"""The ledger of PostgreSQL in a part for each month: what is written today touches small indexes that stay in memory.

What is older than the ledger's first month is in `entries_before`, what no month has is in `entries_rest`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Column, ColumnClause, Connection, MetaData, Table, column, delete, insert, select, table, text
from sqlalchemy.schema import CreateColumn, CreateIndex

from libs.common.store.tables import ENTRIES, IDS

BEFORE: Final = "entries_before"
AHEAD: Final = 3  # Months that are made beforehand; one that begins without its own goes into the rest.
NOW_MS: Final = text("SELECT CAST(extract(epoch FROM now()) * 1000 AS bigint)")
PARTS: Final = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'entries'::regclass")
IS_PARTED: Final = text("SELECT relkind = 'p' FROM pg_class WHERE oid = 'entries'::regclass")


def month_at(at_ms: int, *, later: int = 0) -> tuple[str, int]:
    """The name and the start of the month that a time is in, or of one `later`."""
    when = datetime.fromtimestamp(at_ms / 1000, UTC)
    months = when.year * 12 + when.month - 1 + later
    start = datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)
    return f"entries_{start:%Y_%m}", round(start.timestamp() * 1000)


def part_by_month(connection: Connection, *, is_there: bool) -> None:
    """Make the ledger's table in parts; one that `is_there` in a piece becomes the first of them, as it is."""
    if is_there:
        if connection.execute(IS_PARTED).scalar_one():
            return
        connection.execute(text("SET LOCAL statement_timeout = 0"))  # Once in a ledger's life, and it reads all of it.
        connection.execute(text("ALTER TABLE entries RENAME TO entries_before"))
    columns = ", ".join(str(CreateColumn(each).compile(dialect=connection.dialect)) for each in ENTRIES.columns)
    connection.execute(text(f"CREATE TABLE entries ({columns}) PARTITION BY RANGE (at_ms)"))
    for index in ENTRIES.indexes:
        connection.execute(CreateIndex(index))
    connection.execute(text("CREATE TABLE entries_rest PARTITION OF entries DEFAULT"))
    now_ms = connection.execute(NOW_MS).scalar_one()
    _, border_ms = month_at(now_ms, later=1 if is_there else 0)
    before = "entries_before FOR VALUES FROM (MINVALUE) TO"
    IDS.create(connection)
    if is_there:
        connection.execute(text("INSERT INTO entry_ids (id, at_ms) SELECT id, at_ms FROM entries_before"))
        old = Table("entries_before", MetaData(), *(Column(each.name, each.type) for each in ENTRIES.columns))
        gone = delete(old).where(old.c.at_ms >= border_ms).returning(*old.c).cte("gone")
        connection.execute(insert(ENTRIES).from_select([each.name for each in old.c], select(gone)))
        connection.execute(text(f"ALTER TABLE entries ATTACH PARTITION {before} ({border_ms})"))
    else:
        connection.execute(text(f"CREATE TABLE {before.replace(' FOR', ' PARTITION OF entries FOR')} ({border_ms})"))
    keep_months(connection, now_ms, first=1 if is_there else 0)


def keep_months(connection: Connection, now_ms: int, *, first: int = 0) -> int:
    """Make the parts of this month and the next ones where they are missing; returns how many were."""
    known = {row[0] for row in connection.execute(PARTS)}
    made = 0
    for later in range(first, AHEAD):
        (name, from_ms), (_, to_ms) = month_at(now_ms, later=later), month_at(now_ms, later=later + 1)
        if name not in known and not _is_taken(connection, from_ms, to_ms):
            range_ = f"FOR VALUES FROM ({from_ms}) TO ({to_ms})"
            connection.execute(text(f"CREATE TABLE {name} PARTITION OF entries {range_}"))
            made += 1
    return made


def _is_taken(connection: Connection, from_ms: int, to_ms: int) -> bool:
    """Whether the month's entries went into another part already; they stay there."""
    at_ms: ColumnClause[int] = column("at_ms")
    wanted = [select(at_ms).select_from(table(name)) for name in ("entries_rest", "entries_before")]
    return any(
        connection.execute(each.where(at_ms >= from_ms, at_ms < to_ms).limit(1)).first() is not None for each in wanted
    )
