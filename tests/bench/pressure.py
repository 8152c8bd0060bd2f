"""Goodput at three times the load that the router itself can serve: its CPU is what is short, and no engine."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench.peers import load, proxies
from tests.bench.peers.load import Seen
from tests.bench.report import Section, say

TURNS: Final = 5
TURN_S: Final = 3.0
AT_PEAK: Final = 64
CONNECTIONS: Final = 1000
TIMES: Final = 3
OF_PEAK: Final = 0.9
REFUSED_MS: Final = 50


def measure() -> Section:
    """Turns at the peak, and at three times of it, one after the other."""
    peaks: list[Seen] = []
    overloads: list[Seen] = []
    with contextlib.ExitStack() as opened:
        state = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="mr-bench-")))
        engine, program = opened.enter_context(load.engine(state)), load.built("load", state)
        own, asked = state / "router", state / "request"
        own.mkdir()
        router = opened.enter_context(proxies.router(own, engine))
        asked.write_bytes(load.request(body_bytes=1850))
        for number in range(TURNS):
            say(f"turn {number + 1} of {TURNS}")
            peaks.append(load.load(program, router.port, asked, connections=AT_PEAK, seconds=TURN_S))
            per_s = TIMES * peaks[-1].answered / TURN_S
            overloads.append(
                load.load(program, router.port, asked, connections=CONNECTIONS, seconds=TURN_S, per_s=per_s)
            )
    share = statistics.median(each.answered / peak.answered for each, peak in zip(overloads, peaks, strict=True))
    refused_ms = statistics.median(each.refused_p99_us for each in overloads) / 1000
    met = "Met." if share >= OF_PEAK and refused_ms < REFUSED_MS else "**Missed.**"
    return Section(
        title="Overload of the router itself",
        question="What becomes of goodput at three times the load that one worker's CPU can serve? Above 90 % of the"
        " peak; refusals take under 50 ms.",
        columns=("", "offered/s", "served/s", "of the peak", "served p50 ms", "refused p50 ms", "p99 ms"),
        rows=(_row("at the peak", peaks, 1.0), _row("at three times the peak", overloads, share)),
        notes=(
            f"Goal: at least {OF_PEAK:.0%} of the peak, refusals within {REFUSED_MS} ms; now {share:.0%},"
            f" {refused_ms:.0f} ms at the 99th percentile, from a standing start. {met}",
            f"{TURNS} turns of {TURN_S:.0f} s each, medians; {AT_PEAK} connections, {CONNECTIONS} beyond the peak."
            " The router has a core to itself; engine, broker and load share the other, so on a machine with two cores"
            " and other work the load generator may be what is short.",
        ),
    )


def _row(name: str, turns: Sequence[Seen], share: float) -> tuple[str, ...]:
    median = statistics.median
    ends = ("–", "–")
    if any(each.refused for each in turns):
        ends = (
            f"{median([each.refused_p50_us for each in turns]) / 1000:.1f}",
            f"{median([each.refused_p99_us for each in turns]) / 1000:.1f}",
        )
    return (
        name,
        f"{median([each.asked for each in turns]) / TURN_S:.0f}",
        f"{median([each.answered for each in turns]) / TURN_S:.0f}",
        f"{share:.0%}",
        f"{median([each.p50_us for each in turns]) / 1000:.1f}",
        *ends,
    )
