"""How much the transaction script costs over the bare database below it."""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Final

from libs.common.clock import SystemClock
from libs.common.store import database
from libs.common.store.memory import MemoryStore
from libs.common.store.port import Store
from libs.common.store.sql import SqlStore
from tests.bench.report import Section, in_turns
from tests.support.postgres import Absent, Postgres
from tests.support.tally import a_runner, added

TURN_S: Final = 1.5
WARM_UP: Final = 20
KEYS: Final = 50
BARE: Final = "bare SQLite: the same four rows and no more"
DURABLE: Final = {"fsync": "on"}  # Else a disk would be compared to none.
TABLES: Final = """
CREATE TABLE inbox (reader TEXT, event_id TEXT, PRIMARY KEY (reader, event_id)) WITHOUT ROWID;
CREATE TABLE records (key TEXT PRIMARY KEY, state BLOB, version INTEGER);
CREATE TABLE journal (seq INTEGER PRIMARY KEY, cause BLOB);
CREATE TABLE outbox (position INTEGER PRIMARY KEY, body BLOB);
"""
UPSERT: Final = "INSERT INTO records VALUES (?, ?, 1) ON CONFLICT (key) DO UPDATE SET state = ?2, version = version + 1"


def measure() -> Section:
    """Commits a second: the peer is SQLite itself, as durable, with nothing around it."""
    with ExitStack() as opened:
        directory = opened.enter_context(tempfile.TemporaryDirectory(prefix="mr-bench-"))
        connection = opened.enter_context(closing(sqlite3.connect(f"{directory}/bare.db")))
        works = {BARE: bare(connection)}
        for name, store in stores(opened, directory):
            works[name] = taking(opened.enter_context(closing(store)))
        for work in works.values():
            for _ in range(WARM_UP):
                work()
        rates = in_turns(works, turn_s=TURN_S)
        (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
    return Section(
        title="The store",
        question="What does `runner.take()` cost? One commit of inbox, record, journal and one told event; one thread.",
        columns=("", "commits/s", "ratio"),
        rows=tuple((name, f"{rate:,.0f}", f"{rate / rates[BARE]:.2f}") for name, rate in rates.items()),
        notes=(
            f"SQLite {sqlite3.sqlite_version}, journal_mode={journal} for both; PostgreSQL with fsync, by a socket.",
            "In memory shows what is ours: decide, envelope, JSON, computed ids.",
        ),
    )


def stores(opened: ExitStack, directory: str) -> Iterator[tuple[str, Store]]:
    """The stores that there are on this machine."""
    yield "runner on SQLite", SqlStore(f"sqlite:///{directory}/store.db")
    with suppress(Absent):
        server = Postgres(DURABLE)
        opened.callback(server.stop)
        yield "runner on PostgreSQL", SqlStore(server.new())
    yield "runner in memory", MemoryStore()


def taking(store: Store) -> Callable[[], object]:
    """A new event to one of some records."""
    runner = a_runner(store, SystemClock())
    numbers = itertools.count()

    def take() -> None:
        number = next(numbers)
        runner.take(f"t-{number % KEYS}", added(number))

    return take


def bare(connection: sqlite3.Connection) -> Callable[[], object]:
    """The same rows by the driver alone, with the settings that the store has."""
    database._prepare_sqlite(connection, None)
    connection.executescript(TABLES)
    numbers = itertools.count()

    def commit() -> None:
        number = next(numbers)
        key, body = f"t-{number % KEYS}", b"x" * 300
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO inbox VALUES (?, ?)", (f"tally/{key}", str(number)))
        connection.execute("SELECT state, version FROM records WHERE key = ?", (key,)).fetchone()
        connection.execute(UPSERT, (key, body))
        connection.execute("INSERT INTO journal (cause) VALUES (?)", (body,))
        connection.execute("INSERT INTO outbox (body) VALUES (?)", (body,))
        connection.execute("COMMIT")

    return commit
