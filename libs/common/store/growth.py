"""Tables of today over a database of yesterday: what is missing is added, what is there stays as it is."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, func, insert, inspect, select, text
from sqlalchemy.schema import CreateColumn, CreateIndex

from libs.common.bus.port import BUCKET
from libs.common.store.ledger import FILLS
from libs.common.store.months import BEFORE, part_by_month
from libs.common.store.tables import ENTRIES, OUTBOX, PUTS, SCHEMA

WIDE_INDEXES: Final = ("entries_account", "entries_time")  # They ended in the id, a third of a line, for no question.
# What an older build set and still has in its outbox.
LAST: Final = select(func.max(OUTBOX.c.position)).where(OUTBOX.c.stream.startswith(BUCKET)).group_by(OUTBOX.c.subject)
PUT: Final = select(*(OUTBOX.c[each.name] for each in PUTS.columns)).where(OUTBOX.c.position.in_(LAST))
FILL_PUTS: Final = insert(PUTS).from_select([each.name for each in PUTS.columns], PUT)


def grow(connection: Connection) -> None:
    """Make the tables and columns that are missing; a ledger without sums gets those of all its entries."""
    known = inspect(connection).get_table_names()
    if ENTRIES.name in known:
        _add_columns(connection)
    if connection.dialect.name == "postgresql":
        part_by_month(connection, is_there=ENTRIES.name in known)
    SCHEMA.create_all(connection)
    if ENTRIES.name in known:
        _narrow(connection)
    for name, fill in FILLS.items():
        if ENTRIES.name in known and name not in known:
            connection.execute(fill)
    if OUTBOX.name in known and PUTS.name not in known:
        connection.execute(FILL_PUTS)


def _add_columns(connection: Connection) -> None:
    columns = {each["name"] for each in inspect(connection).get_columns(ENTRIES.name)}
    for column in ENTRIES.columns:
        if column.name not in columns:
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(text(f"ALTER TABLE {ENTRIES.name} ADD COLUMN {definition}"))


def _narrow(connection: Connection) -> None:
    """The indexes of today in place of wide ones; of a large ledger that takes minutes, once."""
    inspector = inspect(connection)
    tables = {ENTRIES.name, BEFORE} & {*inspector.get_table_names()}
    if not any(each["name"] in WIDE_INDEXES for table in tables for each in inspector.get_indexes(table)):
        return
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
    for index in ENTRIES.indexes:
        connection.execute(CreateIndex(index, if_not_exists=True))
    for name in WIDE_INDEXES:
        connection.execute(text(f"DROP INDEX IF EXISTS {name}"))
