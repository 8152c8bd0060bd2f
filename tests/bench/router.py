"""What a request costs on the router, beside nginx and others: one core each, in turns, every feature on."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tests.bench.peers import load, processes, proxies
from tests.bench.peers.load import Seen
from tests.bench.peers.proxies import Proxy
from tests.bench.report import Section, say

ROUNDS: Final = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS: Final = float(os.environ.get("BENCH_SECONDS", "0.8"))  # With all of them, under four minutes.
IDLE_STREAMS: Final = 1000  # Of fewer, much is in memory that the requests before them gave back.
PAUSE_S: Final = 0.2  # Between two turns: what one left behind ends.


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked, over how many connections, and what of it is counted."""

    request: bytes
    connections: int
    unit: Callable[[Seen], int]
    warm_s: float = 0.0  # Until it is counted: how a stream begins and ends is a request's cost, not a chunk's.
    is_timed: bool = False  # What counts is how long it takes, and that beside the engine alone.


def _answers(seen: Seen) -> int:
    return seen.answered


def _events(seen: Seen) -> int:
    return seen.events


ENDLESS: Final = 100_000
FIRST_MS: Final = 1  # How long the engine takes to its first token; no real one is so fast.
WARM_S: Final = 0.6  # Two hundred streams have begun by then.
LOADS: Final[Mapping[str, Load]] = MappingProxyType(
    {
        "request": Load(load.request(body_bytes=1850), 64, _answers),
        "64 KB": Load(load.request(body_bytes=65_536), 16, _answers),
        "alone": Load(load.request(body_bytes=1850), 1, _answers, is_timed=True),
        "first": Load(load.request(body_bytes=1850, stream=1, first_ms=FIRST_MS), 1, _answers, is_timed=True),
        "chunk": Load(load.request(body_bytes=1850, stream=ENDLESS, period_ms=20, usage=True), 200, _events, WARM_S),
        "chunk, strip": Load(load.request(body_bytes=1850, stream=ENDLESS, period_ms=20), 200, _events, WARM_S),
    }
)


# Of two hundred streams at once it tells fewer events than come, and goes on with them when their clients have left.
ONLY: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({"litellm": ("request",)})
# What it has begun and not answered when a turn ends must be little beside what it has answered.
SECONDS_OF: Final[Mapping[str, float]] = MappingProxyType({"litellm": 4.0})


@dataclass
class Figures:
    """What was seen of one proxy, by load, one figure a round."""

    cpu_us: dict[str, list[float]] = field(default_factory=dict)
    p50_us: dict[str, list[float]] = field(default_factory=dict)
    first_us: dict[str, list[float]] = field(default_factory=dict)
    base_mib: float = 0.0
    stream_kib: float = 0.0

    def add(self, name: str, cpu_us: float, seen: Seen) -> None:
        self.cpu_us.setdefault(name, []).append(cpu_us)
        self.p50_us.setdefault(name, []).append(seen.p50_us)
        self.first_us.setdefault(name, []).append(seen.first_us)

    def cpu(self, name: str) -> float:
        return statistics.median(self.cpu_us[name])

    def p50(self, name: str) -> float:
        return statistics.median(self.p50_us[name])

    def first(self, name: str) -> float:
        return statistics.median(self.first_us[name])


def measure() -> Section:
    """CPU, latency and memory of each proxy that can run here, and the goals beside them."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # A proxy has two sockets a stream, and inherits this.
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.ExitStack() as opened:
        state = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="mr-bench-")))
        engine = opened.enter_context(load.engine(state))
        program = load.built("load", state)
        running = {"direct": Proxy(engine, 0), **dict(started(opened, state, engine))}
        found = {name: Figures() for name in running}
        for name, proxy in running.items():
            if proxy.pid:
                say(f"{name}: memory")
                found[name].base_mib = processes.memory_kib(proxy.pid) / 1024
                one_turn(program, proxy, LOADS["request"], state)  # The first requests load what others need no more.
                found[name].stream_kib = 0.0 if name in ONLY else idle_kib(proxy)
        for number in range(ROUNDS):
            for what, asked in LOADS.items():
                names = [name for name, proxy in running.items() if is_asked(name, proxy, what)]
                say(f"round {number + 1} of {ROUNDS}: {what}, of {', '.join(names)}")
                for name in names:
                    seconds = SECONDS_OF.get(name, SECONDS)
                    found[name].add(what, *one_turn(program, running[name], asked, state, seconds))
    return section(found)


def is_asked(name: str, proxy: Proxy, what: str) -> bool:
    """Whether this load is measured of that one."""
    return what in ONLY.get(name, LOADS) and (LOADS[what].is_timed or proxy.pid > 0)


def started(opened: contextlib.ExitStack, state: Path, engine: int) -> Iterator[tuple[str, Proxy]]:
    """Each proxy that starts, in its own directory; one that does not is said so."""
    for name, start in proxies.present().items():
        own = state / name
        own.mkdir()
        say(f"{name}: starting")
        try:
            yield name, opened.enter_context(start(own, engine))
        except (AssertionError, OSError) as absent:
            say(f"{name} does not start here: {str(absent)[-300:]}")


def one_turn(program: str, proxy: Proxy, asked: Load, state: Path, seconds: float = SECONDS) -> tuple[float, Seen]:
    """Microseconds of CPU for each of what is counted, and what the client saw."""
    time.sleep(PAUSE_S)
    file = state / "request"
    file.write_bytes(asked.request)
    spent_us, seen = load.steady(
        program,
        proxy.port,
        file,
        connections=asked.connections,
        seconds=seconds,
        warm_s=asked.warm_s,
        meter=lambda: processes.cpu_us(proxy.pid) if proxy.pid else 0.0,
    )
    return spent_us / max(1, asked.unit(seen)), seen


def idle_kib(proxy: Proxy) -> float:
    """What one stream that says nothing costs, of many."""
    before_kib = processes.memory_kib(proxy.pid)
    with contextlib.ExitStack() as held:
        for _ in range(IDLE_STREAMS):
            each = held.enter_context(socket.create_connection(("127.0.0.1", proxy.port)))
            each.sendall(load.request(body_bytes=1850, stream=2, period_ms=600_000))
            each.settimeout(30.0)
            while b"data: " not in each.recv(65_536):
                pass
        return (processes.memory_kib(proxy.pid) - before_kib) / IDLE_STREAMS


def section(found: Mapping[str, Figures]) -> Section:
    """The table: what each proxy cost, and under it the goals."""
    direct = found["direct"]
    rows = tuple(_row(name, each, direct) for name, each in found.items() if name != "direct")
    return Section(
        title="The router beside other proxies",
        question="What does a request cost, and a chunk of a stream, with every feature on? One core; medians.",
        columns=(
            "", "CPU µs/request", "64 KB", "SSE µs/chunk", "strip mode", "added p50 µs", "added TTFT µs", "base MiB",
            "KiB/idle stream",
        ),
        rows=rows,
        notes=(*_goals(found), *NOTES),
    )  # fmt: skip


COSTS: Final = ("request", "64 KB", "chunk", "chunk, strip")
NOTES: Final = (
    f"{ROUNDS} rounds of {SECONDS:g} s (LiteLLM {SECONDS_OF['litellm']:g} s), the proxies in turns; in brackets least"
    " and most. CPU is that of the whole"
    " process tree, the kernel's part included (`schedstat`). Engine and load generator are C, on the other core."
    f" The memory of a stream is that of {IDLE_STREAMS:,} after a turn of requests.",
    "The router checks a key, counts three limits, writes the usage journal (synced before an answer ends), reports to"
    " a real broker, is confirmed, injects `include_usage` and takes it out again (strip mode); others pass bytes on.",
    "The bare relay is Python with the router's loop and only passes bytes on: what lies between it and the router is"
    f" what the router does. A stream is counted from {WARM_S:g} s after its begin until before its end.",
    "Why goals are missed: decision 21, and «Where the router's time goes». A request takes 3,200 bytecodes where the"
    " goal has room for a sixth of that beside the relay; an answer waits for the disk; the control half is in the"
    " same process.",
)


def _row(name: str, each: Figures, direct: Figures) -> tuple[str, ...]:
    cpu = [_spread(each.cpu_us[what]) if what in each.cpu_us else "" for what in COSTS]
    if name in ONLY:
        return (name, *cpu, "", "", f"{each.base_mib:.0f}", "")
    added = [each.p50("alone") - direct.p50("alone"), each.first("first") - direct.first("first")]
    memory = (f"{each.base_mib:.0f}", f"{each.stream_kib:.1f}")
    return (name, *cpu, *(f"{value:.0f}" for value in added), *memory)


def _spread(figures: list[float]) -> str:
    return f"{statistics.median(figures):.1f} ({min(figures):.1f}-{max(figures):.1f})"


def _goals(found: Mapping[str, Figures]) -> Iterator[str]:
    """Each goal of the design, and what it is now."""
    ours, nginx, direct = found["router"], found.get("nginx"), found["direct"]
    if nginx is not None:
        for what, name, goal in (
            ("CPU/request", "request", 1.5), ("CPU of a 64 KB body", "64 KB", 2.0), ("SSE CPU/chunk", "chunk", 1.15),
            ("SSE CPU/chunk in strip mode", "chunk, strip", 1.35),
        ):  # fmt: skip
            yield _goal(f"{what} vs nginx", ours.cpu(name) / nginx.cpu(name), goal)
        alone = (ours.p50("alone") - direct.p50("alone")) / max(1.0, nginx.p50("alone") - direct.p50("alone"))
        first = (ours.first("first") - direct.first("first")) / max(1.0, nginx.first("first") - direct.first("first"))
        yield _goal("added p50 vs nginx's", alone, 1.75)
        yield _goal("added TTFT vs nginx's", first, 1.8)
    if (lite := found.get("litellm")) is not None:
        ratio = lite.cpu("request") / ours.cpu("request")
        yield f"Goal: at least 200 times less CPU/request than LiteLLM; now {ratio:.0f} times. {_met(ratio >= 200)}"
    yield _goal("MiB at rest", ours.base_mib, 50, unit="")
    yield _goal("KiB per idle stream", ours.stream_kib, 8, unit="")


def _goal(what: str, now: float, most: float, unit: str = "x") -> str:
    return f"Goal: {what} at most {most:g}{unit}; now {now:.2f}{unit}. {_met(now <= most)}"


def _met(is_met: bool) -> str:
    return "Met." if is_met else "**Missed.**"
