"""What the others should hear: derived from the state alone, each fact once a run, in the order of truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from libs.common.decision import Decision
from libs.common.events.event import Event
from libs.common.events.facts import Fact
from libs.common.events.runtime import (
    CacheWarmed,
    ImagePulled,
    ModelDownloaded,
    ModelLoaded,
    ModelProgressed,
    ReplicasChanged,
    RuntimeDegraded,
    RuntimeFailed,
    RuntimeRecovered,
    RuntimeRemoved,
    VolumeChanged,
)
from services.runtime_deployer.core import canary
from services.runtime_deployer.core.observed import Kind
from services.runtime_deployer.core.progress import fetched_of, replicas_of, steps_reached
from services.runtime_deployer.core.state import DownloadTold, Failure, ReplicasTold, Runtime, Told

Telling = tuple[Runtime, tuple[Event, ...]]

_SILENT: Final = "no replica is ready"
_MOVING: Final = "its node is being replaced: requests wait until a replica on the next one serves"


def tell(runtime: Runtime, now_ms: int) -> Decision[Runtime]:
    """The decision that follows from the state: what is told now, and when the clock should look again."""
    runtime, failed = _failure(runtime, now_ms)
    runtime, progress = _download(runtime)
    runtime, steps = _steps(runtime, now_ms)
    runtime, changed = _replicas(runtime)
    runtime, health = _health(runtime)
    runtime, volume = _volume(runtime)
    runtime, removed = _removal(runtime)
    return Decision(
        runtime,
        events=(*failed, *progress, *steps, *changed, *health, *volume, *removed),
        generation=runtime.generation,
        wake_at_ms=_wake_at_ms(runtime, now_ms),
    )


def _failure(runtime: Runtime, now_ms: int) -> Telling:
    """Permanent trouble, once; a runtime that has served is degraded instead, because failing gives everything back."""
    if not runtime.is_wanted or runtime.has_served or Fact.RUNTIME_FAILED in runtime.told_facts:
        return runtime, ()
    failure = runtime.failure or _lasting(runtime, now_ms) or _no_template(runtime) or canary.sickness(runtime)
    if failure is None:
        return runtime, ()
    runtime = _note(replace(runtime, failure=failure), Fact.RUNTIME_FAILED)
    return runtime, (RuntimeFailed(reason=failure.reason, message=failure.message),)


def _lasting(runtime: Runtime, now_ms: int) -> Failure | None:
    trouble = runtime.trouble
    if trouble is None or now_ms < runtime.trouble_since_ms + trouble.patience_ms:
        return None
    return Failure(trouble.reason, trouble.message)


def _no_template(runtime: Runtime) -> Failure | None:
    if runtime.template is not None or runtime.placement is None:
        return None
    name = runtime.placement.runtime_template
    return Failure("TemplateUnknown", f"there is no runtime template {name}: add its file and restart, or fix the tier")


def _steps(runtime: Runtime, now_ms: int) -> Telling:
    if not runtime.is_wanted or Fact.RUNTIME_FAILED in runtime.told_facts:
        return runtime, ()
    events: list[Event] = []
    for step in steps_reached(runtime):
        if step is Fact.CACHE_WARMED and canary.is_unproved(runtime, now_ms):
            break
        if step not in runtime.told_facts:
            runtime = _note(runtime, step)
            events.append(_step_event(step, runtime))
    if runtime.has_served and runtime.adapters_in_effect != runtime.adapters:
        runtime = replace(runtime, adapters_in_effect=runtime.adapters)
    return runtime, tuple(events)


def _download(runtime: Runtime) -> Telling:
    """How far the model's download is, as often as a look shows more: in steps, and only until it is there."""
    fetched = fetched_of(runtime)
    if fetched is None or not runtime.is_wanted or {Fact.MODEL_DOWNLOADED, Fact.RUNTIME_FAILED} & {*runtime.told_facts}:
        return runtime, ()
    told = runtime.download_told
    if told.generation == runtime.run and fetched.bytes_done <= told.bytes_done:
        return runtime, ()
    runtime = replace(runtime, download_told=DownloadTold(runtime.run, fetched.bytes_done))
    return runtime, (ModelProgressed(bytes_done=fetched.bytes_done, bytes_total=fetched.bytes_total),)


def _step_event(step: Fact, runtime: Runtime) -> Event:
    if step is Fact.CACHE_WARMED:
        return CacheWarmed(replicas=replicas_of(runtime))
    if step is Fact.MODEL_DOWNLOADED:
        fetched = fetched_of(runtime)
        return ModelDownloaded(bytes_fetched=fetched.bytes_fetched if fetched is not None else None)
    return _PLAIN_STEPS[step]()


_PLAIN_STEPS: Final[dict[Fact, type[Event]]] = {
    Fact.IMAGE_PULLED: ImagePulled,
    Fact.MODEL_LOADED: ModelLoaded,
}


def _replicas(runtime: Runtime) -> Telling:
    told = runtime.replicas_told
    warmed = runtime.generation if runtime.is_wanted and runtime.has_served else told.warmed_generation
    now = ReplicasTold(runtime.replicas_wanted, replicas_of(runtime), warmed, runtime.is_replacing)
    if now == told:
        return runtime, ()
    changed = ReplicasChanged(
        desired=now.desired,
        ready=len(now.replicas),
        replicas=now.replicas,
        warmed_generation=warmed,
        replacing=now.replacing,
    )
    return replace(runtime, replicas_told=now), (changed,)


def _health(runtime: Runtime) -> Telling:
    if not runtime.is_wanted or not runtime.has_served:
        return runtime, ()
    is_silent, told_down = not runtime.replicas_told.replicas, Fact.RUNTIME_DEGRADED in runtime.told_facts
    runtime = replace(runtime, sleeps=is_silent and (runtime.sleeps or runtime.replicas_wanted == 0))
    is_down = is_silent and not (runtime.sleeps and runtime.trouble is None)
    if is_down and not told_down:
        trouble = runtime.trouble
        reason, message = (trouble.reason, trouble.message) if trouble else ("NoReplicaReady", _SILENT)
        if runtime.is_moving:
            reason, message = "NodeReplacing", _MOVING
        return _note(runtime, Fact.RUNTIME_DEGRADED), (RuntimeDegraded(reason=reason, message=message),)
    if told_down and not is_down:
        facts = tuple(each for each in runtime.told_facts if each is not Fact.RUNTIME_DEGRADED)
        return replace(runtime, told=Told(runtime.run, facts)), (RuntimeRecovered(),)
    return runtime, ()


def _volume(runtime: Runtime) -> Telling:
    """What its own volume has, as far as the last look says: without a look at volumes, nothing."""
    if runtime.seen is None or Kind.VOLUME_CLAIM not in runtime.seen.looked:
        return runtime, ()
    there = runtime.seen.has(Kind.VOLUME_CLAIM)
    capacity_bytes = 0 if there is None else there.storage_bytes or 0
    if capacity_bytes == runtime.volume_told_bytes:
        return runtime, ()
    return replace(runtime, volume_told_bytes=capacity_bytes), (VolumeChanged(capacity_bytes=capacity_bytes),)


def _removal(runtime: Runtime) -> Telling:
    """Gone is what was never begun, or what a look made for that purpose no longer found."""
    if not runtime.is_unwanted or not runtime.is_withdrawn or Fact.RUNTIME_REMOVED in runtime.told_facts:
        return runtime, ()
    seen = runtime.seen
    if runtime.intended and not (seen is not None and seen.removing and seen.is_empty):
        return runtime, ()
    return replace(_note(runtime, Fact.RUNTIME_REMOVED), intended=False), (RuntimeRemoved(),)


def _note(runtime: Runtime, fact: Fact) -> Runtime:
    return replace(runtime, told=Told(runtime.run, (*runtime.told_facts, fact)))


def _wake_at_ms(runtime: Runtime, now_ms: int) -> int | None:
    """When present trouble would become permanent, or silence of routers mean that nobody asks."""
    if not runtime.is_wanted or runtime.has_served or runtime.failure is not None:
        return None
    trouble = runtime.trouble
    lasting_ms = None if trouble is None else runtime.trouble_since_ms + trouble.patience_ms
    silent_ms = canary.silent_at_ms(runtime) if canary.is_watched(runtime, now_ms) else None
    return min((each for each in (lasting_ms, silent_ms) if each is not None), default=None)
