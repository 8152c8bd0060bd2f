"""Tables of today over a database of yesterday: what is missing is added, what is there stays as it is."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, text
from sqlalchemy.schema import CreateColumn

from libs.common.store.ledger import FILLS
from libs.common.store.months import part_by_month
from libs.common.store.tables import ENTRIES, SCHEMA


def grow(connection: Connection) -> None:
    """Make the tables and columns that are missing; a ledger without sums gets those of all its entries."""
    known = inspect(connection).get_table_names()
    if ENTRIES.name in known:
        _add_columns(connection)
    if connection.dialect.name == "postgresql":
        part_by_month(connection, is_there=ENTRIES.name in known)
    SCHEMA.create_all(connection)
    for name, fill in FILLS.items():
        if ENTRIES.name in known and name not in known:
            connection.execute(fill)


def _add_columns(connection: Connection) -> None:
    columns = {each["name"] for each in inspect(connection).get_columns(ENTRIES.name)}
    for column in ENTRIES.columns:
        if column.name not in columns:
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(text(f"ALTER TABLE {ENTRIES.name} ADD COLUMN {definition}"))
