"""How fast usage gets into the ledger, that a replay adds nothing, and how long a question about it takes."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from libs.common.bus.port import Ack, Delivery
from libs.common.bus.streams import message_of
from libs.common.clock import ManualClock
from libs.common.collector import calm_collector
from libs.common.events.capacity import NodeJoined
from libs.common.events.envelope import Envelope
from libs.common.events.route import RequestUsage, UsageReported
from libs.common.events.runtime import Replica, ReplicasChanged
from libs.common.events.usage import Meter
from libs.common.ids import event_id
from libs.common.store.memory import MemoryStore
from libs.common.store.port import Entry, Store
from libs.common.store.sql import SqlStore
from libs.common.units import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from services.metering.core.breakdown import By, broken_down
from services.metering.core.labels import Labels, text_of
from services.metering.service import build
from services.metering.shell.ports import Ports
from tests.bench.report import Section
from tests.support.postgres import Absent, Postgres
from tests.unit.metering.world import envelope, requested

T0: Final = 1_800_000_000_000
BATCH: Final = 500  # Requests in a report: the most that a router puts into one.
BATCHES: Final = 20
SIZES: Final = (30_000, 100_000)  # Entries in the ledger when it is asked.
SPAN_MS: Final = 30 * DAY_MS
ENDPOINTS: Final = 20
FILL: Final = 3_000
TURNS: Final = 9
LABELS: Final = text_of(Labels("millrace/ngram-1", 1, "h100-dedicated", "eu-1", key="abcdefghij"))
CONTENT: Final = b"x" * 400  # As long as a request's.
DURABLE: Final = {"fsync": "on"}


def measure() -> Section:
    """Usage events a second of one thread, and milliseconds of two questions."""
    rows = []
    asyncio.run(calm_collector())  # As the process does when it starts.
    with ExitStack() as opened:
        directory = opened.enter_context(tempfile.TemporaryDirectory(prefix="mr-bench-"))
        for name, make in stores(opened, directory):
            rows += [(name, *cells) for cells in measured(make)]
    return Section(
        title="The ledger",
        question="How fast does metering take in usage, and how long does it take to be asked? One thread.",
        columns=("", "what", "figure"),
        rows=tuple(rows),
        notes=(
            f"A usage event is a request: 3 entries. Batches of {BATCH}, from the bytes on the wire to the commit.",
            "Every endpoint holds a node and runs a replica.",
            "A batch is one durable commit: entries, sums of hours and days, marked windows, confirmation, journal.",
            "«Of our CPU» counts this process's own time: no waiting for the disk, for the database's process, or for "
            "others on the machine. What limits it: Python on the way to the statements about half («memory»), the "
            "statements the other half, then the one fsync of a batch.",
            f"Asked of {ENDPOINTS} endpoints of one tenant over 30 days that begin and end within an hour; medians.",
            "«From entries» is without the sums of hours and days. For larger ones see «A large ledger».",
        ),
    )


def stores(opened: ExitStack, directory: str) -> Iterator[tuple[str, Callable[[], Store]]]:
    """How to make a new store of each kind that there is on this machine."""
    numbers = itertools.count()
    yield "memory: what is ours", MemoryStore
    yield "SQLite", lambda: SqlStore(f"sqlite:///{Path(directory) / str(next(numbers))}.db")
    with suppress(Absent):
        server = Postgres(DURABLE)
        opened.callback(server.stop)
        yield "PostgreSQL", lambda: SqlStore(server.new())


def measured(make: Callable[[], Store]) -> Iterator[tuple[str, str]]:
    """What one kind of store says."""
    with closing(make()) as store:
        one, entered = ingest(store, boot="one", endpoints=1)
        again, added = ingest(store, boot="two", endpoints=1)
        assert (entered, added) == (3 * BATCH * BATCHES, 0)
        yield "usage events/s of one endpoint", one.said
        yield f"the same again, which adds {added} entries", again.said
    for endpoints in (ENDPOINTS, 10 * ENDPOINTS):
        with closing(make()) as store:
            many, _entered = ingest(store, boot="one", endpoints=endpoints)
            yield f"usage events/s of {endpoints} endpoints in each batch", many.said
    with closing(make()) as store:
        there = 0
        for size in SIZES:
            fill(store, there, size)
            there = size
            for what, found in asked(store):
                yield f"{what}, {size:,} entries", f"{found:,.1f} ms"


@dataclass(frozen=True, slots=True)
class Rate:
    """Usage events a second: of the clock on the wall, and of our own CPU time."""

    wall: float
    cpu: float

    @property
    def said(self) -> str:
        """Both."""
        return f"{self.wall:,.0f} ({self.cpu:,.0f} of our CPU)"


def ingest(store: Store, *, boot: str, endpoints: int) -> tuple[Rate, int]:
    """Take in all batches as the bus delivers them; how fast, and how many entries came of it."""
    service = build(Ports(store, ManualClock(T0 + DAY_MS)))
    deliveries = [Delivery(message_of(report(boot, each, endpoints)), "metering-usage") for each in range(BATCHES)]
    for number in range(endpoints):
        name, since_ms = f"ep-{number:04d}", T0 + DAY_MS - SECOND_MS
        service.handle(requested(endpoint=name))  # So that it is known whom requests may name.
        node = NodeJoined(claim=f"claim-{number}", node_type="metal3.gpu-h100", gpu_count=8, at_ms=since_ms)
        service.handle(envelope(node, subject=name, at_ms=since_ms))
        replica = Replica(name="pod-0", url="http://10.0.0.1:8000")
        service.handle(envelope(ReplicasChanged(desired=1, ready=1, replicas=(replica,)), subject=name, at_ms=since_ms))
    before = count(store)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for each in deliveries:
        assert isinstance(service.deliver(each), Ack)
    took_s, worked_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    return Rate(BATCH * BATCHES / took_s, BATCH * BATCHES / worked_s), count(store) - before


@dataclass(frozen=True, slots=True)
class Served:
    """So many requests, one after the other within a time."""

    began_ms: int
    within_ms: int
    requests: int


BRIEFLY: Final = Served(T0, 1 * MINUTE_MS, BATCH * BATCHES)


def report(boot: str, number: int, endpoints: int, served: Served = BRIEFLY) -> Envelope:
    """One of a router's batches; the requests in it do not depend on the boot."""
    requests = tuple(a_request(number * BATCH + each, endpoints, served) for each in range(BATCH))
    data = UsageReported(instance="router-1", boot_id=boot, boot_seq=number + 1, requests=requests)
    return Envelope(event_id(f"{boot}{number}", data.kind, 0), data, "router-1", T0, sequence=number + 1)


def a_request(number: int, endpoints: int, served: Served) -> RequestUsage:
    """One of the requests that were served."""
    at_ms = served.began_ms + number * served.within_ms // served.requests
    return RequestUsage(
        request_id=f"req-{number:012d}",
        tenant_id="acme",
        project_id="main",
        endpoint_id=f"ep-{number % endpoints:04d}",
        generation=1,
        model="millrace/ngram-1",
        tier="h100-dedicated",
        region="eu-1",
        key_id="abcdefghij",
        api="chat",
        prompt_tokens=number % 4000,
        completion_tokens=number % 700,
        token_source="engine_final",
        finish="stop",
        started_ms=at_ms,
        first_token_ms=None,
        ended_ms=at_ms + 900,
    )


def fill(store: Store, there: int, size: int) -> None:
    """Enter requests over 30 days until the ledger has so many entries."""
    for begin in range(there // 3, size // 3 + 1, FILL // 3):
        with store.transaction() as unit:
            unit.enter_all([each for number in range(begin, begin + FILL // 3) for each in lines(number, size // 3)])


def lines(number: int, of: int) -> Sequence[Entry]:
    """The entries of one of so many requests, spread over 30 days."""
    at_ms = T0 + number * 7919 % of * SPAN_MS // of
    account = f"acme/main/ep-{number % ENDPOINTS:04d}"
    return [
        Entry(f"request/req-{number:012d}/{meter}", account, meter, quantity, at_ms, CONTENT, LABELS)
        for meter, quantity in ((Meter.REQUESTS, 1), (Meter.PROMPT_TOKENS, 900), (Meter.COMPLETION_TOKENS, 90))
    ]


def asked(store: Store) -> Iterator[tuple[str, float]]:
    """Milliseconds of each question."""
    from_ms, to_ms = T0 + HOUR_MS // 3, T0 + SPAN_MS - HOUR_MS // 3
    sums = partial(store.sums, from_ms=from_ms, to_ms=to_ms)
    endpoint, tenant = "acme/main/ep-0003", "acme"
    yield (
        "an endpoint by model and day",
        median_ms(lambda: broken_down(sums(under=endpoint, every_ms=DAY_MS), (By.MODEL, By.DAY))),
    )
    yield "a tenant by endpoint", median_ms(lambda: broken_down(sums(under=tenant), (By.ENDPOINT,)))
    yield "a tenant by endpoint, from entries", median_ms(lambda: store.totals(from_ms=from_ms, to_ms=to_ms))


def median_ms(ask: Callable[[], object]) -> float:
    """How long it takes, in the middle of several."""
    took = []
    for _ in range(TURNS):
        began_s = time.perf_counter()
        ask()
        took.append((time.perf_counter() - began_s) * 1000)
    return statistics.median(took)


def count(store: Store) -> int:
    """How many requests' lines there are, by their meters: each adds one to `requests`, and has three lines."""
    return 3 * sum(each.quantity for each in store.totals(from_ms=0, to_ms=1 << 60) if each.meter == "requests")
