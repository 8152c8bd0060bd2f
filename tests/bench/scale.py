"""How questions, receipts and a month's close grow with the ledger: from a million entries to a hundred million.

`MILLRACE_BENCH_ENTRIES=1000000,10000000,100000000 python -m tests.bench scale` measures all three unattended: a hundred
million take about 55 GB in the temporary directory (TMPDIR), gone afterwards. A size that the disk has no room for is
left out, and said so: PostgreSQL at the largest needs 90 GB.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final

from libs.common.store.sql import SqlStore
from libs.common.units import DAY_MS, HOUR_MS, MINUTE_MS
from services.metering.core.breakdown import By, broken_down
from tests.bench.filling import LINES, SPAN_MS, T0, fill
from tests.bench.report import Section
from tests.support.postgres import Absent, Postgres

SIZES: Final = "1000000,10000000"
TURNS: Final = 5
ENTRY_BYTES: Final = {"SQLite": 560, "PostgreSQL": 900}  # With indexes and sums; a little more than was measured.
SPARE_BYTES: Final = 8 << 30
ADDED_UP_MAX: Final = 5_000_000  # Entries whose windows are added up one by one: of more, some days.
FAST: Final = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "4GB", "shared_buffers": "512MB"}
ENDPOINT, TENANT = "tenant-03/main/ep-0003", "tenant-03"  # Busy ones.
PUBLISHED: Final = (
    "Published by others, on their machines and not repeated here: Lago, 10,000 events/s on one PostgreSQL, and "
    "billing aggregation below 100 ms (p99) over a billion events in ClickHouse (getlago.com/docs/guide/events/"
    "usage-performances); OpenMeter, «millions of billable events per second» on ClickHouse Cloud "
    "(clickhouse.com/blog, 13 June 2024)."
)
Span = tuple[int, int]


def measure() -> Section:
    """Milliseconds of each question at each size, and how long the sizes took to make."""
    columns: dict[str, dict[str, str]] = {}
    sizes = [int(each) for each in os.environ.get("MILLRACE_BENCH_ENTRIES", SIZES).split(",")]
    for size in sizes:
        for kind in ("SQLite", "PostgreSQL"):
            with ExitStack() as opened, suppress(Absent):
                directory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="mr-bench-")))
                if shutil.disk_usage(directory).free < size * ENTRY_BYTES[kind] + SPARE_BYTES:
                    sys.stderr.write(f"NO ROOM ON THE DISK for {size:,} entries on {kind}: LEFT OUT\n")
                    continue
                columns[f"{kind}, {size:,}"] = dict(figures(kind, size, directory, opened))
    names = list(dict.fromkeys(name for found in columns.values() for name in found))
    return Section(
        title="A large ledger",
        question="How long do questions take as the ledger grows? Entries of one month, 1,000 endpoints of 50 tenants.",
        columns=("", *columns),
        rows=tuple((name, *(found.get(name, "–") for found in columns.values())) for name in names),
        notes=(
            "Medians, warm, one asker. «To the minute» begins and ends within an hour: whole days and hours come from "
            "sums, the two ends from entries.",
            "A window is a minute of an endpoint's meter and model. A statement reads the month's days; to add up "
            "every window, an hour at a time, is what an audit of all of them takes.",
            "Made by the database itself (`tests/bench/filling.py`); for the way through the service see «The ledger».",
            PUBLISHED,
        ),
    )


def figures(kind: str, size: int, directory: Path, opened: ExitStack) -> Iterator[tuple[str, str]]:
    """What one kind of store says at one size."""
    if kind == "SQLite":
        store = opened.enter_context(closing(SqlStore(f"sqlite:///{directory}/ledger.db")))
    else:
        server = Postgres(FAST)
        opened.callback(server.stop)
        store = opened.enter_context(closing(SqlStore(server.new())))
    began_s = time.perf_counter()
    for made in fill(store, size // LINES):
        if made % 9_000_000 == 0:
            sys.stderr.write(f"{kind}: {made:,} entries after {time.perf_counter() - began_s:,.0f} s\n")
    if kind == "PostgreSQL":
        with store._database.writing() as connection:
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql("ANALYZE")
    yield "bytes an entry", f"{_size_bytes(kind, store, directory) / size:,.0f}"
    for name, ask in questions(store, size):
        yield name, f"{median_ms(ask):,.1f} ms"
    yield from closed(store, size)


def questions(store: SqlStore, size: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is asked of a ledger."""
    whole, last = (T0, T0 + SPAN_MS), (T0 + SPAN_MS - HOUR_MS, T0 + SPAN_MS)
    odd = (T0 + HOUR_MS // 3, T0 + SPAN_MS - HOUR_MS // 3)
    middle = f"request/req-{size // LINES // 2:012d}"
    start_ms = T0 + SPAN_MS // 2

    def asked(span: Span, under: str | None, *by: By, every_ms: int | None = None) -> Callable[[], object]:
        return lambda: broken_down(store.sums(from_ms=span[0], to_ms=span[1], under=under, every_ms=every_ms), by)

    yield "a month of an endpoint, by model and day", asked(whole, ENDPOINT, By.MODEL, By.DAY, every_ms=DAY_MS)
    yield "a month of an endpoint, to the minute", asked(odd, ENDPOINT, By.MODEL)
    yield "a month of a tenant, by endpoint", asked(whole, TENANT, By.ENDPOINT)
    yield "a month of a tenant, to the minute", asked(odd, TENANT, By.ENDPOINT)
    yield "a month of the fleet, by tenant", asked(whole, None, By.TENANT)
    yield "the last hour of a tenant, by endpoint", asked(last, TENANT, By.ENDPOINT)
    yield "one window, as it is told", asked((start_ms, start_ms + MINUTE_MS), ENDPOINT, By.MODEL)
    yield "the receipt of a request", lambda: store.entries_of([f"{middle}/requests", f"{middle}/completion_tokens"])
    yield "a page of 200 lines of an account", lambda: store.entries(account=ENDPOINT, from_ms=start_ms, limit=200)


def closed(store: SqlStore, size: int) -> Iterator[tuple[str, str]]:
    """How long it takes to add up a month: its statement's days, and every window of it, or of some of its days."""
    began_s = time.perf_counter()
    lines = len(store.sums(from_ms=T0, to_ms=T0 + SPAN_MS))
    yield "lines of statements, by account, meter and labels", f"{lines:,}"
    yield "to read them, as statements do", f"{time.perf_counter() - began_s:,.1f} s"
    days = max(1, min(SPAN_MS // DAY_MS, SPAN_MS // DAY_MS * ADDED_UP_MAX // size))
    began_s, windows = time.perf_counter(), 0
    for from_ms in range(T0, T0 + days * DAY_MS, HOUR_MS):
        windows += len(store.sums(from_ms=from_ms, to_ms=from_ms + HOUR_MS, every_ms=MINUTE_MS))
    took_s = time.perf_counter() - began_s
    yield "days whose windows were added up one by one", f"{days}"
    yield "windows of these days", f"{windows:,}"
    yield "to add up every one of them", f"{took_s:,.0f} s"
    yield "so 10 million windows (by their number)", f"{took_s * 10_000_000 / windows:,.0f} s"


def median_ms(ask: Callable[[], object]) -> float:
    """How long it takes once it is warm, in the middle of several."""
    ask()
    took = []
    for _ in range(TURNS):
        began_s = time.perf_counter()
        ask()
        took.append((time.perf_counter() - began_s) * 1000)
    return statistics.median(took)


def _size_bytes(kind: str, store: SqlStore, directory: Path) -> int:
    if kind == "SQLite":
        return (directory / "ledger.db").stat().st_size
    with store._database.reading() as connection:
        return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
