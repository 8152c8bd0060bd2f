"""What each event means for a runtime: take it in, then tell whatever follows from the state and was not told yet.

Telling looks only at the state, never at the event, so that any order of the same events ends in the same place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from libs.common.decision import Decide, Decision
from libs.common.desire import begins_anew
from libs.common.events.capacity import ClusterReady, GpuReady, NodeDraining
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    EndpointRequested,
)
from libs.common.events.envelope import Envelope
from libs.common.events.facts import Fact
from libs.common.events.route import RouteWithdrawn
from libs.common.events.scale import ScaleDecided
from libs.common.reconciler import Delayed, Refused
from libs.common.runner import Woke
from services.runtime_deployer.core import canary, moving
from services.runtime_deployer.core.lifecycle import Stage, stage_of
from services.runtime_deployer.core.manifests import kinds_of
from services.runtime_deployer.core.observed import EXTRA, Kind, Observed
from services.runtime_deployer.core.plan import Apply, ChangeAdapter, Check, WarmUp
from services.runtime_deployer.core.progress import is_rolled, pods_of
from services.runtime_deployer.core.state import Cluster, Decided, Failure, Runtime
from services.runtime_deployer.core.tell import tell
from services.runtime_deployer.core.templates import Template
from services.runtime_deployer.core.trouble import UPDATE_PATIENCE_MS, refusal_of, trouble_of
from services.runtime_deployer.core.using import remembered
from services.runtime_deployer.core.weights import Weights

# A refusal of anything else (a look, a delete) fails nothing: it is tried again.
FATAL: frozenset[str] = frozenset({Check.__name__, Apply.__name__, WarmUp.__name__, ChangeAdapter.__name__})


@dataclass(frozen=True, slots=True)
class _Offers:
    """What an operator's files had at the start."""

    templates: Mapping[str, Template]
    weights: Mapping[str, Weights]


def decider(templates: Mapping[str, Template], weights: Mapping[str, Weights] | None = None) -> Decide[Runtime]:
    """The decision function of an operator's templates, by `<name>@<version>`, and models' weights, by digest."""
    offers = _Offers(templates, weights or {})

    def decide(runtime: Runtime, envelope: Envelope, now_ms: int) -> Decision[Runtime]:
        runtime = _take_in(runtime, envelope, now_ms, offers)
        runtime = _intend(runtime, now_ms)
        return tell(runtime, now_ms)

    return decide


def _take_in(runtime: Runtime, envelope: Envelope, now_ms: int, offers: _Offers) -> Runtime:
    match envelope.data:
        case EndpointRequested() as request:
            return _requested(runtime, envelope, request, offers, now_ms)
        case GpuReady() as ready:
            learned = _learn(runtime, envelope)
            if learned is runtime:
                return runtime
            return replace(learned, cluster=Cluster(ready.platform_project, ready.cluster))
        case EndpointDeletionRequested() | EndpointPauseRequested() | EndpointFailed():
            return _ended(_learn(runtime, envelope))
        case NodeDraining(node=node):
            return moving.noted(runtime, node)
        case RouteWithdrawn() | ClusterReady():
            return _learn(runtime, envelope)
        case ScaleDecided() as decided:
            if runtime.decided is not None and runtime.decided.sequence >= envelope.sequence:
                return runtime
            return replace(runtime, decided=Decided(decided.replicas, envelope.sequence, envelope.generation))
    return _take_in_own(runtime, envelope, now_ms)


def _take_in_own(runtime: Runtime, envelope: Envelope, now_ms: int) -> Runtime:
    match envelope.data:
        case Observed() as observed:
            return _observed(runtime, observed, now_ms)
        case canary.Answered() as news:
            return canary.note(runtime, news, now_ms)
        case Delayed() as delayed:
            return replace(runtime, delay=f"{delayed.code}: {delayed.message}")
        case Refused() as refused:
            return _refused(runtime, refused)
        case Woke():
            return runtime
    raise AssertionError(f"a runtime does not hear {envelope.type}")


def _learn(runtime: Runtime, envelope: Envelope) -> Runtime:
    heard = envelope.heard()
    assert heard is not None, envelope.type
    facts = runtime.facts.learn(heard)
    return runtime if facts is runtime.facts else replace(runtime, facts=facts)


def _requested(
    runtime: Runtime,
    envelope: Envelope,
    request: EndpointRequested,
    offers: _Offers,
    now_ms: int,
) -> Runtime:
    """Take a request in. Texts of template and weights are pinned: editing files later changes nothing that runs."""
    before = runtime.facts.of(Fact.REQUESTED)
    learned = _learn(runtime, envelope)
    if learned is runtime:
        return runtime
    if before is None or before.generation < envelope.generation:
        # A look that proved an earlier removal proves nothing about this one; what runs meanwhile stays known.
        seen = None if runtime.seen is not None and runtime.seen.removing else runtime.seen
        learned = replace(learned, seen=seen, removing_since_ms=0)
        if before is None or envelope.generation > before.generation + 1 or not _goes_on(runtime, request):
            learned = _anew(learned)
    template = _pinned(runtime, request) or offers.templates.get(request.placement.runtime_template)
    if request.spec.adapters != runtime.adapters:
        learned = replace(learned, adapters_since_ms=now_ms)
    learned = _ended(learned)
    return replace(
        learned,
        tenant_id=request.tenant_id,
        spec=request.spec,
        placement=request.placement,
        template=template,
        weights=_weights(runtime, request, offers, is_anew=learned.begun != runtime.begun),
        rollout_paused=request.rollout_paused,
        extras=_extras(runtime, template),
    )


def _extras(runtime: Runtime, template: Template | None) -> tuple[Kind, ...]:
    asked = kinds_of(template) if template is not None else frozenset()
    return tuple(each for each in Kind if each in EXTRA and (each in asked or each in runtime.extras))


def _pinned(runtime: Runtime, request: EndpointRequested) -> Template | None:
    is_same = runtime.placement is not None and (
        runtime.placement.runtime_template == request.placement.runtime_template
    )
    return runtime.template if is_same else None


def _weights(runtime: Runtime, request: EndpointRequested, offers: _Offers, *, is_anew: bool) -> Weights | None:
    """What a run began with stays; the next takes what the operator's file says by then, so that it can be mended."""
    digest = request.placement.model_digest
    is_same = runtime.placement is not None and runtime.placement.model_digest == digest
    known = runtime.weights if is_same else None
    return offers.weights.get(digest, known) if is_anew or not is_same else known


def _goes_on(runtime: Runtime, request: EndpointRequested) -> bool:
    """Whether the next request changes scaling, limits or a pause and nothing else, so that what was told stays true.

    One that changes nothing at all was made for a reason that we may not have heard of yet: it begins a run.
    """
    spec = runtime.spec
    is_same = request.spec == spec and request.rollout_paused is runtime.rollout_paused
    if spec is None or request.placement != runtime.placement or is_same:
        return False
    return request.spec.model_copy(update={"scaling": spec.scaling, "limits": spec.limits}) == spec


def _ended(runtime: Runtime) -> Runtime:
    """An end that comes late still cuts what was told before it from what is wanted since."""
    return _anew(runtime) if runtime.is_wanted and begins_anew(runtime.facts, life=runtime.begun) else runtime


def _anew(runtime: Runtime) -> Runtime:
    return replace(runtime, begun=runtime.requested_generation, failure=None, trouble=None, trouble_since_ms=0)


def _observed(runtime: Runtime, observed: Observed, now_ms: int) -> Runtime:
    here = {each.warm_key for each in observed.pods}
    warm = {each.warm_key for each in observed.pods if each.warmed}
    warmed = tuple(sorted((here & set(runtime.warmed)) | warm))
    caches = remembered(runtime, observed)
    runtime = replace(runtime, seen=observed, warmed=warmed, delay="", caches=caches)
    runtime = _looked_for_room(moving.moved(runtime))
    pods = pods_of(runtime)
    patience_max_ms = UPDATE_PATIENCE_MS if runtime.is_replacing else None
    trouble = trouble_of(pods, patience_max_ms=patience_max_ms) or refusal_of(observed, has_pods=bool(pods))
    if trouble is None:
        return replace(runtime, trouble=None, trouble_since_ms=0)
    same = trouble.is_like(runtime.trouble)
    return replace(runtime, trouble=trouble, trouble_since_ms=runtime.trouble_since_ms if same else now_ms)


def _looked_for_room(runtime: Runtime) -> Runtime:
    """A new pod that no node, or no quota, has room for beside old ones would wait for ever: the old ones go first."""
    objects = runtime.seen.objects if runtime.seen is not None else ()
    is_refused = any(each.unschedulable for each in pods_of(runtime)) or any(each.refused for each in objects)
    is_stuck = is_refused and not is_rolled(runtime)
    return replace(runtime, no_room_for=runtime.recipe) if is_stuck else runtime


def _refused(runtime: Runtime, refused: Refused) -> Runtime:
    runtime = replace(runtime, delay=f"{refused.code}: {refused.message}")
    if refused.action not in FATAL or runtime.has_served or not runtime.is_wanted:
        return runtime
    reason = "".join(each.capitalize() for each in refused.code.split("_"))
    return replace(runtime, failure=Failure(reason, refused.message))


def _intend(runtime: Runtime, now_ms: int) -> Runtime:
    """Record, before anything is applied, that something will be; and when a removal began."""
    if runtime.is_wanted and runtime.is_placed and runtime.template is not None and not runtime.intended:
        return replace(runtime, intended=True)
    if stage_of(runtime) is Stage.REMOVING and runtime.removing_since_ms == 0:
        return replace(runtime, removing_since_ms=now_ms)
    return runtime
