"""A thousand lives of a whole provider, and the bugs that would have been seen in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.sim.bugs import BUGS
from tests.sim.life_bugs import LIFE_BUGS
from tests.sim.looks import Violation
from tests.sim.world import Simulation

ROOT: Final = Path(__file__).parents[2]
SEEDS: Final = 1000
BATCH: Final = 20  # Seeds a test: few enough that two workers share the work evenly.
PLANTED: Final = {**BUGS, **LIFE_BUGS}
BUG_SEEDS: Final = 14  # The same ones in every run; at most, for it ends with the second that saw it.
SEEN_MIN: Final = 2  # One that is hardly ever met guards nothing.
PAST: Final = [int(line) for line in (Path(__file__).parent / "seeds.txt").read_text().split() if line.isdigit()]


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_nothing_is_lost_or_done_twice_whatever_happens(first: int) -> None:
    for seed in range(first, first + BATCH):
        Simulation(seed).run()


@pytest.mark.parametrize("seed", PAST)
def test_a_seed_that_once_failed_stays_mended(seed: int) -> None:
    Simulation(seed).run()


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_seen(bug: str) -> None:
    broken: list[str] = []
    for seed in range(BUG_SEEDS):
        try:
            Simulation(seed, plant=PLANTED[bug].plant).run()
        except Violation as violation:
            broken.append(violation.promise)
            if len(broken) >= SEEN_MIN and set(broken) & PLANTED[bug].breaks:
                print(f"{bug}: seen in {len(broken)} of {seed + 1} seeds")
                return

    pytest.fail(f"of {BUG_SEEDS} seeds {len(broken)} saw that {bug}, as {set(broken)}")


def test_the_same_seed_is_the_same_life_whatever_the_hashes() -> None:
    traces = {_trace_of(seed=7, hash_seed=hash_seed) for hash_seed in ("1", "2")}

    assert len(traces) == 1
    assert traces.pop() == Simulation(7).run()


def test_another_seed_is_another_life() -> None:
    assert Simulation(7).run() != Simulation(8).run()


def _trace_of(*, seed: int, hash_seed: str) -> str:
    code = f"from tests.sim.world import Simulation; print(Simulation({seed}).run())"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout.strip()
