"""The benchmark's ledger is a true one: what its database makes is what the service enters."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.common.clock import ManualClock
from libs.common.events.envelope import Envelope
from libs.common.events.route import UsageReported
from libs.common.ids import event_id
from libs.common.store.sql import SqlStore
from libs.common.units import DAY_MS
from services.metering.service import build
from services.metering.shell.ports import Ports
from tests.bench.filling import SPAN_MS, T0, a_request, fill
from tests.support.postgres import Postgres

COUNT = 40
FOREVER_MS = 1 << 60


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_filled_ledger_is_the_one_that_the_service_enters(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server: Postgres | None = request.getfixturevalue("postgres") if kind == "postgresql" else None
    filled, entered = (
        SqlStore(f"sqlite:///{tmp_path}/{name}.db" if server is None else server.new())
        for name in ("filled", "entered")
    )
    requests = tuple(a_request(number, COUNT) for number in range(COUNT))
    report = UsageReported(instance="router-1", boot_id="b", boot_seq=1, requests=requests)
    build(Ports(entered, ManualClock(T0 + SPAN_MS + DAY_MS))).handle(
        Envelope(event_id("b", report.kind, 0), report, "router-1", T0)
    )

    assert list(fill(filled, COUNT)) == [3 * COUNT]

    assert filled.entries() == entered.entries()
    assert filled.sums(from_ms=0, to_ms=FOREVER_MS) == entered.sums(from_ms=0, to_ms=FOREVER_MS)
    assert filled.totals(from_ms=0, to_ms=FOREVER_MS) == entered.totals(from_ms=0, to_ms=FOREVER_MS)
    filled.close()
    entered.close()
