"""What it costs capacity-manager to follow claims that are at rest: CPU time a pass, requests and writes."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx

from libs.common.clock import ManualClock
from libs.common.events.envelope import Envelope
from libs.common.ids import EventId
from libs.common.store.sql import SqlStore
from libs.common.units import MINUTE_MS, SECOND_MS
from libs.twin import kinds
from libs.twin.fake_engines import FakeEngines
from libs.twin.inprocess import WorldTransport
from libs.twin.objects import Json, clone
from libs.twin.options import DEFAULT_KEY, NODE_TYPES, TwinOptions
from libs.twin.world import World
from services.capacity_manager.core.lifecycle import Stage, stage_of
from services.capacity_manager.core.state import CLAIM
from services.capacity_manager.service import build
from services.capacity_manager.shell.platform import Platform, PlatformClient
from services.capacity_manager.shell.ports import Ports
from tests.bench.report import Section
from tests.capacity.lives import Act, one_life

SIZES: Final = (100, 1_000, 10_000)
PER_PROJECT: Final = 50
PASSES: Final = 5
RESYNC_MS: Final = 5 * SECOND_MS
STEPS_MAX: Final = 200
Swaps = tuple[tuple[str, str], ...]


class Metered(WorldTransport):
    """The twin in this process, with its own time counted apart: what is left is the service's and its client's."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.twin_s = 0.0
        self.requests = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer, and count."""
        began_s = time.process_time()
        try:
            return super().handle_request(request)
        finally:
            self.twin_s += time.process_time() - began_s
            self.requests += 1


class Fleet:
    """Claims at rest over a database of their own: one brought up for real, the others its likenesses."""

    def __init__(self, directory: str, size: int) -> None:
        self.clock = ManualClock()
        h100 = NODE_TYPES[0].model_copy(update={"capacity": 2 * size})
        self.world = World(self.clock, TwinOptions(time_scale=0.01, node_types=(h100, NODE_TYPES[1])), FakeEngines())
        self.store = SqlStore(f"sqlite:///{directory}/capacity-{size}.db")
        self.transport = Metered(self.world)
        key = Path(directory) / "key"
        key.write_text(DEFAULT_KEY)
        self.platform = Platform(PlatformClient(url="http://twin", key_file=key, transport=self.transport))
        self.ports = Ports(self.store, self.clock, self.platform, resync_ms=RESYNC_MS)
        self.service = build(self.ports)
        self._last = 0
        self._bring_up_one()
        self._multiply(size)

    def passes(self, count: int) -> Iterator[tuple[float, int, int]]:
        """So many passes: core-seconds of ours, requests, and journal rows written."""
        for _ in range(count):
            self.clock.advance(RESYNC_MS)
            began = time.process_time() - self.transport.twin_s, self.transport.requests, self._rows()
            self.service.reconcile()
            ended = time.process_time() - self.transport.twin_s, self.transport.requests, self._rows()
            yield ended[0] - began[0], ended[1] - began[1], ended[2] - began[2]

    def _rows(self) -> int:
        while rows := self.store.journal_rows(after=self._last, limit=1_000):
            self._last = rows[-1].seq
        return self._last

    def _bring_up_one(self) -> None:
        life = one_life(from_ms=self.clock.now_ms())
        told = life.do(Act(0, "request", 1), self.clock.now_ms())[0]
        self.service.handle(Envelope(EventId("one"), told.data, "ep-one", told.time_ms, 1, sequence=1))
        for _ in range(STEPS_MAX):
            self.clock.advance(SECOND_MS)
            self.service.tick()
            self.service.reconcile()
            state = self.service.runner(CLAIM).state("ep-one")
            if state is not None and stage_of(state) is Stage.HELD:
                break
        self.clock.advance(MINUTE_MS)
        self.world.advance()

    def _multiply(self, size: int) -> None:
        """Put the likenesses there as if they had come up; no controller has to move them."""
        self.world.store.on_change = lambda _change: None
        project = self.world.store.get(kinds.PROJECTS, "", "mr-t0-p0")
        instance = self.world.store.get(kinds.INSTANCES, "p-mr-t0-p0", "ep-one")
        (node,) = self.world.store.all(kinds.NODE_CLAIMS)
        record = self.store.load(CLAIM, "ep-one")
        assert record is not None
        for number in range(1, size):
            place = f"p{number // PER_PROJECT}"
            swaps: Swaps = (("ep-one", f"ep-{number}"), ('"p0"', f'"{place}"'), ("mr-t0-p0", f"mr-t0-{place}"))
            if number % PER_PROJECT == 0:
                self._put(kinds.PROJECTS, project, swaps)
            self._put(kinds.INSTANCES, instance, swaps)
            self._put(kinds.NODE_CLAIMS, node, swaps)
            alike = replace(
                record, key=f"ep-{number}", state=_swapped(record.state.decode(), swaps).encode(), version=0
            )
            with self.store.transaction() as unit:
                unit.save(alike, was=0)

    def _put(self, kind: kinds.Kind, thing: Json, swaps: Swaps) -> None:
        self.world.store.create(kind, _renamed(clone(thing), swaps), self.clock.now_ms())


def measure() -> Section:
    """The curve from a hundred to ten thousand, beside passes that look at each claim."""
    rows: list[tuple[str, ...]] = []
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="mr-bench-") as directory:
            fleet = Fleet(directory, size)
            with closing(fleet.store):
                rows.append(_row(size, fleet))
    return Section(
        title="Claims at rest",
        question="What does capacity-manager spend on claims for which nothing changes? Core-seconds of a pass, "
        "its own and its HTTP client's; a pass comes every five seconds.",
        columns=("claims", "a pass", "requests", "rows written", "looking at each", "requests", "ratio"),
        rows=tuple(rows),
        notes=(
            "SQLite, real adapter and HTTP client, the twin in the same process with its time taken off.",
            "Looking at each, and writing what it saw, is what the first pass after a start does; the next rest.",
        ),
    )


def _row(size: int, fleet: Fleet) -> tuple[str, ...]:
    (each,) = fleet.passes(1)
    list(fleet.passes(2))  # What the first wrote is looked at once more.
    resting = list(fleet.passes(PASSES))
    pass_s = statistics.median(spent for spent, _, _ in resting)
    return (
        f"{size:,}",
        f"{pass_s:.3f} s",
        f"{max(requests for _, requests, _ in resting):,}",
        f"{sum(rows for _, _, rows in resting):,}",
        f"{each[0]:.2f} s",
        f"{each[1]:,}",
        f"{each[0] / pass_s:.0f}",
    )


def _renamed(thing: Any, swaps: Swaps) -> Any:  # JSON of any shape.
    if isinstance(thing, dict):
        return {_renamed(key, swaps): _renamed(value, swaps) for key, value in thing.items()}
    if isinstance(thing, list):
        return [_renamed(each, swaps) for each in thing]
    if isinstance(thing, str):
        return thing.replace("p0", swaps[1][1].strip('"')) if thing == "p0" else _swapped(thing, swaps)
    return thing


def _swapped(text: str, swaps: Swaps) -> str:
    for old, new in swaps:
        text = text.replace(old, new)
    return text
