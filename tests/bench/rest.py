"""What the house costs when nobody asks anything of it: CPU and memory of each process of the local profile."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from libs.cli import local
from tests.bench.peers import processes
from tests.bench.report import Section, say
from tests.e2e.local_profile import running_profile

TURNS: Final = 3
TURN_S: Final = 10.0
SETTLE_S: Final = 15.0  # What is done once behind a start: collecting, pruning, a first snapshot.
KIB_A_MIB: Final = 1024
ALL: Final = "all"


def measure() -> Section:
    """Each process's milliseconds of CPU a second: with nothing in the house, then with an endpoint that waits."""
    with (
        tempfile.TemporaryDirectory(prefix="mr-bench-") as state,
        running_profile(Path(state) / "home", time_scale=0.01) as profile,
    ):
        pids = {each.name: each.pid for each in local.health(profile.home) if each.pid is not None}
        say("an empty house")
        empty = _spent(pids)
        profile.wait_for_stage(profile.create("waiting"), "ready")
        say("an endpoint that nobody asks")
        waiting = _spent(pids)
        memory_mib = {name: processes.memory_kib(pid) / KIB_A_MIB for name, pid in pids.items()}
    return section(empty, waiting, memory_mib)


def _spent(pids: Mapping[str, int]) -> dict[str, float]:
    """Of each process, with what it started: the median of the turns."""
    time.sleep(SETTLE_S)
    turns: dict[str, list[float]] = {name: [] for name in pids}
    for _ in range(TURNS):
        began_s, before = time.monotonic(), {name: processes.cpu_us(pid) for name, pid in pids.items()}
        time.sleep(TURN_S)
        took_s = time.monotonic() - began_s
        for name, pid in pids.items():
            turns[name].append((processes.cpu_us(pid) - before[name]) / 1000 / took_s)
    return {name: statistics.median(each) for name, each in turns.items()}


def section(empty: Mapping[str, float], waiting: Mapping[str, float], memory_mib: Mapping[str, float]) -> Section:
    """The table: a process a row, and all of them together."""
    columns = [{**each, ALL: sum(each.values())} for each in (empty, waiting, memory_mib)]
    rows = tuple((name, *(f"{each[name]:.1f}" if name in each else "" for each in columns)) for name in (*empty, ALL))
    return Section(
        title="The house at rest",
        question="What does the local profile take when nobody asks anything of it? Milliseconds of CPU a second.",
        columns=("", "empty", "an endpoint waits", "MiB with it"),
        rows=rows,
        notes=(
            f"Median of {TURNS} turns of {TURN_S:g} s each, {SETTLE_S:g} s behind the start; the twin's figures have"
            " its model server in them. Goals: 80 for all, 6 for the router. As long as every loop looked by itself"
            " whether there is something, three to ten times a second, it was four times as much (5071477).",
        ),
    )
