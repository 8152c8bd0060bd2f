"""Where the CPU time of a request goes, and of a chunk: what `perf` sees of the router, a bare relay and nginx."""

from __future__ import annotations

import collections
import contextlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.bench.peers import load, processes, proxies
from tests.bench.peers.proxies import Proxy
from tests.bench.report import Absent, Section, say
from tests.bench.router import LOADS, one_turn

SECONDS: Final = 4.0
SAMPLES_PER_S: Final = 2999  # No divisor of anything that the kernel does at fixed times.
WHAT: Final = ("request", "chunk, strip")
OF: Final = ("nginx", "bare relay", "router")
SAMPLE: Final = re.compile(r"\s*(\d+)/(\d+)\s+[0-9a-f]+ (.*) \((.*)\)")
MACHINE: Final = "_PyEval_EvalFrameDefault"  # CPython's loop over bytecodes.
PARTS: Final[Mapping[str, str]] = {  # By the file that a sample is in.
    r"\[(kernel|guest|vdso|vsyscall).*": "the kernel: sockets, waiting, the disk",
    r".*/uvloop/[^/]*": "uvloop",
    r".*/(lib)?python3[^/]*": "CPython: calls, objects, names",
    r".*/msgspec/[^/]*": "msgspec: JSON",
    r".*/libc[.-][^/]*": "libc: memory",
    r".*/nginx": "nginx",
}
BYTECODES: Final = "CPython: bytecodes"
OTHER: Final = "other libraries"
BESIDE: Final = "other threads: journal, bus, control half"


def part_of(library: str, symbol: str, *, is_main: bool) -> str:
    """What a sample belongs to."""
    if not is_main:
        return BESIDE
    if symbol.startswith(MACHINE):
        return BYTECODES
    return next((part for file, part in PARTS.items() if re.fullmatch(file, library)), OTHER)


def shares(samples: Iterator[str]) -> dict[str, float]:
    """How much of the samples each part has, of lines that `perf script` wrote."""
    counts: collections.Counter[str] = collections.Counter()
    for line in samples:
        found = SAMPLE.match(line)
        if found is not None:
            pid, tid, symbol, library = found.groups()
            counts[part_of(library, symbol, is_main=pid == tid)] += 1
    return {part: count / counts.total() for part, count in counts.items()}


def measure() -> Section:
    """Each part's microseconds, of each proxy and load."""
    if shutil.which("perf") is None:
        raise Absent("perf is not here: apt-get install linux-perf")
    found: dict[tuple[str, str], dict[str, float]] = {}
    with contextlib.ExitStack() as opened:
        state = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="mr-bench-")))
        engine = opened.enter_context(load.engine(state))
        program = load.built("load", state)
        present = proxies.present()
        for name in OF:
            if name in present:
                (state / name).mkdir()
                proxy = opened.enter_context(present[name](state / name, engine))
                one_turn(program, proxy, LOADS["request"], state)
                for what in WHAT:
                    say(f"{name}: {what}")
                    found[name, what] = _profiled(program, proxy, what, state)
    return section(found)


def _profiled(program: str, proxy: Proxy, what: str, state: Path) -> dict[str, float]:
    file, pids = state / "perf.data", ",".join(map(str, processes.tree(proxy.pid)))
    seen = ["perf", "record", "-q", "-N", "-F", str(SAMPLES_PER_S), "-e", "cpu-clock", "-o", str(file), "-p", pids]
    with subprocess.Popen([*seen, "--", "sleep", str(SECONDS)], stderr=subprocess.DEVNULL):
        spent_us, _ = one_turn(program, proxy, LOADS[what], state, SECONDS)
    script = ["perf", "script", "-i", str(file), "-F", "pid,tid,ip,sym,dso"]
    said = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    return {part: share * spent_us for part, share in shares(iter(said.splitlines())).items()}


def section(found: Mapping[tuple[str, str], Mapping[str, float]]) -> Section:
    """The table: the dearest part of the router's first."""
    ours = found["router", WHAT[0]]
    parts = sorted({part for each in found.values() for part in each}, key=lambda part: -ours.get(part, 0.0))
    rows = [(part, *(f"{each[part]:.1f}" if part in each else "" for each in found.values())) for part in parts]
    return Section(
        title="Where the router's time goes",
        question="What is a request's CPU time spent on, and a chunk's, where the goals beside nginx are missed?",
        columns=("µs", *(f"{name}: {what}" for name, what in found)),
        rows=(*rows, ("all", *(f"{sum(each.values()):.1f}" for each in found.values()))),
        notes=(
            f"One turn of {SECONDS:g} s each; `perf` looks {SAMPLES_PER_S:,} times a second at what runs, and that is"
            " in the figures too: for what it costs without, see the table before. Everything but the last rows is the"
            " thread that serves.",
        ),
    )
