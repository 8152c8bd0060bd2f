"""The tables of a service's own database, the same in SQLite and PostgreSQL.

All times are epoch milliseconds. Text sorts by code point in both databases, as it does in Python.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

WORDS: Final = String().with_variant(String(collation="C"), "postgresql")  # Else a locale decides what comes next.
NUMBER: Final = BigInteger()
POSITION: Final = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows by itself only as INTEGER.


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


class StoreTable(SQLModel, registry=registry()):
    """Any table here; a registry of its own, so that other SQLModel tables in the process stay out of our schema."""


class RecordRow(StoreTable, table=True):
    """One owned thing as it stands."""

    __tablename__ = "records"
    __table_args__ = (
        _partial("records_label", "kind", "scope", "label", where="label IS NOT NULL", unique=True),
        _partial("records_wake", "kind", "wake_at_ms", "key", where="wake_at_ms IS NOT NULL"),
        _partial("records_attention", "kind", "key", where="attention > 0"),
        Index("records_scope", "kind", "scope", "key"),
    )

    kind: str = Field(sa_column=Column(WORDS, primary_key=True))
    key: str = Field(sa_column=Column(WORDS, primary_key=True))
    state: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    version: int = Field(sa_column=Column(NUMBER, nullable=False))
    sequence: int = Field(sa_column=Column(NUMBER, nullable=False))
    scope: str = Field(sa_column=Column(WORDS, nullable=False))
    label: str | None = Field(sa_column=Column(WORDS))
    wake_at_ms: int | None = Field(sa_column=Column(NUMBER))
    attention: int = Field(sa_column=Column(Integer, nullable=False))


class InboxRow(StoreTable, table=True):
    """An event that a reader took; kept longer than any stream can deliver it again."""

    __tablename__ = "inbox"
    __table_args__ = (Index("inbox_at", "at_ms"), {"sqlite_with_rowid": False})

    reader: str = Field(sa_column=Column(WORDS, primary_key=True))
    event_id: str = Field(sa_column=Column(WORDS, primary_key=True))
    at_ms: int = Field(sa_column=Column(NUMBER, nullable=False))


class OutboxRow(StoreTable, table=True):
    """A message for the bus. A position is never given twice: a late mark must not hide a newer message."""

    __tablename__ = "outbox"
    __table_args__ = (
        _partial("outbox_pending", "position", where="sent_at_ms IS NULL"),
        _partial("outbox_sent", "sent_at_ms", where="sent_at_ms IS NOT NULL"),
        {"sqlite_autoincrement": True},
    )

    position: int = Field(sa_column=Column(POSITION, primary_key=True, autoincrement=True))
    id: str = Field(sa_column=Column(WORDS, nullable=False))
    stream: str = Field(sa_column=Column(WORDS, nullable=False))
    subject: str = Field(sa_column=Column(WORDS, nullable=False))
    headers: str = Field(sa_column=Column(WORDS, nullable=False))
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    sent_at_ms: int | None = Field(sa_column=Column(NUMBER))


class PutRow(StoreTable, table=True):
    """What a key of a bucket was last set to; kept longer than the outbox, for a broker that lost its disk."""

    __tablename__ = "puts"
    __table_args__ = ({"sqlite_with_rowid": False},)

    subject: str = Field(sa_column=Column(WORDS, primary_key=True))
    stream: str = Field(sa_column=Column(WORDS, nullable=False))
    id: str = Field(sa_column=Column(WORDS, nullable=False))
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class JournalTableRow(StoreTable, table=True):
    """What was decided on, never changed and never deleted."""

    __tablename__ = "journal"
    __table_args__ = ({"sqlite_autoincrement": True},)

    seq: int = Field(sa_column=Column(POSITION, primary_key=True, autoincrement=True))
    kind: str = Field(sa_column=Column(WORDS, nullable=False))
    key: str = Field(sa_column=Column(WORDS, nullable=False))
    version: int = Field(sa_column=Column(NUMBER, nullable=False))
    at_ms: int = Field(sa_column=Column(NUMBER, nullable=False))
    cause_id: str = Field(sa_column=Column(WORDS, nullable=False))
    cause_type: str = Field(sa_column=Column(WORDS, nullable=False))
    cause: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class CounterRow(StoreTable, table=True):
    """What is taken of a limit."""

    __tablename__ = "counters"
    __table_args__ = ({"sqlite_with_rowid": False},)

    name: str = Field(sa_column=Column(WORDS, primary_key=True))
    value: int = Field(sa_column=Column(NUMBER, nullable=False))


class EntryRow(StoreTable, table=True):
    """A line of the ledger, never changed and never deleted; `data_of` has the content that is not in `data`.

    In PostgreSQL it is a table in parts (see `months`), without this primary key: `entry_ids` stands for it.
    """

    __tablename__ = "entries"
    __table_args__ = (
        Index("entries_of_account", "account", "at_ms"),
        Index("entries_at", "at_ms"),
    )

    id: str = Field(sa_column=Column(WORDS, primary_key=True))
    account: str = Field(sa_column=Column(WORDS, nullable=False))
    meter: str = Field(sa_column=Column(WORDS, nullable=False))
    quantity: int = Field(sa_column=Column(NUMBER, nullable=False))
    at_ms: int = Field(sa_column=Column(NUMBER, nullable=False))
    data: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    labels: str = Field(sa_column=Column(WORDS, nullable=False, server_default=""))
    data_of: str | None = Field(default=None, sa_column=Column(WORDS))


class SumRow(StoreTable, table=True):
    """What the entries of an hour add up to, written in their own commits."""

    __tablename__ = "sums"
    __table_args__ = ({"sqlite_with_rowid": False},)

    account: str = Field(sa_column=Column(WORDS, primary_key=True))
    start_ms: int = Field(sa_column=Column(NUMBER, primary_key=True, autoincrement=False))
    meter: str = Field(sa_column=Column(WORDS, primary_key=True))
    labels: str = Field(sa_column=Column(WORDS, primary_key=True))
    quantity: int = Field(sa_column=Column(NUMBER, nullable=False))


class DaySumRow(StoreTable, table=True):
    """What the entries of a day add up to, beside its hours: a month of everybody is read from thirty of them."""

    __tablename__ = "day_sums"
    __table_args__ = ({"sqlite_with_rowid": False},)

    account: str = Field(sa_column=Column(WORDS, primary_key=True))
    start_ms: int = Field(sa_column=Column(NUMBER, primary_key=True, autoincrement=False))
    meter: str = Field(sa_column=Column(WORDS, primary_key=True))
    labels: str = Field(sa_column=Column(WORDS, primary_key=True))
    quantity: int = Field(sa_column=Column(NUMBER, nullable=False))


class DeedRow(StoreTable, table=True):
    """A row of the audit, never changed and never deleted."""

    __tablename__ = "deeds"
    __table_args__ = (Index("deeds_tenant", "tenant_id", "tenant_seq", unique=True),)

    seq: int = Field(sa_column=Column(NUMBER, primary_key=True, autoincrement=False))
    tenant_seq: int = Field(sa_column=Column(NUMBER, nullable=False))
    at_ms: int = Field(sa_column=Column(NUMBER, nullable=False))
    tenant_id: str = Field(sa_column=Column(WORDS, nullable=False))
    actor: str = Field(sa_column=Column(WORDS, nullable=False))
    action: str = Field(sa_column=Column(WORDS, nullable=False))
    target: str = Field(sa_column=Column(WORDS, nullable=False))
    request_id: str = Field(sa_column=Column(WORDS, nullable=False))
    before_sha256: str = Field(sa_column=Column(WORDS, nullable=False))
    after_sha256: str = Field(sa_column=Column(WORDS, nullable=False))
    project_id: str = Field(sa_column=Column(WORDS, nullable=False))
    previous: str = Field(sa_column=Column(WORDS, nullable=False))
    tenant_previous: str = Field(sa_column=Column(WORDS, nullable=False))
    tenant_hash: str = Field(sa_column=Column(WORDS, nullable=False))
    hash: str = Field(sa_column=Column(WORDS, nullable=False))


class ChainRow(StoreTable, table=True):
    """The end of a chain of the audit: of the whole (``*``), or of a tenant. Its row is the lock on the chain."""

    __tablename__ = "chains"
    __table_args__ = ({"sqlite_with_rowid": False},)

    chain: str = Field(sa_column=Column(WORDS, primary_key=True))
    seq: int = Field(sa_column=Column(NUMBER, nullable=False))
    hash: str = Field(sa_column=Column(WORDS, nullable=False))


SCHEMA: Final[MetaData] = StoreTable.metadata
RECORDS: Final[Table] = SCHEMA.tables["records"]
INBOX: Final[Table] = SCHEMA.tables["inbox"]
OUTBOX: Final[Table] = SCHEMA.tables["outbox"]
JOURNAL: Final[Table] = SCHEMA.tables["journal"]
PUTS: Final[Table] = SCHEMA.tables["puts"]
COUNTERS: Final[Table] = SCHEMA.tables["counters"]
ENTRIES: Final[Table] = SCHEMA.tables["entries"]
IDS: Final = Table(  # Of PostgreSQL alone, so not among the tables that every store makes.
    "entry_ids", MetaData(), Column("id", WORDS, primary_key=True), Column("at_ms", NUMBER, nullable=False)
)
SUMS: Final[Table] = SCHEMA.tables["sums"]
DAY_SUMS: Final[Table] = SCHEMA.tables["day_sums"]
DEEDS: Final[Table] = SCHEMA.tables["deeds"]
CHAINS: Final[Table] = SCHEMA.tables["chains"]
