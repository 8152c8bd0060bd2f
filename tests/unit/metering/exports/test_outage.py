"""Exports stop for three days of requests and corrections, then start: the receivers end with exactly the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from libs.common.events.endpoint import Stage
from libs.common.signing import HmacSecret
from libs.common.store.sql import SqlStore
from libs.common.units import DAY_MS, HOUR_MS, SECOND_MS
from services.metering.shell.audit import audit
from services.metering.shell.exporters.files import SignedFiles, verified
from services.metering.shell.exporting import Exporting
from tests.unit.metering.exports.books import SERVERS, Books, receiver_of, sender_to
from tests.unit.metering.exports.receivers import Billing
from tests.unit.metering.world import T0, WINDOWS, World, batch, joined, released, requested, staged, usage

SECRET = HmacSecret(b"x" * 32)


@pytest.fixture
def receivers() -> Iterator[dict[str, Billing]]:
    """One of each."""
    with ExitStack() as stack:
        yield {system: stack.enter_context(server()) for system, server in SERVERS.items()}


def exports(books: Books, receivers: dict[str, Billing], directory: Path) -> list[Exporting]:
    """Exports of a fresh process to all of them, and to files."""
    for each in receivers.values():
        each.now_ms = books.clock.now_ms
    over_http = [books.export(receiver_of(name), sender_to(name, each.url)) for name, each in receivers.items()]
    files = SignedFiles(directory, SECRET, books.clock)
    return [*over_http, books.export(receiver_of("files"), files)]


def in_files(directory: Path) -> dict[tuple[str, int], int]:
    """What the signed files add up to, each row once."""
    rows = {row["id"]: row for row in verified(directory, SECRET)}
    found: dict[tuple[str, int], int] = {}
    for row in rows.values():
        place = (row["code"], int(row["window_start_ms"]))
        found[place] = found.get(place, 0) + int(row["quantity"])
    return {place: quantity for place, quantity in found.items() if quantity}


def test_after_three_days_without_exports_every_receiver_has_exactly_the_ledger(
    receivers: dict[str, Billing], tmp_path: Path
) -> None:
    world = World()
    books = Books(clock=world.clock, store=world.store)
    world.hear(requested(), joined("n1", at_ms=T0 + 500, sequence=1))
    world.hear(staged(Stage.READY, since_ms=T0 + 3_000, sequence=2), batch([usage("r1"), usage("r2")]))
    world.pass_time(20)
    for each in exports(books, receivers, tmp_path):
        books.settle(each, step_ms=SECOND_MS)

    # The exports stop. Time passes in three jumps, each with usage, late usage and a late end of held time.
    world.hear(released("n1", at_ms=T0 + 18_250, sequence=2))
    for day in range(1, 4):
        world.clock.advance(DAY_MS)
        now_ms = world.clock.now_ms()
        late = usage(f"late-{day}", ended_ms=T0 + 2_000 * day)
        world.hear(batch([usage(f"day-{day}", ended_ms=now_ms - HOUR_MS), late], boot_seq=day + 1, at_ms=now_ms))
        world.pass_time(20)
    for each in exports(books, receivers, tmp_path):
        books.settle(each, step_ms=SECOND_MS)

    ledger = {
        (f"{meter}/{account}" if account else meter, start_ms): quantity
        for (meter, account, start_ms), quantity in world.bill().items()
        if meter != "node_ms"
    }
    assert len(ledger) > 12
    assert {name: each.sums() for name, each in receivers.items()} == dict.fromkeys(receivers, ledger)
    assert in_files(tmp_path) == ledger
    assert audit(world.store, windows=WINDOWS) == ()


def test_three_days_of_many_windows_on_a_database_of_files(receivers: dict[str, Billing], tmp_path: Path) -> None:
    books = Books()
    books.store = SqlStore(f"sqlite:///{tmp_path / 'metering.db'}", clock=books.clock)
    for step in range(12):
        for endpoint in ("ep-one", "ep-two"):
            books.tell(step + 1, start_ms=books.clock.now_ms() - 10 * SECOND_MS, endpoint=endpoint)
        if step % 5 == 2:
            books.tell(99, start_ms=T0 - 10 * SECOND_MS)  # Late.
            books.tell(7, start_ms=T0 - 10 * SECOND_MS)  # And taken back, before anybody was told.
        books.clock.advance(6 * HOUR_MS)

    for each in exports(books, receivers, tmp_path / "files"):
        books.settle(each)

    truth = books.truth()
    assert {name: each.sums() for name, each in receivers.items()} == dict.fromkeys(receivers, truth)
    assert in_files(tmp_path / "files") == truth
    assert all(each.status().lag_s == 0 for each in exports(books, receivers, tmp_path / "files"))
    books.store.close()
