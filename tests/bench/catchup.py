"""How fast metering catches up: a backlog of usage in the stream, then the process is started, until all is entered.

`MILLRACE_BENCH_BACKLOG=1000000` says how many usage events. NATS, metering and the database share the machine's cores.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final

from libs.common.bus.nats import NatsBus
from libs.common.bus.port import Message
from libs.common.bus.provision import provision
from libs.common.bus.streams import message_of
from libs.common.clock import SystemClock
from libs.common.store.sql import SqlStore
from tests.bench import ledger
from tests.bench.report import Section
from tests.support.nats import a_started_server
from tests.support.ports import free_port
from tests.support.postgres import Absent, Postgres

BACKLOG: Final = 1_000_000
PUBLISHED_AT_ONCE: Final = 20
LOOK_S: Final = 5.0  # A look counts all entries: of three million that is a second of the disk.
WAIT_S: Final = 1_800.0


def measure() -> Section:
    """Usage events a second, from the stream to the ledger, of a metering process that was away."""
    events = int(os.environ.get("MILLRACE_BENCH_BACKLOG", BACKLOG))
    batches = events // ledger.BATCH
    rows = []
    for kind in ("SQLite", "PostgreSQL"):
        with ExitStack() as opened, suppress(Absent):
            directory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="mr-bench-")))
            url = f"sqlite:///{directory}/metering.db"
            if kind == "PostgreSQL":
                postgres = Postgres(ledger.DURABLE)
                opened.callback(postgres.stop)
                url = postgres.new()
            took_s, cpu_s = caught_up(url, directory, batches)
            rate, of_cpu = batches * ledger.BATCH / took_s, batches * ledger.BATCH / cpu_s
            rows.append((kind, f"{batches * ledger.BATCH:,}", f"{took_s:,.1f}", f"{rate:,.0f}", f"{of_cpu:,.0f}"))
    return Section(
        title="Catching up",
        question="How fast does metering enter what waited in the stream while it was away?",
        columns=("", "usage events", "seconds", "events/s", "of metering's CPU"),
        rows=tuple(rows),
        notes=(
            f"Batches of {ledger.BATCH} of {ledger.ENDPOINTS} endpoints, published before the process starts.",
            "From the first entry in the ledger to the last: pull, decode, one durable commit a batch, ack; while the "
            "process tells windows and confirms to the router, as always.",
        ),
    )


def caught_up(url: str, directory: Path, batches: int) -> tuple[float, float]:
    """Seconds until the ledger has every request of the backlog, and how much CPU time metering took for it."""
    server = a_started_server(directory / "nats")
    try:
        asyncio.run(_publish(server.url, server.monitor_url, batches))
        settings = {
            "MILLRACE_NATS_URL": server.url,
            "MILLRACE_DATABASE_URL": url,
            "MILLRACE_ADMIN_PORT": str(free_port()),
            "MILLRACE_HTTP_PORT": str(free_port()),
            "MILLRACE_LOG_LEVEL": "WARNING",
            "MILLRACE_AUDIT_S": "3600",  # What is not yet told differs until it is.
        }
        with closing(SqlStore(url)) as store:
            process = subprocess.Popen([sys.executable, "-m", "services.metering"], env={**os.environ, **settings})
            try:
                return _until(store, process, batches * ledger.BATCH)
            finally:
                process.terminate()
                process.wait()
    finally:
        server.kill()


def _until(store: SqlStore, process: subprocess.Popen[bytes], events: int) -> tuple[float, float]:
    began_s, first, deadline_s = 0.0, 0, time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        assert process.poll() is None, "metering ended"
        there = ledger.count(store) // 3
        if there and not began_s:
            began_s, first, cpu_s = time.monotonic(), there, _cpu_s(process.pid)
        if there >= events:
            share = events / (events - first)  # What was there at the first look was not timed.
            return (time.monotonic() - began_s) * share, (_cpu_s(process.pid) - cpu_s) * share
        time.sleep(LOOK_S)
    raise AssertionError(f"not caught up within {WAIT_S:,.0f} s")


def _cpu_s(pid: int) -> float:
    """The CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _publish(url: str, monitor_url: str, batches: int) -> None:
    await provision(url, monitor_url=monitor_url)
    bus = NatsBus(url, name="router")
    await bus.start()
    waiting: list[Message] = []
    for message in _messages(batches):
        waiting.append(message)
        while len(waiting) >= PUBLISHED_AT_ONCE:
            waiting = waiting[await bus.publish(waiting) :]
    while waiting:
        waiting = waiting[await bus.publish(waiting) :]
    await bus.stop()


def _messages(batches: int) -> Iterator[Message]:
    now_ms = SystemClock().now_ms()
    for number in range(batches):
        envelope = ledger.report("one", number, ledger.ENDPOINTS, began_ms=now_ms - 3_600_000, of=batches)
        yield message_of(envelope)
