"""Dry run: what a change would do, told without doing it. It is the decision itself, looked at and thrown away."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from libs.common.decision import Decision, Take
from libs.common.events.endpoint import EndpointSpec, EndpointStageChanged, Stage
from libs.common.events.facts import Fact
from libs.common.units import SECOND_MS
from services.endpoint_api.core import eta
from services.endpoint_api.core.changes import kind_of_change
from services.endpoint_api.core.fit import Fit
from services.endpoint_api.core.forgetting import Change
from services.endpoint_api.core.lifecycle import CREATING, SERVING
from services.endpoint_api.core.quotas import Holding
from services.endpoint_api.core.shown import View
from services.endpoint_api.core.state import Endpoint

TO_PAUSED: Final = (Stage.PAUSING, Stage.PAUSED)
TO_DELETED: Final = (Stage.DRAINING, Stage.DELETING, Stage.DELETED)


class PlacementView(View):
    """Where and how it would run, in the words of the catalogue."""

    tier: str
    region: str
    price_class: str
    gpus_per_replica: int
    template: str = Field(description="The runtime recipe that it is pinned to.")
    model_digest: str


class MemoryView(View):
    """What one GPU of a replica would hold, in MiB."""

    needed_mib: int
    usable_mib: int
    weights_mib: int
    cache_mib: int = Field(description="For one request of the model's whole context.")
    longest_tokens: int = Field(description="The longest request that would fit.")


class HoldingView(View):
    """What it holds of the quotas."""

    endpoints: int
    replicas: int
    gpus: int


class PlanView(View):
    """What a change would do. Nothing was changed or kept."""

    verb: str
    endpoint_id: str
    name: str
    change: str = Field(
        description="none, in_place, readdress, reload, roll, anew or end: what it means for what runs."
    )
    generation: int = Field(description="The generation that it would have.")
    spec: EndpointSpec
    placement: PlacementView
    stages: tuple[Stage, ...] = Field(description="The stages ahead, in order; empty if it is there at once.")
    held_before: HoldingView
    held_after: HoldingView
    ready_in_s_p50: float | None = Field(
        default=None, description="Half of the like were ready in so many seconds; null if too little was seen."
    )
    ready_in_s_p90: float | None = Field(default=None, description="The same of nine tenths.")
    memory: MemoryView | None = Field(
        default=None, description="Null where the catalogue does not say what the model takes or its GPUs have."
    )


def plan_view(
    before: Endpoint,
    decision: Decision[Endpoint],
    verb: str,
    *,
    learned: eta.Learned,
    now_ms: int,
    reckoned: Fit | None = None,
) -> PlanView:
    """The plan that a decision is."""
    after = decision.state
    assert after.spec is not None, after.id
    assert after.placement is not None, after.id
    ready = _ready_in(after, learned, now_ms)
    return PlanView(
        verb=verb,
        endpoint_id=after.id,
        name=after.name,
        change=change_of(before, after),
        generation=after.generation,
        spec=after.spec,
        placement=PlacementView(
            tier=after.spec.tier,
            region=after.spec.region,
            price_class=after.placement.price_class,
            gpus_per_replica=after.placement.gpus_per_replica,
            template=after.placement.runtime_template,
            model_digest=after.placement.model_digest,
        ),
        stages=stages_ahead(before, decision),
        held_before=_held(before.held),
        held_after=_held(after.held),
        ready_in_s_p50=_seconds(ready.p50_ms),
        ready_in_s_p90=_seconds(ready.p90_ms),
        memory=_memory(reckoned) if reckoned is not None else None,
    )


def _memory(found: Fit) -> MemoryView:
    return MemoryView(
        needed_mib=found.needed_mib,
        usable_mib=found.usable_mib,
        weights_mib=found.weights_mib,
        cache_mib=found.cache_mib,
        longest_tokens=found.tokens,
    )


def takes(decision: Decision[Endpoint]) -> tuple[Take, ...]:
    """What it would take of the quotas: the caller looks whether there is as much."""
    return tuple(each for each in decision.counters if isinstance(each, Take))


def change_of(before: Endpoint, after: Endpoint) -> Change:
    """What the change from one to the other means for what runs."""
    if after.generation == before.generation:
        return Change.NONE
    if after.facts.holds(Fact.DELETION_REQUESTED) or after.stage in TO_PAUSED:
        return Change.END
    if after.floors.capacity > before.floors.capacity:
        return Change.ANEW
    if after.floors.route == before.floors.route:
        return Change.IN_PLACE
    assert before.spec is not None, before.id
    assert after.spec is not None, after.id
    return kind_of_change(before.spec, after.spec)


def stages_ahead(before: Endpoint, decision: Decision[Endpoint]) -> tuple[Stage, ...]:
    """The stages from the change on to its end, those that are passed at once too."""
    after = decision.state
    if after.generation == before.generation:
        return ()
    entered = tuple(each.stage for each in decision.events if isinstance(each, EndpointStageChanged))
    passed = entered if before.is_requested else (Stage.REQUESTED, *entered)
    return (*passed, *_onward(after.stage))


def _ready_in(after: Endpoint, learned: eta.Learned, now_ms: int) -> eta.Eta:
    if after.stage is Stage.READY:
        return eta.Eta(0, 0)
    return eta.ready_in(learned, after.stage, max(0, now_ms - after.visit.since_ms))


def _seconds(took_ms: int | None) -> float | None:
    return None if took_ms is None else took_ms / SECOND_MS


def _onward(stage: Stage) -> tuple[Stage, ...]:
    if stage in CREATING:
        return (*CREATING[CREATING.index(stage) + 1 :], Stage.READY)
    if stage is Stage.UPDATING:
        return (Stage.READY,)
    for way in (TO_PAUSED, TO_DELETED):
        if stage in way:
            return way[way.index(stage) + 1 :]
    assert stage in (*SERVING, Stage.FAILED), stage
    return ()


def _held(held: Holding | None) -> HoldingView:
    return HoldingView(
        endpoints=held.endpoints if held else 0, replicas=held.replicas if held else 0, gpus=held.gpus if held else 0
    )
