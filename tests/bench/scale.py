"""How questions, receipts and a month's close grow with the ledger: from a million entries to a hundred million.

`MILLRACE_BENCH_ENTRIES=1000000,10000000,100000000 python -m tests.bench scale` measures all three unattended, in the
temporary directory (TMPDIR), which is given back however this ends. A ledger takes at most MILLRACE_BENCH_DISK_GIB (58)
and what the disk has; one that would take more is made as large as fits, and called by its own size. Each ledger's
figures are written down as soon as they are there; with MILLRACE_BENCH_FIGURES=FILE they are also kept in that file,
and a second run goes on behind the last one.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from libs.common.clock import ManualClock
from libs.common.errors import Unavailable
from libs.common.store.sql import SqlStore
from libs.common.units import DAY_MS, HOUR_MS, MINUTE_MS
from services.metering.core.breakdown import By, broken_down
from services.metering.core.periods import LATE_H, period_of
from services.metering.shell.closing import Closing
from tests.bench import report
from tests.bench.filling import LINES, SPAN_MS, T0, fill
from tests.bench.report import Section, say
from tests.bench.room import NoRoom, a_room, most_bytes, refuse_full
from tests.support.postgres import Absent, Postgres

SIZES: Final = "1000000,10000000"
KINDS: Final = ("SQLite", "PostgreSQL")
TURNS: Final = 5
ENTRY_BYTES: Final = {"SQLite": 560, "PostgreSQL": 900}  # With indexes and sums; a little more than was measured.
ROUND: Final = 1_000_000  # A ledger that is made smaller than asked for is a whole number of these.
ADDED_UP_MAX: Final = 10_000_000  # Entries whose windows are added up one by one: of more, some days.
SAID_S: Final = 20.0  # How often it is said how far the making is.
FAST: Final = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "4GB", "shared_buffers": "512MB"}
ENDPOINT, TENANT = "tenant-03/main/ep-0003", "tenant-03"  # Busy ones.
MONTH: Final = "2026-12"
PUBLISHED: Final = (
    "Published by others, on their machines and not repeated here: Lago, 10,000 events/s on one PostgreSQL, and "
    "billing aggregation below 100 ms (p99) over a billion events in ClickHouse (getlago.com/docs/guide/events/"
    "usage-performances); OpenMeter, «millions of billable events per second» on ClickHouse Cloud "
    "(clickhouse.com/blog, 13 June 2024)."
)
Span = tuple[int, int]
Columns = dict[str, dict[str, str]]


def measure() -> Section:
    """Milliseconds of each question at each size, and how long the sizes took to make."""
    kept = os.environ.get("MILLRACE_BENCH_FIGURES")
    columns: Columns = json.loads(Path(kept).read_text()) if kept and Path(kept).exists() else {}
    for asked in (int(each) for each in os.environ.get("MILLRACE_BENCH_ENTRIES", SIZES).split(",")):
        for kind in KINDS:
            size = fitting(asked, kind)
            name = f"{kind}, {size:,}"
            if size < asked:
                say(f"{kind}, {asked:,}: only {size:,} entries have room on the disk ({most_bytes() >> 30} GiB)")
            if not size or name in columns:
                say(f"{name}: {'left out' if not size else 'was measured before'}")
                continue
            try:
                columns[name] = measured(kind, size, name)
            except (Absent, NoRoom) as why:
                say(f"{name}: LEFT OUT, {why!r}")
                continue
            if kept:
                Path(kept).write_text(json.dumps(columns, ensure_ascii=False, indent=1))
            report.write("scale", section(columns))
    return section(columns)


def section(columns: Mapping[str, Mapping[str, str]]) -> Section:
    """What was measured so far, as a table."""
    names = list(dict.fromkeys(name for found in columns.values() for name in found))
    return Section(
        title="A large ledger",
        question="How long do questions take as the ledger grows? Entries of one month, 1,000 endpoints of 50 tenants.",
        columns=("", *columns),
        rows=tuple((name, *(found.get(name, "–") for found in columns.values())) for name in names),
        notes=(
            "Medians, warm, one asker. «To the minute» begins and ends within an hour: whole days and hours come from "
            "sums, the two ends from entries.",
            "A window is a minute of an endpoint's meter and model. The close is the real one: each tenant's statement "
            "read from the month's days, hashed and committed. To add up every window, an hour at a time, is what an "
            "audit of all of them takes.",
            "Made by the database itself (`tests/bench/filling.py`); for the way through the service see «The ledger».",
            PUBLISHED,
        ),
    )


def fitting(size: int, kind: str) -> int:
    """So many entries, or as many as there is room for."""
    room = most_bytes() // ENTRY_BYTES[kind]
    return size if size <= room else max(0, room // ROUND * ROUND)


def measured(kind: str, size: int, name: str) -> dict[str, str]:
    """All figures of one ledger, each said as soon as it is there."""
    found = {}
    with ExitStack() as opened:
        for what, figure in figures(kind, size, opened):
            say(f"{name}: {what}: {figure}")
            found[what] = figure
    return found


def figures(kind: str, size: int, opened: ExitStack) -> Iterator[tuple[str, str]]:
    """What one kind of store says at one size."""
    if kind == "SQLite":
        directory = opened.enter_context(a_room())
        store = opened.enter_context(closing(SqlStore(f"sqlite:///{directory}/ledger.db")))
    else:
        server = Postgres(FAST)
        opened.callback(server.stop)
        directory = server.directory
        store = opened.enter_context(closing(SqlStore(server.new())))
    yield "entries/s, made by the database", f"{size / made(store, size, f'{kind}, {size:,}', directory):,.0f}"
    if kind == "PostgreSQL":
        with store._database.writing() as connection:
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql("ANALYZE")
    yield "bytes an entry", f"{_size_bytes(store, directory) / size:,.0f}"
    for name, ask in questions(store, size):
        yield name, median_said(ask)
    yield from closed(store, size)


def made(store: SqlStore, size: int, name: str, directory: Path) -> float:
    """Make the ledger, and say how far it is; how many seconds it took. Raises NoRoom."""
    progress = Progress(f"{name}: entries made", size)
    for entries in fill(store, size // LINES):
        used_bytes = _size_bytes(store, directory)
        refuse_full(used_bytes)
        progress.reached(entries, f"{used_bytes / 2**30:.1f} GiB")
    return progress.took_s


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
    """How long a month takes: its close, and to add up every window of it, or of some of its days."""
    closing_ = Closing(store, ManualClock(period_of(MONTH).end_ms + LATE_H * HOUR_MS), late_ms=LATE_H * HOUR_MS)
    began_s = time.perf_counter()
    statements = closing_.close(MONTH)
    yield "the month's close", f"{time.perf_counter() - began_s:,.1f} s"
    yield "lines that it states", f"{sum(len(each.lines) for each in statements):,}"
    days = max(1, min(SPAN_MS // DAY_MS, SPAN_MS // DAY_MS * ADDED_UP_MAX // size))
    progress, windows = Progress("hours of windows added up", days * DAY_MS // HOUR_MS), 0
    for hour in range(days * DAY_MS // HOUR_MS):
        from_ms = T0 + hour * HOUR_MS
        windows += len(store.sums(from_ms=from_ms, to_ms=from_ms + HOUR_MS, every_ms=MINUTE_MS))
        progress.reached(hour + 1, f"{windows:,} windows")
    took_s = progress.took_s
    yield "days whose windows were added up one by one", f"{days}"
    yield "windows of these days", f"{windows:,}"
    yield "to add up every one of them", f"{took_s:,.0f} s"
    yield "so 10 million windows (by their number)", f"{took_s * 10_000_000 / windows:,.0f} s"


def median_said(ask: Callable[[], object]) -> str:
    """How long it takes once it is warm, in the middle of several; or that the store gave it up."""
    took = []
    try:
        ask()
        for _ in range(TURNS):
            began_s = time.perf_counter()
            ask()
            took.append((time.perf_counter() - began_s) * 1000)
    except Unavailable as why:
        say(str(why))
        return "given up"
    return f"{statistics.median(took):,.1f} ms"


class Progress:
    """How far something long is, said now and then."""

    def __init__(self, what: str, of: int) -> None:
        self._what = what
        self._of = of
        self._began_s = self._said_s = time.perf_counter()

    @property
    def took_s(self) -> float:
        """Since it began."""
        return time.perf_counter() - self._began_s

    def reached(self, done: int, more: str) -> None:
        """It is so far."""
        if time.perf_counter() - self._said_s >= SAID_S:
            self._said_s, rate = time.perf_counter(), done / self.took_s
            left_min = (self._of - done) / rate / 60
            say(f"{self._what}: {done:,} of {self._of:,}, {rate:,.0f}/s, {more}, {left_min:,.0f} min left")


def _size_bytes(store: SqlStore, directory: Path) -> int:
    if store._database.dialect == "sqlite":
        return (directory / "ledger.db").stat().st_size
    with store._database.reading() as connection:
        return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
