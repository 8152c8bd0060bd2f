"""How fast metering catches up: a backlog of usage in the stream, then the process is started, until all is entered.

`MILLRACE_BENCH_BACKLOG=1000000` says how many usage events. NATS, metering and the database share the machine's cores.
A database gets `WAIT_S`, and what it entered until then counts: with both that is at most eight minutes and 5 GB.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import httpx

from libs.common.bus.nats import NatsBus
from libs.common.bus.port import Message, bucket_put
from libs.common.bus.provision import provision
from libs.common.bus.streams import KEYS, message_of
from libs.common.clock import SystemClock
from libs.common.events.capacity import NodeJoined
from libs.common.events.tables import KeyEntry
from libs.common.ids import SystemEntropy, event_id
from libs.common.keys import mint
from libs.common.units import HOUR_MS, MINUTE_MS
from tests.bench import ledger
from tests.bench.report import Section, say
from tests.support.nats import a_started_server
from tests.support.ports import free_port
from tests.support.postgres import Absent, Postgres
from tests.support.web import NO_TLS
from tests.unit.metering.world import envelope, requested

BACKLOG: Final = 1_000_000
AWAY_MS: Final = 1 * HOUR_MS  # What waits was served within this: some 280 requests a second, all windows closed.
PUBLISHED_AT_ONCE: Final = 20
LOOK_S: Final = 1.0
SAID_S: Final = 10.0
WAIT_S: Final = 190.0
UP_S: Final = 60.0
TENTHS: Final = 10
POSTGRES: Final = {**ledger.DURABLE, "max_wal_size": "512MB"}  # Half the default, for the disk.


@dataclass(frozen=True, slots=True)
class Look:
    """What `millrace usage` said: how many requests are entered, and how long it took to say so."""

    at_s: float
    cpu_s: float
    entered: int
    took_s: float


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Looks at a process that enters a backlog of so many events; the first has the first entries."""

    looks: Sequence[Look]
    events: int

    @property
    def _span(self) -> tuple[Look, Look]:
        return self.looks[0], self.looks[-1]

    def cells(self) -> list[str]:
        """What the section says of it."""
        first, last = self._span
        entered, took_s = last.entered - first.entered, last.at_s - first.at_s
        asked_ms = [each.took_s * 1000 for each in self.looks]
        return [
            f"{last.entered:,} of {self.events:,}",
            f"{took_s:,.1f}",
            f"{entered / took_s:,.0f} ({entered / (last.cpu_s - first.cpu_s):,.0f})",
            *self._tenths(),
            f"{statistics.median(asked_ms):,.0f} ms",
            f"{max(asked_ms):,.0f} ms",
        ]

    def _tenths(self) -> Iterator[str]:
        """Events a second of each tenth of what was entered, by the clock and of metering's CPU."""
        first, last = self._span
        size = (last.entered - first.entered) / TENTHS
        borders = [self._when(first.entered + size * each) for each in range(TENTHS + 1)]
        for (begin_s, begin_cpu_s), (end_s, end_cpu_s) in pairwise(borders):
            yield f"{size / (end_s - begin_s):,.0f} ({size / (end_cpu_s - begin_cpu_s):,.0f})"

    def _when(self, entered: float) -> tuple[float, float]:
        """When so many were entered, and how much CPU that had taken: between the looks before and after."""
        for before, after in pairwise(self.looks):
            if before.entered <= entered <= after.entered and before.entered < after.entered:
                share = (entered - before.entered) / (after.entered - before.entered)
                at_s = before.at_s + share * (after.at_s - before.at_s)
                return at_s, before.cpu_s + share * (after.cpu_s - before.cpu_s)
        return self.looks[-1].at_s, self.looks[-1].cpu_s


WHAT: Final = (
    "usage events entered",
    "seconds",
    "events/s (of metering's CPU)",
    *(f"tenth {number + 1}" for number in range(TENTHS)),
    "`millrace usage` meanwhile, median",
    "`millrace usage` meanwhile, slowest",
)


def measure() -> Section:
    """Usage events a second, from the stream to the ledger, of a metering process that was away."""
    events = int(os.environ.get("MILLRACE_BENCH_BACKLOG", BACKLOG))
    found: dict[str, list[str]] = {}
    for kind in ("SQLite", "PostgreSQL"):
        with ExitStack() as opened, suppress(Absent):
            directory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="mr-bench-")))
            url = f"sqlite:///{directory}/metering.db"
            if kind == "PostgreSQL":
                postgres = Postgres(POSTGRES)
                opened.callback(postgres.stop)
                url = postgres.new()
            found[kind] = caught_up(kind, url, directory, events // ledger.BATCH).cells()
    return Section(
        title="Catching up",
        question="How fast does metering enter what waited in the stream while it was away for an hour?",
        columns=("", *found),
        rows=tuple((what, *cells) for what, *cells in zip(WHAT, *found.values(), strict=True)),
        notes=(
            f"Batches of {ledger.BATCH} of {ledger.ENDPOINTS} endpoints with a node each, all published beforehand.",
            "From the first entry in the ledger to the last: pull, decode, one durable commit a batch, ack; while the "
            "process tells the hour's windows, books nodes and confirms to the router, as always.",
            "A tenth is of the events; in brackets by the CPU time of the process, which the machine's other work does "
            f"not slow as much. `millrace usage` is its question to the process, every {LOOK_S:g} s.",
            "NATS, metering and the database share this machine's cores.",
        ),
    )


def caught_up(kind: str, url: str, directory: Path, batches: int) -> CaughtUp:
    """Looks until the ledger has every request of the backlog, or the time is over."""
    server = a_started_server(directory / "nats")
    try:
        key = mint(SystemEntropy())
        entry = KeyEntry(key_id=key.key_id, sha256=key.sha256, tenant_id="acme", project_id="main", scopes=("read",))
        put = bucket_put(bucket=KEYS, key=key.key_id, value=entry.model_dump_json().encode(), id=key.key_id)
        say(f"{kind}: publishing {batches * ledger.BATCH:,} usage events")
        asyncio.run(_publish(server.url, server.monitor_url, [put, *_endpoints()], batches))
        with _metering(server.url, url) as (process, usage_url):
            events = batches * ledger.BATCH
            return CaughtUp(list(_looks(kind, process, usage_url, key.plaintext, events)), events)
    finally:
        server.kill()


@contextmanager
def _metering(nats_url: str, database_url: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    settings = {
        "MILLRACE_NATS_URL": nats_url,
        "MILLRACE_DATABASE_URL": database_url,
        "MILLRACE_ADMIN_PORT": str(free_port()),
        "MILLRACE_HTTP_PORT": str(port),
        "MILLRACE_LOG_LEVEL": "WARNING",
        "MILLRACE_AUDIT_S": "3600",  # What is not yet told differs until it is.
    }
    process = subprocess.Popen([sys.executable, "-m", "services.metering"], env={**os.environ, **settings})
    try:
        yield process, f"http://127.0.0.1:{port}/v1/usage"
    finally:
        process.terminate()
        process.wait()


def _looks(kind: str, process: subprocess.Popen[bytes], url: str, key: str, events: int) -> Iterator[Look]:
    """Looks from the first entry on, until all are there or the time is over."""
    began_s = time.monotonic()
    said_s, deadline_s = began_s, began_s + UP_S + WAIT_S
    with httpx.Client(verify=NO_TLS, headers={"authorization": f"Bearer {key}"}, timeout=WAIT_S) as client:
        while time.monotonic() < deadline_s:
            time.sleep(LOOK_S)
            assert process.poll() is None, "metering ended"
            look = _look(client, url, process.pid)
            if look is None or not look.entered:
                assert time.monotonic() < began_s + UP_S, "metering entered nothing"
                continue
            deadline_s = min(deadline_s, look.at_s + WAIT_S)  # Of the first of them.
            yield look
            if look.entered >= events:
                return
            if look.at_s > said_s + SAID_S:
                said_s = look.at_s
                say(f"{kind}: {look.entered:,} entered after {look.at_s - began_s:,.0f} s")


def _look(client: httpx.Client, url: str, pid: int) -> Look | None:
    asked_s = time.monotonic()
    try:
        answer = client.get(url)
    except httpx.TransportError:
        return None  # It is not up yet.
    if answer.status_code != 200:
        return None
    entered = sum(each["quantity"] for each in answer.json()["items"] if each["meter"] == "requests")
    return Look(time.monotonic(), _cpu_s(pid), entered, time.monotonic() - asked_s)


def _cpu_s(pid: int) -> float:
    """The CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _publish(url: str, monitor_url: str, first: Sequence[Message], batches: int) -> None:
    await provision(url, monitor_url=monitor_url)
    bus = NatsBus(url, name="router")
    await bus.start()
    waiting = [*first]
    for message in _messages(batches):
        waiting.append(message)
        while len(waiting) >= PUBLISHED_AT_ONCE:
            waiting = waiting[await bus.publish(waiting) :]
    while waiting:
        waiting = waiting[await bus.publish(waiting) :]
    await bus.stop()


def _endpoints() -> Iterator[Message]:
    """What metering hears of each endpoint: it was asked for, and a node came."""
    at_ms = SystemClock().now_ms() - AWAY_MS
    for number in range(ledger.ENDPOINTS):
        name = f"ep-{number:04d}"
        yield message_of(replace(requested(endpoint=name, at_ms=at_ms), id=event_id(name, "requested", 0)))
        node = NodeJoined(claim=f"claim-{number}", node_type="metal3.gpu-h100", gpu_count=8, at_ms=at_ms)
        yield message_of(envelope(node, subject=name, at_ms=at_ms))


def _messages(batches: int) -> Iterator[Message]:
    began_ms = SystemClock().now_ms() - AWAY_MS - MINUTE_MS
    for number in range(batches):
        of = ledger.Served(began_ms, AWAY_MS, batches * ledger.BATCH)
        yield message_of(ledger.report("one", number, ledger.ENDPOINTS, of))
