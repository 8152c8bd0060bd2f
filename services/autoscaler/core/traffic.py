"""What routers say of one endpoint's traffic, and what is known from it of a stretch of time.

A router reports an endpoint while it has requests, once more at zero, and is then silent about it. So silence after a
zero is a zero; silence after anything else is missing data: the router may be dead, or serving without the bus.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from services.autoscaler.core.policy import Policy

SAMPLES_MAX: Final = 4096  # Of one endpoint; a window of 60 s from 64 routers has about 2,000.
CONCURRENCY_MAX: Final = 1_000_000  # In flight for one endpoint at one router; more is a fault, not a load.


@dataclass(frozen=True, slots=True)
class Sample:
    """One router's report on the endpoint over ``[from_ms, to_ms)``."""

    instance: str
    from_ms: int
    to_ms: int
    concurrency_milli: int
    peak: int

    @property
    def is_idle(self) -> bool:
        """Whether nothing was in flight, so that silence after it means the same."""
        return self.concurrency_milli == 0 and self.peak == 0


@dataclass(frozen=True, slots=True)
class Load:
    """What is known of a window: sums over routers. Only a complete one may take replicas away."""

    concurrency_milli: int
    peak_milli: int
    samples: int
    is_complete: bool


def is_sound(sample: Sample, *, now_ms: int, policy: Policy) -> bool:
    """Whether a report can be true: it has a length, ends about now or before, and counts what may be counted."""
    counts = (sample.peak * 1000, sample.concurrency_milli)
    return (
        sample.from_ms < sample.to_ms <= now_ms + policy.stale_ms
        and min(counts) >= 0
        and max(counts) <= CONCURRENCY_MAX * 1000
    )


def keep(samples: Iterable[Sample], *, now_ms: int, policy: Policy) -> tuple[Sample, ...]:
    """The samples that still say something, each once, by router and time."""
    begin_ms = now_ms - policy.stable_ms
    kept: list[Sample] = []
    for _instance, found in groupby(sorted(set(samples), key=_place), key=lambda each: each.instance):
        mine = list(found)
        recent = [each for each in mine if each.to_ms > begin_ms]
        before = [each for each in mine if each.to_ms <= begin_ms][-1:]
        if not recent and not before[0].is_idle and before[0].to_ms + policy.gone_ms <= now_ms:
            continue  # Silent for so long that it is no router any more.
        kept += [*before, *recent]
    kept.sort(key=lambda each: each.to_ms)
    return tuple(sorted(kept[-SAMPLES_MAX:], key=_place))


def measure(samples: Iterable[Sample], *, now_ms: int, window_ms: int, policy: Policy) -> Load:
    """The load over the ``window_ms`` before now: the mean of each router over the time it told of, added up."""
    begin_ms = now_ms - window_ms
    concurrency = peak = count = 0
    complete, seen = True, False
    for _instance, found in groupby(sorted(samples, key=_place), key=lambda each: each.instance):
        told = _extended(list(found), now_ms)
        inside = [each for each in told if each.to_ms > begin_ms and each.from_ms < now_ms]
        complete = complete and _covers(told, begin_ms=begin_ms, now_ms=now_ms, gap_ms=policy.stale_ms)
        if not inside:
            continue
        lengths = [min(each.to_ms, now_ms) - max(each.from_ms, begin_ms) for each in inside]
        area = sum(each.concurrency_milli * length for each, length in zip(inside, lengths, strict=True))
        concurrency += -(-area // sum(lengths))
        peak += max(each.peak for each in inside) * 1000
        count += len(inside)
        seen = True
    return Load(concurrency, peak, count, complete and seen)


def idle_since(samples: Iterable[Sample]) -> int | None:
    """Since when every router that told of it says that nothing is in flight; None if one does not, or none told."""
    since_ms = None
    for _instance, found in groupby(sorted(samples, key=_place), key=lambda each: each.instance):
        mine = list(found)
        if not mine[-1].is_idle:
            return None
        busy = [index for index, each in enumerate(mine) if not each.is_idle]
        began_ms = mine[busy[-1] + 1 if busy else 0].from_ms
        since_ms = max(began_ms, since_ms or 0)
    return since_ms


def silent_until(samples: Iterable[Sample], *, now_ms: int, policy: Policy) -> int | None:
    """When the routers that fell silent in the middle of traffic count as gone; None if none did."""
    last = {each.instance: each for each in sorted(samples, key=_place)}
    silent = [each for each in last.values() if not each.is_idle and now_ms - each.to_ms > policy.stale_ms]
    return max((each.to_ms + policy.gone_ms for each in silent), default=None)


def _extended(mine: list[Sample], now_ms: int) -> list[Sample]:
    """Idle reports drawn out to the next one, or to now."""
    ends = [each.from_ms for each in mine[1:]] + [now_ms]
    return [
        replace(each, to_ms=max(each.to_ms, end_ms)) if each.is_idle else each
        for each, end_ms in zip(mine, ends, strict=True)
    ]


def _covers(told: list[Sample], *, begin_ms: int, now_ms: int, gap_ms: int) -> bool:
    """Whether a router told of the whole window, but for pauses that a late report explains."""
    if told[0].from_ms > begin_ms:
        return False
    reached_ms = told[0].to_ms
    for each in told[1:]:
        if each.from_ms - reached_ms > gap_ms and each.from_ms > begin_ms:
            return False
        reached_ms = max(reached_ms, each.to_ms)
    return now_ms - reached_ms <= gap_ms


def _place(sample: Sample) -> tuple[str, int, int, int, int]:
    return (sample.instance, sample.from_ms, sample.to_ms, sample.concurrency_milli, sample.peak)
