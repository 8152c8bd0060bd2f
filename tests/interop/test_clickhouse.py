"""Usage in a real ClickHouse (chDB, its engine as a library): the sums are the ledger's, and a replay adds nothing."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from libs.cli.events import document
from libs.common.bus.streams import message_of
from libs.common.bus.tail import Stored
from libs.common.events.usage import UsagePart, UsageRecorded
from libs.common.signing import HmacSecret
from services.metering.core.accounts import is_unbilled
from services.metering.shell.exporters.files import SignedFiles, verified
from services.metering.shell.routes import _entry
from tests.support.pip import WHEELS, installed
from tests.unit.metering.exports.books import Books, receiver_of
from tests.unit.metering.world import World, batch, envelope, live, usage

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("clickhouse")]

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent / "clickhouse"
DDL: Final = ROOT / "deploy" / "clickhouse" / "usage.sql"
ABSENT: Final = "CLICKHOUSE COULD NOT BE INSTALLED (chdb-core-lite, from PyPI): ITS MAPPING WAS NOT TESTED"


class Engine:
    """A ClickHouse with our tables."""

    def __init__(self, python: Path) -> None:
        command = [str(python), str(HERE / "engine.py")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for statement in self.statements():
            self.ask(statement)

    @staticmethod
    def statements() -> Sequence[str]:
        """What usage.sql says, one after the other."""
        lines = (each for each in DDL.read_text().splitlines() if not each.startswith("--"))
        return [each.strip() for each in "\n".join(lines).split(";") if each.strip()]

    def ask(self, statement: str) -> list[dict[str, Any]]:
        """Run a statement and give its rows."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(statement) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the engine ended at: {statement[:200]}"
        found: list[dict[str, Any]] = json.loads(line)
        return found

    def feed(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows of JSON."""
        self.ask(f"INSERT INTO millrace.{table} FORMAT JSONAsString {' '.join(map(json.dumps, rows))}")

    def stop(self) -> None:
        """End it."""
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the engine, in an environment of the test's own."""
    return installed(HERE / "requirements.txt", tmp_path_factory.mktemp("clickhouse"), *WHEELS, absent=ABSENT)


@pytest.fixture
def engine(python: Path) -> Iterator[Engine]:
    """A new one."""
    engine = Engine(python)
    yield engine
    engine.stop()


def test_it_reads_the_parquet_of_the_signed_files(engine: Engine, tmp_path: Path) -> None:
    books = Books()
    export = books.export(receiver_of("files"), SignedFiles(tmp_path, HmacSecret(b"x" * 32), books.clock, parquet=True))
    for total in (5, 2**40, 3):
        books.tell(total)
        books.tell(total, tenant="=SUM(A1)")
        books.settle(export)
    rows = list(verified(tmp_path, HmacSecret(b"x" * 32)))

    read = engine.ask(f"SELECT * FROM file('{tmp_path}/*.parquet', Parquet) ORDER BY id")

    assert [{name: str(each) for name, each in row.items()} for row in read] == [
        {name: each.removeprefix("'") for name, each in row.items()} for row in sorted(rows, key=lambda row: row["id"])
    ]
    assert {type(row["quantity"]) for row in read} <= {int, str}  # ClickHouse writes 64 bits as text into JSON.
    assert sum(int(row["quantity"]) for row in read) == 6


def events(world: World) -> list[dict[str, Any]]:
    """All that metering told, as `millrace events tail --output json` prints it."""
    return [document(Stored(position, message)) for position, message in world.store.outbox.items()]


def a_life() -> World:
    """Windows of requests, tokens and held time, one of which is told again after a late request."""
    world = World()
    live(world, lambda here, each: here.hear(each))
    world.hear(batch([usage("late")], boot_seq=9))
    world.pass_time(20)
    return world


def billed(world: World) -> dict[tuple[str, str], int]:
    """The ledger's sums of what tenants are told of."""
    sums: dict[tuple[str, str], int] = {}
    for each in world.store.ledger.values():
        if not is_unbilled(each.account):
            name = "/".join(each.account.split("/")[3:])
            sums[each.meter, name] = sums.get((each.meter, name), 0) + each.quantity
    return {place: quantity for place, quantity in sums.items() if quantity}


def summed(engine: Engine, view: str) -> dict[tuple[str, str], int]:
    """The engine's sums."""
    rows = engine.ask(f"SELECT meter, account, sum(quantity) AS quantity FROM millrace.{view} GROUP BY meter, account")
    return {(each["meter"], each["account"]): int(each["quantity"]) for each in rows if int(each["quantity"])}


def test_windows_add_up_to_the_ledger_in_any_order_and_a_replay_adds_nothing(engine: Engine) -> None:
    world = a_life()
    told = events(world)
    assert any(each["data"].get("revision", 1) > 1 for each in told)
    assert any(each["type"] != "usage.recorded.v1" for each in told)  # Others in the stream are left out.
    random.Random(7).shuffle(told)

    engine.feed("usage_in", told)
    once = summed(engine, "usage")
    engine.feed("usage_in", told)
    random.Random(8).shuffle(told)
    engine.feed("usage_in", told)
    engine.feed("usage_in", [each for each in told if each["data"].get("revision") == 1])

    assert once == billed(world)
    assert summed(engine, "usage_parts") == once
    assert summed(engine, "usage") == once
    assert summed(engine, "usage_windows") != once  # Asked without FINAL, repeats do count: so the test can fail.
    engine.ask("OPTIMIZE TABLE millrace.usage_windows FINAL")
    assert summed(engine, "usage_windows") == once


def test_every_attribute_of_a_window_is_in_its_column(engine: Engine) -> None:
    window = UsageRecorded(
        tenant_id='a\'cme \\ "x"',
        project_id="main",
        endpoint_id="ep-1",
        model="m/ü",
        tier="h100",
        region="eu-1",
        meter="gpu_ms",
        account="serving",
        quantity=2**62,
        window_start_ms=1_800_000_000_123,
        window_end_ms=1_800_000_060_123,
        revision=3,
        tenancy="vnode",
        parts=(UsagePart(quantity=2**62 - 5, node_class="metal3.h100"), UsagePart(quantity=5, adapter="f'in")),
    )
    world = World()
    told = envelope(window, at_ms=1_800_000_061_000, generation=9)

    with world.store.transaction() as unit:
        unit.enqueue(message_of(told))
    engine.feed("usage_in", events(world))

    (row,) = engine.ask("SELECT * FROM millrace.usage")
    said = window.model_dump(mode="json")
    for name in (
        "tenant_id",
        "project_id",
        "endpoint_id",
        "model",
        "tier",
        "region",
        "meter",
        "account",
        "revision",
        "tenancy",
    ):
        assert row[name] == said[name]
    assert int(row["quantity"]) == 2**62
    assert (row["window_start"], row["window_end"]) == ("2027-01-15 08:00:00.123", "2027-01-15 08:01:00.123")
    of = {
        (each["adapter"], each["node_class"]): int(each["quantity"])
        for each in engine.ask("SELECT * FROM millrace.usage_parts")
    }
    assert of == {("", "metal3.h100"): 2**62 - 5, ("f'in", ""): 5}
    assert (row["generation"], row["event_id"], row["told_at"]) == (9, told.id, "2027-01-15 08:01:01.000")


def test_lines_of_the_ledger_add_up_to_it_however_often_they_come(engine: Engine) -> None:
    world = a_life()
    lines = [
        _entry(each, each.account.split("/")[2]).model_dump(mode="json")
        for each in world.store.ledger.values()
        if not is_unbilled(each.account)
    ]

    for _ in range(2):
        engine.feed("ledger_in", lines)

    assert summed(engine, "ledger") == billed(world)
    (count,) = engine.ask("SELECT count() AS n FROM millrace.ledger")
    assert int(count["n"]) == len(lines)


def test_the_tables_can_be_made_again(engine: Engine) -> None:
    engine.feed("usage_in", events(a_life()))
    before = summed(engine, "usage")
    engine.ask("ALTER TABLE millrace.usage_windows DROP COLUMN parts, DROP COLUMN tenancy")  # As they once were.

    for statement in engine.statements():
        engine.ask(statement)

    assert summed(engine, "usage") == before != {}
