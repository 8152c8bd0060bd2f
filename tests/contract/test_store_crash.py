"""A process that dies leaves a whole unit of work or none, and whatever it was told is committed stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.store.sql import SqlStore
from tests.contract import store_promises as promises
from tests.contract.store_writer import DIED
from tests.support.postgres import Postgres
from tests.support.preloaded import Program
from tests.support.threads import persistently

pytestmark = pytest.mark.xdist_group("preloaded")

PATIENCE_S = 60.0
KILLS = 4
LIVES_S = (0.05, 0.11, 0.02, 0.17)  # After its first commit; so that kills fall between different statements.


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a new, empty database is."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/store.db"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        yield server.new()


def writer(url: str, moment: str, out: Path | None = None) -> Program:
    return Program("tests.contract.store_writer", url, moment, out=out)


def until_it_has(said: Path, text: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while text not in said.read_text():
        assert time.monotonic() < deadline_s, "it never committed anything"
        time.sleep(0.005)


def test_a_process_that_dies_before_its_commit_leaves_nothing(url: str) -> None:
    assert writer(url, "before").wait(PATIENCE_S) == DIED

    store = SqlStore(url)
    assert not persistently(lambda: promises.has_everything(store))
    store.close()


def test_a_process_that_dies_after_its_commit_leaves_everything(url: str) -> None:
    assert writer(url, "after").wait(PATIENCE_S) == DIED

    store = SqlStore(url)
    assert promises.has_everything(store)
    store.close()


def test_a_process_killed_anywhere_leaves_whole_units_and_all_it_was_promised(url: str, tmp_path: Path) -> None:
    told = 0
    said = tmp_path / "said"
    for life_s in LIVES_S:
        said.write_text("")
        process = writer(url, "forever", said)
        until_it_has(said, "\n")
        time.sleep(life_s)
        process.kill()
        process.wait(PATIENCE_S)
        told = max(map(int, said.read_text().split()))

        committed = assert_whole(url)

        assert committed in (told, told + 1)
    assert told > KILLS


def assert_whole(url: str) -> int:
    """How many units are there. Raises AssertionError if one of them is there in part."""
    store = SqlStore(url)
    record = store.load("endpoint", "ep-1")
    assert record is not None
    count = record.version
    numbers = range(1, count + 1)

    assert record.state == b"%d" % count
    assert store.counter("units") == count
    assert [row.cause_id for row in store.journal_rows(limit=10**6)] == [f"e-{number}" for number in numbers]
    assert [each.message.id for each in store.pending(10**6)] == [f"m-{number}" for number in numbers]
    assert [each.id for each in store.entries(limit=10**6)] == [f"l-{number:06}" for number in numbers]
    with store.transaction() as unit:
        assert all(unit.seen("reader", f"e-{number}") for number in numbers)
    store.close()
    return count


def test_a_database_opened_again_has_everything(url: str) -> None:
    first = SqlStore(url)
    with first.transaction() as unit:
        promises.everything(unit)
    first.close()

    second = SqlStore(url)

    assert promises.has_everything(second)
    assert second.load("endpoint", "ep-1") == promises.a_record(label="chat", wake_at_ms=5, version=1)
    second.close()
