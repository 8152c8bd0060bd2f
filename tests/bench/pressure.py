"""Goodput when more comes than the router itself can serve: its CPU is what is short, and no engine."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

from tests.bench.peers import load, proxies
from tests.bench.peers.load import Seen
from tests.bench.report import Section, say

TURNS: Final = 8
SECONDS: Final = 1.0
WARM_S: Final = 1.0  # Until it is counted: thousands of connections are made by then, and overload is known.
AT_PEAK: Final = 64
TIMES: Final = 3
OF_PEAK: Final = 0.9
REFUSED_MS: Final = 50


@dataclass
class Row:
    """So many clients that ask again when they are answered; or, answered or not, so many times what can be served."""

    clients: int
    times: int = 0
    seen: list[Seen] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{TIMES} times the peak's rate" if self.times else f"{self.clients:,} clients"


def measure() -> Section:
    """Turns of each kind, one after the other: each turn between two at the peak."""
    rows = [Row(TIMES * AT_PEAK), Row(1000), Row(4000), Row(9000, TIMES)]
    with contextlib.ExitStack() as opened:
        state = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="mr-bench-")))
        engine, program = opened.enter_context(load.engine(state)), load.built("load", state)
        own, asked = state / "router", state / "request"
        own.mkdir()
        router = opened.enter_context(proxies.router(own, engine))
        asked.write_bytes(load.request(body_bytes=1850))
        steady = partial(load.steady, program, router.port, asked, warm_s=WARM_S, seconds=SECONDS)
        steady(connections=AT_PEAK)  # The first requests load what others need no more.
        peaks = [steady(connections=AT_PEAK)[1]]
        for number in range(TURNS):
            say(f"turn {number + 1} of {TURNS}")
            for row in rows:
                per_s = row.times * peaks[-1].answered / SECONDS
                row.seen.append(steady(connections=row.clients, per_s=per_s)[1])
                peaks.append(steady(connections=AT_PEAK)[1])
    return section(peaks, rows)


def section(peaks: Sequence[Seen], rows: Sequence[Row]) -> Section:
    """The table, and whether the goal is met."""
    around = [(before.answered + after.answered) / 2 for before, after in pairwise(peaks)]
    shares = [
        sorted(each.answered / peak for each, peak in zip(row.seen, around[place :: len(rows)], strict=True))
        for place, row in enumerate(rows)
    ]
    goals = [
        f"{row.name}: {statistics.median(share):.0%}. {_met(statistics.median(share) >= OF_PEAK)}"
        for row, share in zip(rows, shares, strict=True)
    ]
    refused_ms = statistics.median(each.refused_p99_us for each in rows[-1].seen) / 1000
    return Section(
        title="Overload of the router itself",
        question="What becomes of goodput at three times the load that one worker's CPU can serve, and more? Above 90 %"
        " of the peak; refusals take under 50 ms.",
        columns=("", "asked/s", "served/s", "of the peak", "p50 ms", "p99 ms", "refused/s", "refused p50 ms", "p99 ms"),
        rows=(
            _line(f"the peak: {AT_PEAK} clients", peaks, [1.0]),
            *(_line(row.name, row.seen, share) for row, share in zip(rows, shares, strict=True)),
        ),
        notes=(
            f"Goal: at least {OF_PEAK:.0%} of the peak. {' '.join(goals)} Refusals within {REFUSED_MS} ms: now"
            f" {refused_ms:.0f} ms. {_met(refused_ms < REFUSED_MS)}",
            f"Clients ask again as soon as they are answered. The last row is of {rows[-1].clients:,} connections, of"
            " which some are always free: what comes goes by the clock, whatever becomes of it. Then two of three"
            " requests must be refused, and what that costs cannot be served: decision 21.",
            f"{TURNS} turns of {SECONDS:g} s each, medians, in brackets the middle half; each is compared with the"
            " peaks before and after it, as the machine's pace changes by half within seconds. The router has a core"
            " to itself; engine, broker and load share the other.",
        ),
    )


def _line(name: str, turns: Sequence[Seen], shares: Sequence[float]) -> tuple[str, ...]:
    median = statistics.median
    half = f" ({shares[len(shares) // 4]:.0%}-{shares[-1 - len(shares) // 4]:.0%})" if len(shares) > 1 else ""
    refused = [each for each in turns if each.refused]
    ends: tuple[str, ...] = ("–", "–")
    if refused:
        ends = tuple(
            f"{median(times) / 1000:.1f}"
            for times in ([each.refused_p50_us for each in refused], [each.refused_p99_us for each in refused])
        )
    return (
        name,
        f"{median([each.asked for each in turns]) / SECONDS:.0f}",
        f"{median([each.answered for each in turns]) / SECONDS:.0f}",
        f"{median(shares):.0%}{half}",
        f"{median([each.p50_us for each in turns]) / 1000:.1f}",
        f"{median([each.p99_us for each in turns]) / 1000:.1f}",
        f"{median([each.refused for each in turns]) / SECONDS:.0f}",
        *ends,
    )


def _met(is_met: bool) -> str:
    return "Met." if is_met else "**Missed.**"
