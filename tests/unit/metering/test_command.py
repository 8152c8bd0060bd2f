"""``python -m services.metering`` on a real database: what an operator sees."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from libs.common.clock import ManualClock
from libs.common.events.endpoint import Stage
from libs.common.service import Service
from libs.common.store.sql import SqlStore
from libs.common.units import SECOND_MS
from services.metering.__main__ import EXIT_WRONG, main
from services.metering.service import build
from services.metering.shell.operating import EXIT_DIFFERS
from services.metering.shell.ports import Ports
from tests.unit.metering.world import T0, WINDOWS, batch, joined, released, requested, staged, usage


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A ledger on disk in which a short life was lived."""
    url = f"sqlite:///{tmp_path / 'metering.db'}"
    clock = ManualClock(T0)
    service = build(Ports(SqlStore(url, clock=clock), clock, WINDOWS))
    for event in (
        requested(),
        joined("n1", at_ms=T0, sequence=1),
        staged(Stage.READY, since_ms=T0 + 2000, sequence=2),
        batch([usage("r1"), usage("r2")]),
        batch([usage("r1", completion_tokens=6), usage("r3")], boot_seq=2),
        released("n1", at_ms=T0 + 15_000, sequence=2),
    ):
        service.handle(event)
        clock.advance(3 * SECOND_MS)
    rest(service, clock)
    service.store.close()
    monkeypatch.setenv("MILLRACE_DATABASE_URL", url)
    monkeypatch.setenv("MILLRACE_WINDOW_S", "10")
    return url


def rest(service: Service, clock: ManualClock) -> None:
    """Let a minute pass."""
    for _ in range(60):
        clock.advance(SECOND_MS)
        service.tick()
        service.reconcile()


def test_the_audit_of_a_good_ledger_says_so(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit"]) == 0
    assert capsys.readouterr().out == "0 differences\n"
    totals = {(each.account, each.meter): each.quantity for each in SqlStore(url).totals(from_ms=0, to_ms=1 << 60)}
    assert totals["acme/main/ep-one", "requests"] == 3
    assert totals["!parked/conflict", "requests"] == 1
    assert totals["acme/main/ep-one/loading", "gpu_ms"] == 16_000
    assert totals["acme/main/ep-one/serving", "gpu_ms"] == 104_000


def test_the_audit_of_a_changed_ledger_names_each_difference(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        table = next(
            name
            for (name,) in connection.execute(text("select name from sqlite_master where type = 'table'"))
            if "entr" in name or "ledger" in name
        )
        connection.execute(text(f"update {table} set quantity = 9 where id = 'request/r1/requests'"))
    engine.dispose()

    assert main(["audit"]) == EXIT_DIFFERS
    assert "window_told: acme/main/ep-one/requests/all/" in capsys.readouterr().out


def test_another_window_size_is_refused_in_one_line(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MILLRACE_WINDOW_S", "60")

    assert (main([]), main(["audit"]), url[:6]) == (EXIT_WRONG, EXIT_WRONG, "sqlite")
    assert capsys.readouterr().err.count("set MILLRACE_WINDOW_S back") == 2


@pytest.mark.parametrize(("variable", "value"), [("MILLRACE_WINDOW_S", "0"), ("MILLRACE_HTTP_PORT", "x")])
def test_wrong_settings_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, variable: str, value: str
) -> None:
    monkeypatch.setenv("MILLRACE_DATABASE_URL", f"sqlite:///{tmp_path / 'x.db'}")
    monkeypatch.setenv(variable, value)

    assert main([]) == EXIT_WRONG
    assert variable in capsys.readouterr().err


def test_an_unknown_argument_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("MILLRACE_DATABASE_URL", f"sqlite:///{tmp_path / 'x.db'}")

    assert main(["frobnicate"]) == EXIT_WRONG
    assert "one of audit, close, statements, parked, redrive, reconcile" in capsys.readouterr().err


def test_what_is_parked_is_shown_and_what_can_not_be_entered_stays(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert url
    assert main(["parked", "--flaw", "conflict"]) == EXIT_DIFFERS
    assert '"request_id": "r1"' in capsys.readouterr().out
    assert main(["redrive", "--by", "kim"]) == EXIT_DIFFERS
    assert '"still": ' in capsys.readouterr().out
    assert main(["redrive", "--by", " "]) == EXIT_WRONG
    assert "say who asks" in capsys.readouterr().err
    assert main(["parked", "--flaw", "future"]) == 0


def test_a_period_is_closed_and_its_statement_read(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert url
    assert main(["close", "2027-01-15"]) == EXIT_WRONG
    assert "can't be closed before 2027-01-19" in capsys.readouterr().err
    assert main(["close", "2026-11-27", "--dry-run"]) == 0
    assert main(["statements"]) == 0
    assert capsys.readouterr().out == ""
