"""What a request costs the router in its own process: every feature on, no sockets, counted in CPU time and in calls.

The whole way of a request is driven by hand, from the client's bytes to the engine's and back, so that the figures
hold still on a busy machine. ``python -m tests.bench.hotpath [request|chunk|strip|refusal|bill]`` profiles one of them,
``python -m tests.bench.hotpath stages`` counts the calls of a request by what they are for.
"""

from __future__ import annotations

import collections
import cProfile
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvloop

from libs.common.collector import calm_collector
from services.router.core.pressure import Pressure
from services.router.shell.edge.arrivals import Caller
from services.router.shell.told.usage import UsageSender
from tests.bench.by_hand import EVENT, LARGE, LIMITED, PASSED, REQUEST, STREAM, STRIPPED, Bench, a_bench, framed, last
from tests.bench.report import Section

TURNS: Final = 7
REQUESTS: Final = 2000  # A turn.
CHUNKS: Final = 5000
COUNTED: Final = 200  # Requests whose calls are counted.
STAGES: Final[Mapping[str, str]] = {  # By the modules in which a call is made.
    "entering": "connection entrance arrivals pressure sure outgoing intake familiar gateway keys key_use"
    " client_address",
    "the body": "openai plain surface",
    "limits": "entering standing limits quotas budgets table",
    "choice": "waiting target balancing affinity ejection queueing",
    "the rows": "serving log segment durable finished",
    "asking": "asking",
    "the engine's answer": "upstream http_rules answers relay sse",
    "the exchange": "guest exchange whole streamed",
    "telling": "account access_log measures metrics load spans",
    "the clock": "clock",
}


class NoRoom(Pressure[Caller]):
    """Nobody is served, nor let wait."""

    def __init__(self) -> None:
        super().__init__()
        self.is_crowded, self.room = True, 0

    def ended(self, now_s: float) -> bool:
        is_left = super().ended(now_s)
        self.is_crowded = True
        return is_left


class Work:
    """What is measured: each does a number of units."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._sender = UsageSender(bench.gateway.journal, bench.gateway.clock, instance="bench", boot_id="b00t")

    def requests(self, count: int) -> None:
        """Requests that an engine answers."""
        for _ in range(count):
            self._bench.served(REQUEST)

    def large(self, count: int) -> None:
        """The same with 64 KB of prompt."""
        for _ in range(count):
            self._bench.served(LARGE)

    def refusals(self, count: int) -> None:
        """Requests beyond a limit."""
        for _ in range(count):
            self._bench.refused(LIMITED)

    def unread(self, count: int) -> None:
        """Requests that come while this process has no time."""
        arrivals = self._bench.gateway.arrivals
        calm, arrivals._pressure = arrivals._pressure, NoRoom()
        for _ in range(count):
            self._bench.refused(REQUEST)
        arrivals._pressure = calm

    def limit(self) -> None:
        """Use the limit up."""
        self._bench.served(LIMITED)

    def chunks(self, count: int) -> None:
        """Events of a stream whose client reads usage with each: they pass as they are."""
        self._stream(PASSED, count)

    def stripped(self, count: int) -> None:
        """Events out of which the usage is taken that the client did not ask for."""
        self._stream(STRIPPED, count)

    def bills(self, _count: int) -> None:
        """What becomes of requests after they ended: batches, and the ledger's word."""
        while self._sender.run(len):
            pass
        self.confirm()

    def confirm(self) -> None:
        """The ledger has all."""
        journal = self._bench.gateway.journal
        while rows := journal.unconfirmed(sent_before_ms=2**62, limit=500):
            journal.confirm(list(rows))

    def _stream(self, asked: bytes, count: int) -> None:
        bench = self._bench
        bench.ask(asked)
        bench.engine.data_received(STREAM)
        feed = bench.engine.data_received
        for number in range(count):
            feed(framed(EVENT % (460 + number, number)))
        assert bench.near.taken().startswith(b"HTTP/1.1 200"), "not served"
        feed(last(count))
        assert bench.near.taken().endswith(b"0\r\n\r\n"), "not ended"


async def measured() -> dict[str, tuple[list[float], float, float]]:
    """Of each kind of work the CPU microseconds of each turn, and the calls and bytecodes of one unit."""
    found: dict[str, tuple[list[float], float, float]] = {}
    with tempfile.TemporaryDirectory(prefix="mr-bench-") as state:
        work = Work(a_bench(Path(state)))
        works = {
            "request": (work.requests, REQUESTS), "64 KB": (work.large, REQUESTS // 4),
            "refusal": (work.refusals, REQUESTS), "chunk": (work.chunks, CHUNKS),
            "refusal, unread": (work.unread, REQUESTS), "chunk, strip": (work.stripped, CHUNKS),
            "bill": (work.bills, REQUESTS),
        }  # fmt: skip
        work.requests(COUNTED)
        work.limit()
        await calm_collector()
        for name, (run, count) in works.items():
            took_us = []
            for _ in range(TURNS):
                if name == "bill":
                    work.requests(count)
                began_s = time.thread_time()
                run(count)
                took_us.append((time.thread_time() - began_s) * 1e6 / count)
                work.confirm()
            counts = []
            for count_of in (calls, bytecodes):
                if name == "bill":
                    work.requests(COUNTED)
                counts.append(count_of(run, COUNTED) / COUNTED)
                work.confirm()
            found[name] = (took_us, counts[0], counts[1])
    return found


def calls(run: Callable[[int], None], units: int) -> int:
    """How many functions so many units call, Python's and C's."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        run(units)
    finally:
        sys.setprofile(None)
    return count


def bytecodes(run: Callable[[int], None], units: int) -> int:
    """How many instructions of Python's machine so many units take."""
    count = 0

    def note(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return note

    sys.settrace(note)
    try:
        run(units)
    finally:
        sys.settrace(None)
    return count


def by_stage(run: Callable[[int], None], units: int) -> Mapping[str, float]:
    """How many calls each stage makes for one unit; the bench's own are left out."""
    stage_of = {module: stage for stage, modules in STAGES.items() for module in modules.split()}
    found: collections.Counter[str] = collections.Counter()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        stage = stage_of.get(Path(frame.f_code.co_filename).stem)
        if event in ("call", "c_call") and stage is not None:
            found[stage] += 1

    sys.setprofile(note)
    try:
        run(units)
    finally:
        sys.setprofile(None)
    return {stage: found[stage] / units for stage in STAGES}


def measure() -> Section:
    """The table."""
    rows = tuple(
        (name, f"{statistics.median(took):.1f}", f"{min(took):.1f}-{max(took):.1f}", f"{called:.0f}", f"{codes:.0f}")
        for name, (took, called, codes) in uvloop.run(measured()).items()
    )
    return Section(
        title="The router's own part of a request",
        question="What does a request cost in the router's own code: no sockets, no kernel, every feature on?",
        columns=("", "CPU µs", "least and most", "calls", "bytecodes"),
        rows=rows,
        notes=(
            f"{TURNS} turns of {REQUESTS} requests, {CHUNKS} chunks. CPU time of the thread; calls of functions, of"
            " Python's and of C's, do not depend on the machine. A bill is what follows: its batch, its confirmation.",
        ),
    )


async def profiled(name: str) -> None:
    """Say where the time of one kind of work goes."""
    with tempfile.TemporaryDirectory(prefix="mr-bench-") as state:
        work = Work(a_bench(Path(state)))
        run = {"request": work.requests, "chunk": work.chunks, "strip": work.stripped, "refusal": work.refusals}
        if name == "stages":
            work.requests(COUNTED)
            for stage, count in by_stage(work.requests, COUNTED).items():
                print(f"{stage:20} {count:5.1f}")
            return
        profile = cProfile.Profile()
        if name == "bill":
            work.requests(REQUESTS)
        profile.runcall(run.get(name, work.bills), REQUESTS)
        pstats.Stats(profile).sort_stats("tottime").print_stats(60)


if __name__ == "__main__":
    uvloop.run(profiled((sys.argv[1:] or ["request"])[0]))
