"""What only a database can do wrong: its settings, its errors, its leftovers."""

from __future__ import annotations

import sqlite3
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.engine import Engine

from libs.common.clock import ManualClock
from libs.common.errors import Invalid, Stale, Unavailable
from libs.common.store import database, months, sql
from libs.common.store.database import Database, StatementFailed, is_wal_safe
from libs.common.store.port import Record, Taken, Transaction
from libs.common.store.sql import SqlStore
from libs.common.units import DAY_MS
from tests.contract.store_promises import a_message, a_record, an_entry, refuses, save
from tests.support.postgres import Postgres
from tests.support.threads import together

SECRET: Final = "the prompt of a customer"
END_ALL: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test%'"


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Where a SQLite database may be."""
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, file: str) -> Iterator[str]:
    """Where a new, empty database is."""
    if request.param == "sqlite":
        yield file
    else:
        server: Postgres = request.getfixturevalue("postgres")
        yield server.new()


@pytest.mark.parametrize("lost", [("sums", "day_sums"), ("day_sums",)], ids=["no sums", "sums of hours only"])
def test_a_ledger_of_yesterday_gets_labels_and_the_sums_of_what_it_has(url: str, lost: tuple[str, ...]) -> None:
    store = SqlStore(url)
    with store.transaction() as unit:
        unit.enter_all([an_entry("l-1"), an_entry("l-2", at_ms=1_000 + DAY_MS)])
    with store._database.writing() as connection:
        for table in lost:
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("ALTER TABLE entries DROP COLUMN labels"))
        connection.execute(text("DROP INDEX entries_of_account"))
        connection.execute(text("CREATE INDEX entries_account ON entries (account, at_ms, id)"))
    store.close()

    grown = SqlStore(url)
    assert index_names(grown) == {"entries_of_account", "entries_at"}
    with grown.transaction() as unit:
        assert unit.enter_all([an_entry("l-1"), an_entry("l-3", labels="m")]) == []

    sums = grown.sums(from_ms=0, to_ms=2 * DAY_MS)
    assert [(each.labels, each.quantity) for each in sums] == [("", 14), ("m", 7)]
    assert grown.entries()[0] == an_entry("l-1")
    grown.close()


def index_names(store: SqlStore) -> set[str | None]:
    with store._database.reading() as connection:
        return {each["name"] for each in inspect(connection).get_indexes("entries")}


YESTERDAY: Final = """
CREATE TABLE entries (
    id varchar COLLATE "C" PRIMARY KEY, account varchar COLLATE "C" NOT NULL, meter varchar COLLATE "C" NOT NULL,
    quantity bigint NOT NULL, at_ms bigint NOT NULL, data bytea NOT NULL, labels varchar COLLATE "C" NOT NULL DEFAULT ''
);
CREATE INDEX entries_account ON entries (account, at_ms, id);
CREATE INDEX entries_time ON entries (at_ms, id);
INSERT INTO entries SELECT id, 't-1/p-1', 'completion_tokens', 7, at_ms, '{"a":1}'
    FROM (VALUES ('l-1', 1000), ('l-2', 4000000000000)) AS known (id, at_ms)
"""
PARTS: Final = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'entries'::regclass ORDER BY 1"


def test_a_ledger_in_one_piece_becomes_the_first_of_its_parts(postgres: Postgres) -> None:
    url = postgres.new()
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(YESTERDAY.encode())

    grown = SqlStore(url)
    with grown.transaction() as unit:
        known = an_entry("l-2", at_ms=4_000_000_000_000)
        assert unit.enter_all([an_entry("l-1"), an_entry("l-3", at_ms=5), replace(known, quantity=8)]) == [
            replace(known, quantity=8)
        ]
    grown.close()
    again = SqlStore(url)

    assert [each.id for each in again.entries()] == ["l-3", "l-1", "l-2"]
    assert sum(each.quantity for each in again.sums(from_ms=0, to_ms=2**50)) == 21
    with again._database.reading() as connection:
        wide = text("SELECT count(*) FROM pg_indexes WHERE indexname IN ('entries_account', 'entries_time')")
        assert connection.execute(wide).scalar_one() == 0
        whole = connection.execute(text("SELECT count(*) FROM entries_before")).scalar_one()
        rest = connection.execute(text("SELECT count(*) FROM entries_rest")).scalar_one()
    assert (whole, rest) == (2, 1)
    again.close()


def test_an_entry_is_in_the_part_of_its_month_and_the_next_months_are_made_in_time(postgres: Postgres) -> None:
    store = SqlStore(postgres.new())
    with store._database.reading() as connection:
        first = [str(each) for each in connection.execute(text(PARTS)).scalars()]
        now_ms = connection.execute(months.NOW_MS).scalar_one()
    with store.transaction() as unit:
        unit.enter_all([an_entry("now", at_ms=now_ms), an_entry("early", at_ms=0), an_entry("late", at_ms=2**50)])
    later_ms = now_ms + 45 * DAY_MS

    store.prune(later_ms)
    store.prune(later_ms)

    this, _ = months.month_at(now_ms)
    assert first == sorted(["entries_before", "entries_rest", *(months.month_at(now_ms, later=n)[0] for n in range(3))])
    with store._database.reading() as connection:
        known = set(connection.execute(text(PARTS)).scalars())
        where = {
            part: connection.execute(text(f"SELECT id FROM {part}")).scalars().all()
            for part in (this, "entries_before", "entries_rest")
        }
    assert {months.month_at(later_ms, later=n)[0] for n in range(3)} <= known
    assert where == {this: ["now"], "entries_before": ["early"], "entries_rest": ["late"]}
    assert [each.id for each in store.entries()] == ["early", "now", "late"]
    store.close()


@pytest.mark.parametrize(
    ("at_ms", "later", "name"),
    [
        (1_798_761_599_999, 0, "entries_2026_12"),
        (1_798_761_600_000, 0, "entries_2027_01"),
        (1_798_761_599_999, 2, "entries_2027_02"),
    ],
)
def test_a_month_begins_at_midnight_utc(at_ms: int, later: int, name: str) -> None:
    assert months.month_at(at_ms, later=later)[0] == name


def setting(connection: Connection, statement: str) -> object:
    return connection.execute(text(statement)).scalar_one()


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 54, 1), True),
    ],
)
def test_wal_is_used_only_where_it_can_not_corrupt(version: tuple[int, int, int], safe: bool) -> None:
    assert is_wal_safe(version) is safe


@pytest.mark.parametrize(("safe", "mode", "synchronous"), [(False, "delete", 3), (True, "wal", 2)])
def test_sqlite_is_always_durable(
    safe: bool, mode: str, synchronous: int, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "is_wal_safe", lambda _version: safe)
    opened = Database(file)

    with opened.reading() as connection:
        assert setting(connection, "PRAGMA journal_mode") == mode
        assert setting(connection, "PRAGMA synchronous") == synchronous
        assert setting(connection, "PRAGMA foreign_keys") == 1
        assert setting(connection, "PRAGMA busy_timeout") == 5_000
    opened.close()


def test_a_file_left_in_wal_by_another_sqlite_is_taken_out_of_it(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "is_wal_safe", lambda _version: True)
    store = SqlStore(file)
    save(store, a_record())
    store.close()
    monkeypatch.setattr(database, "is_wal_safe", lambda _version: False)

    again = SqlStore(file)

    assert again.load("endpoint", "ep-1") is not None
    with again._database.reading() as connection:
        assert setting(connection, "PRAGMA journal_mode") == "delete"
    again.close()


def test_postgresql_is_durable_and_waits_for_nothing_for_ever(postgres: Postgres) -> None:
    opened = Database(postgres.new())

    with opened.writing() as connection:
        assert setting(connection, "SHOW synchronous_commit") == "on"
        assert setting(connection, "SHOW transaction_isolation") == "read committed"
        assert setting(connection, "SHOW lock_timeout") == "5s"
        assert setting(connection, "SHOW statement_timeout") == "10s"
        assert setting(connection, "SHOW idle_in_transaction_session_timeout") == "15s"
    opened.close()


def test_several_processes_may_start_at_once(url: str) -> None:
    stores = together(6, lambda _index: SqlStore(url))

    save(stores[0], a_record())

    assert all(each.load("endpoint", "ep-1") is not None for each in stores)
    for each in stores:
        each.close()


@pytest.mark.parametrize("wrong", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "mysql://h/db"])
def test_a_url_that_is_no_store_is_refused(wrong: str) -> None:
    with pytest.raises(Invalid):
        SqlStore(wrong)


def test_a_database_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="unable to open"):
        SqlStore(f"sqlite:///{tmp_path}/missing/store.db")
    with pytest.raises(Unavailable, match="PostgreSQL"):
        SqlStore(f"postgresql://millrace@/db?host={tmp_path}")


def test_a_file_that_another_process_holds_is_unavailable(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_WAIT_S", 0)
    store = SqlStore(file)
    other = sqlite3.connect(file.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(Unavailable, match="locked"):
        save(store, a_record())
    with pytest.raises(Unavailable, match="locked"):
        store.load("endpoint", "ep-1")

    other.execute("ROLLBACK")
    save(store, a_record())
    other.close()
    store.close()


def test_a_unit_inside_a_unit_is_refused_rather_than_waiting_for_ever(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_WAIT_S", 0.1)
    store = SqlStore(file)

    with store.transaction() as outer, pytest.raises(Unavailable, match="inside another"), store.transaction():
        pass
    with store.transaction() as after:
        assert outer is not after
    store.close()


def test_a_full_disk_is_unavailable_and_leaves_nothing(file: str) -> None:
    store = SqlStore(file)

    def small(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute("PRAGMA max_page_count = 64")

    event.listen(Engine, "checkout", small)
    try:
        with pytest.raises(Unavailable, match="full"):
            save(store, a_record("ep-0"), a_record("ep-1", state=b"x" * 10**6))
    finally:
        event.remove(Engine, "checkout", small)

    assert store.page("endpoint") == []
    store.close()


def test_a_connection_that_the_server_ends_is_unavailable_once(postgres: Postgres) -> None:
    store = SqlStore(postgres.new())
    save(store, a_record())

    def write(unit: Transaction) -> None:
        unit.save(a_record("ep-2"), was=0)
        postgres.execute(END_ALL)
        unit.save(a_record("ep-3"), was=0)

    refuses(Unavailable, store, write)
    store.load("endpoint", "ep-1")
    postgres.execute(END_ALL)
    with pytest.raises(Unavailable):
        store.load("endpoint", "ep-1")

    assert [each.key for each in store.page("endpoint")] == ["ep-1"]
    store.close()


def test_what_ended_a_unit_is_told_even_if_its_connection_died(postgres: Postgres) -> None:
    store = SqlStore(postgres.new())

    def fail(unit: Transaction) -> None:
        unit.load("endpoint", "ep-1")
        postgres.execute(END_ALL)
        raise ZeroDivisionError

    refuses(ZeroDivisionError, store, fail)

    save(store, a_record())
    store.close()


def test_a_deadlock_is_resolved_by_doing_it_again(postgres: Postgres) -> None:
    store = SqlStore(postgres.new())
    met = threading.Barrier(2, timeout=10)
    seen_stale: list[bool] = []

    def take_both(index: int) -> None:
        first, second = ("a", "b") if index else ("b", "a")
        try:
            with store.transaction() as unit:
                unit.take(first, 1, 10)
                met.wait()
                unit.take(second, 1, 10)
        except Stale:
            seen_stale.append(True)

    together(2, take_both)

    assert seen_stale == [True]
    assert (store.counter("a"), store.counter("b")) == (1, 1)
    store.close()


def test_an_error_that_was_swallowed_does_not_become_a_commit(url: str) -> None:
    store = SqlStore(url)
    save(store, a_record(label="chat"), a_record("ep-2"))

    def swallow(unit: Transaction) -> None:
        unit.enqueue(a_message("m-1"))
        with suppress(Taken):
            unit.save(a_record("ep-2", label="chat"), was=1)

    refuses(Taken, store, swallow)

    assert store.pending(10) == []
    store.close()


@pytest.mark.parametrize("wrong", [a_record(label="\ud800"), a_record(wake_at_ms=2**63)])
def test_a_value_that_fits_no_column_is_refused_for_good(wrong: Record, url: str) -> None:
    store = SqlStore(url)

    with pytest.raises(Invalid):
        save(store, wrong)

    assert store.page("endpoint") == []
    store.close()


def test_an_error_never_carries_what_was_to_be_stored(url: str) -> None:
    store = SqlStore(url)

    with pytest.raises(StatementFailed) as bug, store.transaction() as unit:
        unit.save(a_record(state=SECRET.encode(), label=SECRET, sequence=None), was=0)
    save(store, a_record(label=SECRET), a_record("ep-2"))
    with pytest.raises(Taken) as taken, store.transaction() as unit:
        unit.save(a_record("ep-2", label=SECRET, state=SECRET.encode()), was=1)

    assert SECRET not in "".join(traceback.format_exception(bug.value))
    assert "parameters hidden" in str(bug.value.__context__)
    assert "Violation" not in "".join(traceback.format_exception(taken.value))
    store.close()


def test_what_is_old_is_forgotten_and_what_waits_never(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "PRUNE_ROWS", 2)
    clock = ManualClock()
    store = SqlStore(url, clock=clock)
    with store.transaction() as unit:
        for number in range(5):
            unit.seen("reader", f"e-{number}")
            unit.enqueue(a_message(f"m-{number}"))
    store.mark_sent([each.position for each in store.pending(4)])

    clock.advance(7 * DAY_MS)
    assert store.prune(clock.now_ms()) == 0
    clock.advance(1)
    assert store.prune(clock.now_ms()) == 4
    with store.transaction() as unit:
        assert unit.seen("reader", "e-0")
    clock.advance(28 * DAY_MS)
    assert store.prune(clock.now_ms()) == 5

    assert [each.message.id for each in store.pending(10)] == ["m-4"]
    with store.transaction() as unit:
        assert not unit.seen("reader", "e-0")
    store.close()


def test_a_position_is_never_given_twice(url: str) -> None:
    clock = ManualClock()
    store = SqlStore(url, clock=clock)
    positions: list[int] = []
    for number in range(3):
        with store.transaction() as unit:
            unit.enqueue(a_message(f"m-{number}"))
        positions += [each.position for each in store.pending(10)]
        store.mark_sent(positions)
        clock.advance(8 * DAY_MS)
        store.prune(clock.now_ms())

    assert len(set(positions)) == 3
    store.close()


INDEXES = {
    "records_attention": lambda store: store.attended("endpoint", 1),
    "records_wake": lambda store: store.due(["endpoint", "key"], 5, 10),
    "records_label": lambda store: store.find("endpoint", scope="t", label="x"),
    "records_scope": lambda store: store.page("endpoint", scope="t"),
    "outbox_pending": lambda store: store.pending(10),
    "entries_of_account": lambda store: store.entries(account="t"),
}
# Found by kind in the index, and then put in order by time: of all kinds few are due at once.
PUT_IN_ORDER = "records_wake"


@pytest.mark.parametrize("index", INDEXES)
def test_a_question_that_is_asked_often_has_its_index(index: str, file: str) -> None:
    store = SqlStore(file)
    plans: list[str] = []

    def explain(connection: Connection, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith("SELECT"):
            raw = connection.connection.cursor()
            raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in raw.fetchall())

    event.listen(store._database._engine, "before_cursor_execute", explain)
    INDEXES[index](store)

    assert any(index in plan for plan in plans), plans
    # Of a page of lines those of one millisecond are put in order by themselves: the index does without their ids.
    sorts = [each for each in plans if "TEMP B-TREE" in each and "RIGHT PART" not in each and "LAST TERM" not in each]
    assert not sorts or index == PUT_IN_ORDER
    store.close()
