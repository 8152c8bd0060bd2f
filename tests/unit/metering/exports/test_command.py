"""What an operator sees and does: a dry run, how exports stand, a backfill, and the worker of a process."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.clock import SystemClock
from libs.common.events.usage import Meter as MeterName
from libs.common.store.sql import SqlStore
from libs.common.units import DAY_MS, SECOND_MS
from services.metering.shell.export import EXIT_WAITS, EXIT_WRONG, main
from services.metering.shell.export_worker import exports_of, keep_exporting
from services.metering.shell.settings import Settings
from tests.unit.metering.exports.books import Books
from tests.unit.metering.exports.receivers import Billing, Fault, OpenMeterServer

FILE = """
version: 1
exports:
  - name: meter
    system: openmeter
    url: {url}
    key_file: {key}
    since: 2020-01-01T00:00:00Z
    customers: {{acme: cus-acme}}
    codes: {{prompt_tokens: {{name: prompt_tokens}}}}
"""


@pytest.fixture
def billing() -> Iterator[Billing]:
    """An OpenMeter."""
    with OpenMeterServer() as server:
        yield server


@pytest.fixture
def books(billing: Billing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Books]:
    """Two windows on disk that were told just now, and an export of them."""
    (tmp_path / "key").write_text("secret-of-the-test")
    (tmp_path / "exports.yaml").write_text(FILE.format(url=billing.url, key=tmp_path / "key"))
    url = f"sqlite:///{tmp_path / 'metering.db'}"
    monkeypatch.setenv("MILLRACE_DATABASE_URL", url)
    monkeypatch.setenv("MILLRACE_EXPORTS_FILE", str(tmp_path / "exports.yaml"))
    now_ms = SystemClock().now_ms() // 10_000 * 10_000
    books = Books(store=SqlStore(url))
    books.tell(5, start_ms=now_ms - 60 * SECOND_MS)
    books.tell(9, start_ms=now_ms - 3 * DAY_MS)
    books.tell(1, start_ms=now_ms - 60 * SECOND_MS, meter=MeterName.REQUESTS)
    yield books
    books.store.close()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """What was written."""
    return [json.loads(each) for each in capsys.readouterr().out.splitlines()]


def test_a_dry_run_writes_what_would_be_sent_and_changes_nothing(
    books: Books, billing: Billing, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = len(books.store.journal_rows())

    assert main(["--dry-run"]) == 0

    shown = lines(capsys)
    assert [each["would_send"]["data"]["quantity"] for each in shown] == ["5", "9"]  # type: ignore[index]
    assert (billing.calls, len(books.store.journal_rows())) == (0, rows)

    assert main(["--dry-run", "--since", str(SystemClock().now_ms() - DAY_MS)]) == 0
    assert len(lines(capsys)) == 1


def test_once_sends_all_and_status_says_so(books: Books, billing: Billing, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--status"]) == EXIT_WAITS  # It has not read what was told.
    assert main(["--once"]) == 0

    assert billing.sums() == {place: each for place, each in books.truth().items() if place[0] == "prompt_tokens"}
    assert lines(capsys)[-1] == {"export": "meter", "waiting": 0, "parked": 0, "lag_s": 0, "reading": False}


def test_what_waits_has_a_lag(books: Books, billing: Billing, capsys: pytest.CaptureFixture[str]) -> None:
    del books
    billing.faults.append(Fault.BUSY)

    assert main(["--once"]) == EXIT_WAITS

    (status,) = lines(capsys)
    assert status["waiting"] == 2
    assert 3 * DAY_MS // SECOND_MS - 60 < int(str(status["lag_s"])) < 3 * DAY_MS // SECOND_MS + 60


def test_what_is_parked_is_listed_and_can_be_tried_again(
    books: Books, billing: Billing, capsys: pytest.CaptureFixture[str]
) -> None:
    key = books.tell(7, tenant="stranger")
    assert main(["--once", "--status"]) == EXIT_WAITS
    assert [(each["parked"], each["reason"]) for each in lines(capsys)[:1]] == [(key, "no_customer")]
    path = Path(str(Settings().exports_file))
    path.write_text(path.read_text().replace("acme: cus-acme", "acme: cus-acme, stranger: cus-2"))

    assert main(["--retry-parked", "--once"]) == 0

    assert len(billing.accepted) == 3


def test_a_backfill_goes_further_back_than_the_beginning(books: Books, billing: Billing) -> None:
    path = Path(str(Settings().exports_file))
    path.write_text(path.read_text().replace("2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"))
    assert main(["--once"]) == 0
    assert billing.calls == 0

    assert main(["--backfill", "2020-01-01T00:00:00Z", "--once"]) == 0

    assert sum(billing.sums().values()) == 14
    del books


@pytest.mark.parametrize("arguments", [["--export", "none"], ["--resolve", "w"], ["--once", "--backfill", "yesterday"]])
def test_what_can_not_be_done_is_one_line(
    books: Books, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    del books
    assert main(arguments) == EXIT_WRONG
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_worker_of_a_process_sends_what_is_told(
    books: Books, billing: Billing, caplog: pytest.LogCaptureFixture
) -> None:
    billing.faults.append(Fault.WRONG_KEY)
    exports = exports_of(Settings(), books.store, books.clock)

    async def work() -> None:
        worker = asyncio.create_task(keep_exporting(exports, period_s=0.01))
        while len(billing.accepted) < 2:
            await asyncio.sleep(0.02)
            books.clock.advance(10 * SECOND_MS)
        worker.cancel()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(asyncio.wait_for(work(), 30))

    assert sum(billing.sums().values()) == 14
    assert any(each.message == "export put off" for each in caplog.records)
    assert "secret-of-the-test" not in caplog.text + str([vars(each) for each in caplog.records])


def test_without_a_file_nothing_is_exported(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILLRACE_EXPORTS_FILE")

    assert exports_of(Settings(), books.store, books.clock) == ()
