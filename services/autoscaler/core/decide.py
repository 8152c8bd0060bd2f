"""What a scaler makes of each thing it hears: remember it, then judge."""

from __future__ import annotations

from dataclasses import replace

from libs.common.decision import Decision
from libs.common.desire import begins_anew
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    EndpointRequested,
    EndpointStageChanged,
    Scaling,
)
from libs.common.events.envelope import Envelope
from libs.common.events.facts import Fact
from libs.common.events.route import TrafficObserved
from libs.common.events.runtime import ReplicasChanged
from libs.common.events.scale import ScaleDecided
from libs.common.runner import Woke
from services.autoscaler.core.policy import Policy
from services.autoscaler.core.scaling import Hold, View, judge, sleeps_at
from services.autoscaler.core.state import Scaler
from services.autoscaler.core.traffic import Sample, is_sound, keep, silent_until


def decide(scaler: Scaler, envelope: Envelope, now_ms: int, *, policy: Policy) -> Decision[Scaler]:
    """Take in one thing heard and decide what follows from all of it."""
    event = envelope.data
    now_ms = max(now_ms, scaler.now_ms, event.due_ms if isinstance(event, Woke) else 0)
    scaler = _learn(replace(scaler, now_ms=now_ms), envelope, policy)
    if scaler.is_over:
        return Decision(replace(scaler, samples=()))
    scaler = replace(scaler, samples=keep(scaler.samples, now_ms=now_ms, policy=policy))
    limits = scaler.limits
    if limits is None or not (scaler.is_live or _is_void(scaler, limits)):
        return Decision(scaler)
    verdict = judge(view_of(scaler, limits), now_ms, policy)
    if isinstance(verdict, ScaleDecided):
        is_asleep = verdict.replicas == 0
        scaler = replace(scaler, decided=verdict.replicas, changed_ms=now_ms, is_anew=False, is_asleep=is_asleep)
    return Decision(
        _rested(scaler, limits, policy),
        events=(verdict,) if isinstance(verdict, ScaleDecided) else (),
        generation=scaler.generation,
        wake_at_ms=_wake_at(scaler, limits, verdict, policy),
    )


def _learn(scaler: Scaler, envelope: Envelope, policy: Policy) -> Scaler:
    match envelope.data:
        case EndpointRequested() as requested:
            heard = envelope.heard()
            assert heard is not None
            facts = scaler.facts.learn(heard)
            if facts == scaler.facts:
                return scaler
            return _alive(replace(scaler, facts=facts, limits=requested.spec.scaling, generation=envelope.generation))
        case EndpointDeletionRequested() | EndpointPauseRequested() | EndpointFailed():
            heard = envelope.heard()
            assert heard is not None
            return _alive(replace(scaler, facts=scaler.facts.learn(heard)))
        case EndpointStageChanged() as changed if envelope.sequence > scaler.stage_sequence:
            return replace(
                scaler,
                stage=changed.stage,
                stage_sequence=envelope.sequence,
                stage_generation=envelope.generation,
            )
        case ReplicasChanged() as replicas if _is_news(scaler, envelope):
            return replace(scaler, ready=replicas.ready, replicas_sequence=envelope.sequence)
        case TrafficObserved() as traffic:
            return replace(scaler, samples=(*scaler.samples, *_samples(scaler, traffic, policy)))
        case _:
            return scaler  # Older than what is known, or only the clock.


def _alive(scaler: Scaler) -> Scaler:
    """The scaler, in a new life if it was asked for after an end: nothing seen or decided before counts."""
    asked = scaler.facts.of(Fact.REQUESTED)
    if asked is None:
        return scaler
    if not begins_anew(scaler.facts, life=scaler.life):
        return scaler if scaler.life else replace(scaler, life=asked.generation)
    return replace(
        scaler,
        life=asked.generation,
        begun_ms=asked.at_ms,
        samples=(),
        ready=None,
        changed_ms=0,
        is_asleep=False,
        is_anew=scaler.limits is not None and (scaler.decided > scaler.limits.min or scaler.is_asleep),
    )


def _is_void(scaler: Scaler, limits: Scaling) -> bool:
    """Whether what was decided can't hold, so that it is decided anew before the endpoint serves."""
    if scaler.is_asleep:
        return limits.idle_to_zero_s is None
    return scaler.is_anew or (scaler.decided > 0 and not limits.min <= scaler.decided <= limits.max)


def _is_news(scaler: Scaler, envelope: Envelope) -> bool:
    return envelope.sequence > scaler.replicas_sequence and envelope.generation >= scaler.life


def _samples(scaler: Scaler, traffic: TrafficObserved, policy: Policy) -> tuple[Sample, ...]:
    found = (
        Sample(
            instance=traffic.instance,
            from_ms=traffic.from_ms,
            to_ms=traffic.to_ms,
            concurrency_milli=load.concurrency_avg_milli,
            peak=load.concurrency_max,
        )
        for load in traffic.endpoints
        if load.endpoint_id == scaler.endpoint_id and traffic.from_ms >= scaler.begun_ms
    )
    return tuple(each for each in found if is_sound(each, now_ms=scaler.now_ms, policy=policy))


def view_of(scaler: Scaler, limits: Scaling) -> View:
    """What the policy sees of a scaler."""
    return View(
        current=_current(scaler, limits),
        limits=limits,
        samples=scaler.samples,
        ready=scaler.ready,
        changed_ms=scaler.changed_ms,
        is_anew=scaler.is_anew,
    )


def _current(scaler: Scaler, limits: Scaling) -> int:
    return 0 if scaler.is_asleep else scaler.decided or limits.min


def _rested(scaler: Scaler, limits: Scaling, policy: Policy) -> Scaler:
    """Without old samples where they can no longer take a replica away."""
    may_fall_asleep = limits.idle_to_zero_s is not None and not scaler.is_asleep
    if _current(scaler, limits) > limits.min or may_fall_asleep:
        return scaler
    begin_ms = scaler.now_ms - policy.stable_ms
    return replace(scaler, samples=tuple(each for each in scaler.samples if each.to_ms > begin_ms))


def _wake_at(scaler: Scaler, limits: Scaling, verdict: ScaleDecided | Hold, policy: Policy) -> int | None:
    """When time alone may change the verdict: not at the least, not while replicas or routers owe us news."""
    if scaler.is_asleep or not scaler.samples or verdict is Hold.REPLICAS:
        return None
    if _current(scaler, limits) == limits.min:
        return sleeps_at(scaler.samples, limits)
    silent_ms = silent_until(scaler.samples, now_ms=scaler.now_ms, policy=policy)
    return max(scaler.now_ms + policy.evaluate_ms, silent_ms or 0)
