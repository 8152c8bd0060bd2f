"""How we speak to a database: how it is opened, how a unit of work begins and ends, what its errors mean to us.

SQLite: one writer process per file, on a local disk. Below the versions that fix the WAL-reset bug (reliability.md
L15) the journal is a rollback journal. PostgreSQL: READ COMMITTED; correctness comes from conditional statements.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from libs.common.errors import Invalid, MillraceError, Stale, Unavailable
from libs.common.store.growth import grow
from libs.common.store.months import keep_months
from libs.common.store.turns import Turns

LOCK_WAIT_S: Final = 5  # Beyond this something is stuck; the bus delivers again.
STATEMENT_S: Final = 10
IDLE_IN_TRANSACTION_S: Final = 15  # A unit decides in milliseconds; a lost process must not hold its locks.
CONNECT_S: Final = 5
CREATE_LOCK_S: Final = 60  # Several processes may start at once and create the tables one after another.
POOL_SIZE: Final = 8  # Six services fit in PostgreSQL's default of 100 connections, with overflow.
POOL_OVERFLOW: Final = 4
WRITER_CACHE_KIB: Final = 64 * 1024  # The upper pages of a large ledger's indexes; what a small file has, for others.
CREATE_LOCK: Final = 0x6D696C6C  # "mill": the advisory lock under which tables are created.

NEW_LINE: Final = "\n"
UNIQUE_VIOLATION: Final = "23505"
RESOLVED_BY_RETRY: Final = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected.


def is_wal_safe(version: tuple[int, int, int]) -> bool:
    """Whether a SQLite of this version can't corrupt a WAL database when the WAL is reset."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51, 0) or (3, 44, 6) <= version < (3, 45, 0)


class Database:
    """An open database with all tables. `insert` makes the statement that knows ON CONFLICT in its dialect."""

    def __init__(self, url: str) -> None:
        engine = _open(url)
        self.dialect = engine.dialect.name
        self.insert: Any = sqlite.insert if self.dialect == "sqlite" else postgresql.insert
        self._engine = engine
        # SQLite drops what a connection has in its cache when another wrote, so one of its own does all the writing.
        self._writing = _open_sqlite(engine.url, is_writer=True) if self.dialect == "sqlite" else engine
        self._turns = Turns(wait_s=LOCK_WAIT_S) if self.dialect == "sqlite" else None
        # Beside a write-ahead log, readers and a commit do not wait for each other.
        self._keeps_apart = self._turns if not is_wal_safe(sqlite3.sqlite_version_info[:3]) else None
        self._reading = engine if self.dialect == "sqlite" else engine.execution_options(isolation_level="AUTOCOMMIT")
        self._create()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that commits if it is left without an error. Raises Unavailable, Stale or Invalid."""
        with self._writing_by(self._writing) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection on which each statement sees what is committed."""
        beside = self._keeps_apart.reading() if self._keeps_apart else nullcontext()
        with beside, meaning(), _given_back(self._reading.connect()) as connection:
            yield connection

    @contextmanager
    def settled(self, table: Table) -> Iterator[Connection]:
        """A connection that sees every row of ``table`` up to the highest number there: none is still to be committed.

        PostgreSQL numbers rows when they are written and shows them when they are committed, so a reader that goes on
        from the last number could miss one. Here writers wait for the moment of the reading.
        """
        if self.dialect == "sqlite":  # One writer at a time: numbers are in the order of commits.
            with self.reading() as connection:
                yield connection
            return
        with self.writing() as connection, meaning():
            connection.execute(text(f"LOCK TABLE {table.name} IN SHARE MODE"))
            yield connection

    def keep_months(self, now_ms: int) -> None:
        """Have parts of the ledger for the months to come, where a ledger has parts."""
        if self.dialect == "postgresql":
            with self.writing() as connection, meaning():
                keep_months(connection, now_ms)

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()
        self._writing.dispose()

    @contextmanager
    def _writing_by(self, engine: Engine) -> Iterator[Connection]:
        turn = self._turns.writing() if self._turns else nullcontext()
        with turn, _given_back(_begun(engine)) as connection:
            yield connection
            apart = self._keeps_apart.committing() if self._keeps_apart else nullcontext()
            with apart, meaning():
                connection.commit()

    def _create(self) -> None:
        # Not by the writer's connection: to grow a large ledger takes more than fits in memory.
        with self._writing_by(self._engine) as connection, meaning():
            if self.dialect == "postgresql":
                connection.execute(text(f"SET LOCAL lock_timeout = '{CREATE_LOCK_S}s'"))
                connection.execute(text(f"SET LOCAL statement_timeout = '{CREATE_LOCK_S}s'"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": CREATE_LOCK})
            grow(connection)


class StatementFailed(MillraceError):
    """A statement of ours is wrong: a bug. Says which error, and none of the values."""


class Duplicate(StatementFailed):
    """A row like this is there already."""


@contextmanager
def meaning() -> Iterator[None]:
    """Turn a database's errors into ours.

    Theirs are not even kept as the cause: PostgreSQL's carry whole rows in their details.
    """
    try:
        yield
    except PoolTimeoutError:
        raise Unavailable("all database connections are in use") from None
    except (OverflowError, UnicodeEncodeError, DataError) as error:
        raise Invalid(f"a value does not fit into the database ({type(error).__name__})") from None
    except DBAPIError as error:
        cause = error.orig
        raise (_of_sqlite(cause) if isinstance(cause, sqlite3.Error) else _of_postgresql(error)) from None


def _of_sqlite(cause: sqlite3.Error) -> MillraceError:
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_MISUSE)
    if code == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
        return Duplicate(f"SQLite: {cause}")
    wrong_statement = code & 0xFF in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISUSE)
    return StatementFailed(f"SQLite: {cause}") if wrong_statement else Unavailable(f"SQLite: {cause}")


def _of_postgresql(error: DBAPIError) -> MillraceError:
    cause = error.orig
    sqlstate = getattr(cause, "sqlstate", None)
    if sqlstate is None and isinstance(error, OperationalError):  # About the connection: no row can be in the text.
        return Unavailable(f"PostgreSQL: {str(cause).partition(NEW_LINE)[0][:200]}")
    what = f"PostgreSQL: {type(cause).__name__} ({sqlstate})"
    if sqlstate in RESOLVED_BY_RETRY:
        return Stale(what)
    if sqlstate == UNIQUE_VIOLATION:
        return Duplicate(what)
    return (
        Unavailable(what)
        if isinstance(error, OperationalError | InternalError | InterfaceError)
        else StatementFailed(what)
    )


def _begun(engine: Engine) -> Connection:
    with meaning():
        connection = engine.connect()
        try:
            connection.begin()
            if engine.dialect.name == "sqlite":  # Not by a listener on the engine: that costs each statement a tenth.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def _given_back(connection: Connection) -> Iterator[Connection]:
    try:
        yield connection
    finally:
        # Rolls back what is not committed. If that fails it died, and its transaction with it: the pool drops it, and
        # the error that brought us here must stay the one told.
        with suppress(DBAPIError):
            connection.close()


def _open(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Invalid("the database URL can't be read; use sqlite:////path/file.db or postgresql+psycopg://…") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return _open_sqlite(parsed, is_writer=False)
    if backend == "postgresql":
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            hide_parameters=True,
            isolation_level="READ COMMITTED",
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_timeout=LOCK_WAIT_S,
            connect_args={"connect_timeout": CONNECT_S, "options": _postgres_options()},
        )
    raise Invalid(f"no store for {backend}: use sqlite:////path/file.db or postgresql+psycopg://…")


def _open_sqlite(url: URL, *, is_writer: bool) -> Engine:
    size, overflow = (1, 0) if is_writer else (POOL_SIZE, POOL_OVERFLOW)
    engine = create_engine(url, hide_parameters=True, pool_size=size, max_overflow=overflow, pool_timeout=LOCK_WAIT_S)
    event.listen(engine, "connect", _prepare_sqlite)
    if is_writer:
        event.listen(engine, "connect", _prepare_writer)
    return engine


def _postgres_options() -> str:
    settings = {
        "synchronous_commit": "on",
        "lock_timeout": f"{LOCK_WAIT_S}s",
        "statement_timeout": f"{STATEMENT_S}s",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S}s",
    }
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # The driver must not begin transactions by itself.
    safe = is_wal_safe(sqlite3.sqlite_version_info[:3])
    wanted = "wal" if safe else "delete"
    connection.execute(f"PRAGMA busy_timeout = {LOCK_WAIT_S * 1000}")
    (mode,) = connection.execute(f"PRAGMA journal_mode = {wanted}").fetchone()
    assert mode == wanted, f"SQLite keeps its journal as {mode}, not {wanted}"
    # With a rollback journal, FULL may lose the last commit in a power cut: EXTRA syncs the journal's deletion too.
    connection.execute(f"PRAGMA synchronous = {'FULL' if safe else 'EXTRA'}")
    connection.execute("PRAGMA foreign_keys = ON")


def _prepare_writer(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
    # A unit larger than the cache would take the file for itself, and write it, before its commit.
    connection.execute("PRAGMA cache_spill = OFF")
    # What undoes half a statement is kept in memory: in a file it would be more than what the commit writes.
    connection.execute("PRAGMA temp_store = MEMORY")
