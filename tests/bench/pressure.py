"""Goodput at three times the load that the router itself can serve: its CPU is what is short, and no engine."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

from tests.bench.peers import load, proxies
from tests.bench.peers.load import Seen
from tests.bench.report import Section, say

TURNS: Final = 15
PEAK_S: Final = 0.8
OVERLOAD_S: Final = 1.2
WARM_S: Final = 0.5  # Until it is counted: a thousand connections are made by then, and overload is known.
AT_PEAK: Final = 64
CONNECTIONS: Final = 4000
TIMES: Final = 3
OF_PEAK: Final = 0.9
REFUSED_MS: Final = 50


def measure() -> Section:
    """Turns at the peak, and at three times of it, one after the other: each overload between two peaks."""
    overloads: list[Seen] = []
    with contextlib.ExitStack() as opened:
        state = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="mr-bench-")))
        engine, program = opened.enter_context(load.engine(state)), load.built("load", state)
        own, asked = state / "router", state / "request"
        own.mkdir()
        router = opened.enter_context(proxies.router(own, engine))
        asked.write_bytes(load.request(body_bytes=1850))
        steady = partial(load.steady, program, router.port, asked, warm_s=WARM_S)
        at_peak = partial(steady, connections=AT_PEAK, seconds=PEAK_S)
        at_peak()  # The first requests load what others need no more.
        peaks = [at_peak()[1]]
        for number in range(TURNS):
            say(f"turn {number + 1} of {TURNS}")
            per_s = TIMES * peaks[-1].answered / PEAK_S
            overloads.append(steady(connections=CONNECTIONS, seconds=OVERLOAD_S, per_s=per_s)[1])
            peaks.append(at_peak()[1])
    return section(peaks, overloads)


def section(peaks: Sequence[Seen], overloads: Sequence[Seen]) -> Section:
    """The table, and whether the goal is met."""
    around = [(before.answered + after.answered) / 2 / PEAK_S for before, after in pairwise(peaks)]
    shares = sorted(each.answered / OVERLOAD_S / peak for each, peak in zip(overloads, around, strict=True))
    times = statistics.median(each.asked / OVERLOAD_S / peak for each, peak in zip(overloads, around, strict=True))
    share = statistics.median(shares)
    refused_ms = statistics.median(each.refused_p99_us for each in overloads) / 1000
    met = "Met." if share >= OF_PEAK and refused_ms < REFUSED_MS else "**Missed.**"
    half = f"{shares[len(shares) // 4]:.0%} to {shares[-1 - len(shares) // 4]:.0%}"
    return Section(
        title="Overload of the router itself",
        question="What becomes of goodput at three times the load that one worker's CPU can serve? Above 90 % of the"
        " peak; refusals take under 50 ms.",
        columns=("", "offered/s", "served/s", "of the peak", "served p50 ms", "refused p50 ms", "p99 ms"),
        rows=(
            _row("at the peak", peaks, PEAK_S, 1.0),
            _row(f"at {times:.1f} times the peak", overloads, OVERLOAD_S, share),
        ),
        notes=(
            f"Goal: at least {OF_PEAK:.0%} of the peak, refusals within {REFUSED_MS} ms; now {share:.0%} (half of the"
            f" turns: {half}), {refused_ms:.0f} ms at the 99th percentile. {met}",
            f"{TURNS} turns of {OVERLOAD_S:g} s, medians; each is compared with the peaks of {PEAK_S:g} s before and"
            f" after it, as the machine's pace changes by half within seconds. {AT_PEAK} connections, {CONNECTIONS:,}"
            f" beyond the peak; counted from {WARM_S:g} s after they began."
            " The router has a core to itself; engine, broker and load share the other.",
        ),
    )


def _row(name: str, turns: Sequence[Seen], seconds: float, share: float) -> tuple[str, ...]:
    median = statistics.median
    ends = ("–", "–")
    if any(each.refused for each in turns):
        ends = (
            f"{median([each.refused_p50_us for each in turns]) / 1000:.1f}",
            f"{median([each.refused_p99_us for each in turns]) / 1000:.1f}",
        )
    return (
        name,
        f"{median([each.asked for each in turns]) / seconds:.0f}",
        f"{median([each.answered for each in turns]) / seconds:.0f}",
        f"{share:.0%}",
        f"{median([each.p50_us for each in turns]) / 1000:.1f}",
        *ends,
    )
