"""The scaling policy: how many replicas follow from which figures, and when figures may change anything.

`replicas_for` is the whole arithmetic; a decision carries its argument, so anybody can check it. `judge` only chooses
which window's figures count: the short one to go up at once, the long and complete one to go down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from libs.common.events.endpoint import Scaling
from libs.common.events.scale import ScaleDecided, ScaleInputs
from libs.common.units import SECOND_MS
from services.autoscaler.core.policy import Policy
from services.autoscaler.core.traffic import Load, Sample, idle_since, measure

ABSORB_PERCENT: Final = 80  # Of their target, what the replicas that stay may be busy at the window's peak.
MILLI: Final = 1000


class Hold(StrEnum):
    """Why nothing changes."""

    STEADY = "steady"
    NO_DATA = "no_data"
    COOLING = "cooling"
    REPLICAS = "replicas"


@dataclass(frozen=True, slots=True)
class View:
    """What is known of an endpoint that may be scaled. `ready` is None while nobody said; `changed_ms` 0 if never.

    `is_anew`: `current` was decided before a pause or a failure, and is not what the least is now.
    """

    current: int
    limits: Scaling
    samples: Sequence[Sample]
    ready: int | None
    changed_ms: int
    is_anew: bool = False


def replicas_for(inputs: ScaleInputs) -> int:
    """The number of replicas that follows from these figures, and from nothing else.

    Enough to carry the mean at the target; when that is fewer than now, also enough to carry the peak at 80 % of it.
    Without a sample the number stays. Never under the least, never over the most.
    """
    wanted = inputs.current
    if inputs.samples:
        wanted = _ceil(inputs.concurrency_milli, MILLI * inputs.target_concurrency)
    if wanted < inputs.current:
        for_peak = _ceil(inputs.peak_milli * 100, MILLI * inputs.target_concurrency * ABSORB_PERCENT)
        wanted = min(inputs.current, max(wanted, for_peak))
    return max(inputs.min, min(inputs.max, wanted))


def judge(view: View, now_ms: int, policy: Policy) -> ScaleDecided | Hold:
    """What to change now, or why nothing changes."""
    if view.is_anew:
        return _decided(_inputs(replace(view, current=view.limits.min), None, window_ms=0), "it begins anew")
    if view.current == 0 and view.limits.idle_to_zero_s is not None:
        return _judge_asleep(view, now_ms, policy)
    if not view.limits.min <= view.current <= view.limits.max:
        return _decided(_inputs(view, None, window_ms=0), "the limits changed")
    short = measure(view.samples, now_ms=now_ms, window_ms=policy.panic_ms, policy=policy)
    up = _inputs(view, short, window_ms=policy.panic_ms)
    if replicas_for(up) > view.current:
        return _decided(up, f"{_thousandths(short.concurrency_milli)} requests in flight are more than replicas carry")
    return _judge_down(view, now_ms, policy)


def _judge_down(view: View, now_ms: int, policy: Policy) -> ScaleDecided | Hold:
    if view.current == view.limits.min:
        return _judge_idle(view, now_ms)
    load = measure(view.samples, now_ms=now_ms, window_ms=policy.stable_ms, policy=policy)
    if not load.is_complete:
        return Hold.NO_DATA
    down = _inputs(view, load, window_ms=policy.stable_ms)
    wanted = replicas_for(down)
    if wanted >= view.current:
        return Hold.STEADY
    if now_ms - view.changed_ms < policy.stable_ms:
        return Hold.COOLING
    if view.ready is None or view.ready < wanted:
        return Hold.REPLICAS  # Little traffic because nobody answers is no reason to have fewer.
    mean, peak = _thousandths(load.concurrency_milli), _thousandths(load.peak_milli)
    return _decided(down, f"{mean} requests in flight, {peak} at most, are carried by fewer replicas")


def _judge_asleep(view: View, now_ms: int, policy: Policy) -> ScaleDecided | Hold:
    """One request that waits wakes it."""
    load = measure(view.samples, now_ms=now_ms, window_ms=policy.panic_ms, policy=policy)
    if not load.peak_milli:
        return Hold.STEADY
    return _decided(_inputs(view, load, window_ms=policy.panic_ms), "a request waits for it")


def _judge_idle(view: View, now_ms: int) -> ScaleDecided | Hold:
    """At its least: it falls asleep when every router has said for long enough that nothing asks for it."""
    idle_s, at_ms = view.limits.idle_to_zero_s, sleeps_at(view.samples, view.limits)
    if idle_s is None or at_ms is None or now_ms < at_ms or now_ms - view.changed_ms < idle_s * SECOND_MS:
        return Hold.STEADY
    load = Load(concurrency_milli=0, peak_milli=0, samples=len(view.samples), is_complete=True)
    inputs = _inputs(view, load, window_ms=idle_s * SECOND_MS).model_copy(update={"min": 0})
    return _decided(inputs, f"nothing asked for it for {idle_s} s")


def sleeps_at(samples: Sequence[Sample], limits: Scaling) -> int | None:
    """When it may fall asleep if nothing asks for it until then; None if it may not, or something is in flight."""
    since_ms = idle_since(samples)
    if limits.idle_to_zero_s is None or since_ms is None:
        return None
    return since_ms + limits.idle_to_zero_s * SECOND_MS


def _inputs(view: View, load: Load | None, *, window_ms: int) -> ScaleInputs:
    return ScaleInputs(
        current=view.current,
        min=view.limits.min,
        max=view.limits.max,
        target_concurrency=view.limits.target_concurrency,
        concurrency_milli=load.concurrency_milli if load else 0,
        window_ms=window_ms,
        samples=load.samples if load else 0,
        peak_milli=load.peak_milli if load else 0,
    )


def _decided(inputs: ScaleInputs, reason: str) -> ScaleDecided:
    return ScaleDecided(replicas=replicas_for(inputs), reason=reason, inputs=inputs)


def _ceil(number: int, by: int) -> int:
    return -(-number // by)


def _thousandths(milli: int) -> str:
    return f"{milli // MILLI}.{milli % MILLI:03d}"
