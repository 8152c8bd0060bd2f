"""What an event means for a claim: what to remember, what to tell, which quota to take or to give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from libs.common.decision import Decide, Decision, Give, Take
from libs.common.events.capacity import CapacityFailed, CapacityQueued, CapacityReleased
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.events.facts import Fact
from libs.common.ids import ProjectId, TenantId
from libs.common.reconciler import Delayed, Refused
from libs.common.runner import Woke
from libs.common.units import SECOND_MS
from services.capacity_manager.core import replacing
from services.capacity_manager.core.choosing import choose
from services.capacity_manager.core.drift import note_drift
from services.capacity_manager.core.explain import explain, why_waiting
from services.capacity_manager.core.hear import hear
from services.capacity_manager.core.lifecycle import (
    Stage,
    is_waiting_for_something,
    live_nodes,
    reserved_nodes,
    stage_of,
    unconfirmed,
)
from services.capacity_manager.core.names import gpu_counter
from services.capacity_manager.core.node_loss import due_ms
from services.capacity_manager.core.node_time import is_confirmed
from services.capacity_manager.core.observed import Observed
from services.capacity_manager.core.orphans import Found
from services.capacity_manager.core.placement import gpus_of_each, nodes_missing, shortage, too_small, wanted_by
from services.capacity_manager.core.plan import plan
from services.capacity_manager.core.reached import reached
from services.capacity_manager.core.reasons import Reason, Why
from services.capacity_manager.core.replacing import ReplaceNode, advance, asked
from services.capacity_manager.core.rolling import RollCluster, note_roll, rolled
from services.capacity_manager.core.sites import site_of
from services.capacity_manager.core.state import Claim, Reservation
from services.capacity_manager.core.warm_nodes import aimed, drawn
from services.capacity_manager.core.warmth import ALL_COLD, Warm
from services.capacity_manager.core.witness import give_rest, note_gone, note_nodes, note_shrinking

CONFIRM_GONE_MS = 30 * SECOND_MS  # reliability.md I17: a list may lag, and a 404 may come early.
QUOTA_RETRY_MS = 5 * SECOND_MS  # How late quota that was given back is noticed; two small commits per waiting claim.


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator sets."""

    gpus_per_tenant_max: int = 64
    confirm_gone_ms: int = CONFIRM_GONE_MS
    quota_retry_ms: int = QUOTA_RETRY_MS
    warm: Mapping[str, Warm] = field(default_factory=lambda: ALL_COLD)


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a decision is made under."""

    rules: Rules
    now_ms: int


def decider(rules: Rules) -> Decide[Claim]:
    """The `decide` of a claim under these rules."""

    def decide(claim: Claim, envelope: Envelope, now_ms: int) -> Decision[Claim]:
        terms = _Terms(rules, now_ms)
        match envelope.data:
            case Observed() as seen:
                return _on_observed(claim, seen, terms)
            case Found() as found:
                return _on_found(claim, found, terms)
            case ReplaceNode() as order:
                return _decided(*asked(claim, order, now_ms), terms)
            case RollCluster() as order:
                return _decided(*rolled(claim, order), terms)
            case Woke():
                return _decided(replace(claim, look=claim.look + 1, quota_retry_at_ms=None), (), terms)
            case Delayed(code=code, message=message):
                return _on_trouble(claim, Why(code, message), terms)
            case Refused(code=code, message=message):
                return _on_refusal(claim, Why(code, message), terms)
            case _:
                return _on_news(hear(claim, envelope), terms)

    return decide


def _on_news(claim: Claim, terms: _Terms) -> Decision[Claim]:
    events: list[Event] = []
    if claim.spec is not None and Fact.CAPACITY_QUEUED not in claim.told:
        claim = _having_told(claim, Fact.CAPACITY_QUEUED)
        events.append(CapacityQueued())
    if claim.is_unwanted:
        claim = replace(claim, quota_retry_at_ms=None)
    if claim.is_removable and claim.released_for is not None and claim.released_for < claim.generation:
        # Confirmed gone for an older generation and not wanted since: whoever asks again gets the answer at once.
        claim = replace(claim, released_for=claim.generation)
        events.append(CapacityReleased())
    return _decided(claim, tuple(events), terms)


def _on_found(claim: Claim, found: Found, terms: _Terms) -> Decision[Claim]:
    """Take in what stands though nobody wants it; a claim that is wanted, or is being given back, has it already."""
    if claim.tenant_id and not claim.is_released:
        return _decided(claim, (), terms)
    claim = replace(claim, released_for=None, look=claim.look + 1, gone=None)
    if not claim.tenant_id:
        claim = replace(
            claim,
            tenant_id=TenantId(found.tenant_id),
            project_id=ProjectId(found.project_id),
            found=found.machines,
        )
    return _decided(claim, (), terms)


def _on_trouble(claim: Claim, why: Why, terms: _Terms) -> Decision[Claim]:
    if not is_waiting_for_something(claim):
        return _decided(claim, (), terms)
    return _decided(*explain(claim, why), terms)


def _on_refusal(claim: Claim, why: Why, terms: _Terms) -> Decision[Claim]:
    """A refusal ends a claim that has nothing to lose yet; one that serves or gives back only says why it waits."""
    if claim.is_unwanted or stage_of(claim) is Stage.HELD:
        return _on_trouble(claim, why, terms)
    return _failed(claim, (), why, terms)


def _on_observed(claim: Claim, seen: Observed, terms: _Terms) -> Decision[Claim]:
    if claim.is_released:
        return _decided(claim, (), terms)
    claim, events = note_nodes(claim, seen, now_ms=terms.now_ms, confirm_gone_ms=terms.rules.confirm_gone_ms)
    claim, drifts = note_drift(claim, seen)
    claim, rolls = note_roll(claim, seen.our_cluster, terms.now_ms)
    claim, moves = advance(claim, site_of(claim, seen), terms.now_ms)
    moves = (*rolls, *moves)
    events = (*events, *drifts, *moves)
    claim, gives = note_shrinking(claim, seen, now_ms=terms.now_ms, confirm_gone_ms=terms.rules.confirm_gone_ms)
    if claim.is_unwanted:
        return _give_back(claim, seen, events, gives, terms)
    claim, seen = choose(replace(claim, gone=None), seen)
    refusal = _refusal(claim, seen)
    if refusal is not None:
        return replace(_failed(claim, events, refusal, terms), counters=gives)
    if claim.is_failed:
        return _decided(claim, events, terms, gives)
    if not _may_reserve(claim, seen):
        return _progressed(claim, seen, events, why_waiting(claim, seen), terms, gives)
    return _reserve(claim, seen, events, terms)


def _give_back(
    claim: Claim, seen: Observed, events: tuple[Event, ...], gives: tuple[Give, ...], terms: _Terms
) -> Decision[Claim]:
    claim = note_gone(claim, seen, now_ms=terms.now_ms)
    first = claim.gone
    if first is None or not is_confirmed(
        first, seen.question.look, now_ms=terms.now_ms, confirm_gone_ms=terms.rules.confirm_gone_ms
    ):
        acts = bool(plan(claim, seen, terms.now_ms))
        claim, waits = explain(claim, why_waiting(claim, seen), acts=acts)
        return _decided(claim, (*events, *waits), terms, gives)
    assert not live_nodes(claim), "two looks found no node, so each is confirmed gone"
    gives = (*gives, *give_rest(claim))
    claim = replace(
        claim, reservation=None, shrunk=None, gone=None, waiting="", quota_retry_at_ms=None,
        released_for=claim.generation,
    )  # fmt: skip
    told = () if claim.is_orphan else (CapacityReleased(),)  # Nobody asked, so nobody waits for the answer.
    return _decided(claim, (*events, *told), terms, gives)


def _may_reserve(claim: Claim, seen: Observed) -> bool:
    extra = wanted_by(claim) - reserved_nodes(claim)
    if extra <= 0 or claim.placement is None or seen.node_type is None:
        return False
    is_prepared = seen.project is not None and seen.project.is_as_wanted
    missing = nodes_missing(claim, seen.our_cluster)
    return is_prepared and shortage(missing, claim.placement, seen.node_type) is None


def _reserve(claim: Claim, seen: Observed, events: tuple[Event, ...], terms: _Terms) -> Decision[Claim]:
    """Take the quota and go on, or, if it is used up, wait: whichever of the two the counter allows."""
    placement, held = claim.placement, claim.reservation
    assert placement is not None
    wanted = Reservation(
        node_type=placement.node_type,
        nodes=wanted_by(claim),
        gpus_per_node=gpus_of_each(placement),
        since_ms=held.since_ms if held else terms.now_ms,
    )
    extra = wanted.gpus - (held.gpus if held else 0)
    counter = gpu_counter(tenant_id=claim.tenant_id, node_type=placement.node_type)
    granted = replace(_described(claim, seen), reservation=wanted, shrunk=None, quota_retry_at_ms=None)
    granted, draws = drawn(granted, claim, now_ms=terms.now_ms)
    refused = replace(claim, quota_retry_at_ms=terms.now_ms + terms.rules.quota_retry_ms)
    why = Why(
        Reason.QUOTA_EXCEEDED,
        f"{extra} more GPUs of type {placement.node_type} would pass the limit of {terms.rules.gpus_per_tenant_max}; "
        "delete an endpoint, scale one down, or ask for a higher limit",
    )
    return replace(
        _progressed(granted, seen, (*events, *draws), why_waiting(granted, seen), terms),
        counters=(Take(counter, extra, terms.rules.gpus_per_tenant_max),),
        otherwise=_progressed(refused, seen, events, why, terms),
    )


def _described(claim: Claim, seen: Observed) -> Claim:
    """The claim with what is known of the nodes that it gets."""
    if seen.node_type is None:
        return claim
    return replace(claim, node_cost=seen.node_type.cost, chosen=seen.node_type.described)


def _refusal(claim: Claim, seen: Observed) -> Why | None:
    """Why no waiting will help a claim that has not got its nodes yet; None if it may."""
    if claim.is_failed or stage_of(claim) is Stage.HELD:
        return None
    if (seen.project and not seen.project.is_ours) or (seen.cluster and not seen.cluster.is_ours):
        return Why(Reason.NAME_TAKEN, "An object of another owner has the name that is ours; it was left alone.")
    if seen.node_type is not None and not seen.node_type.is_known and claim.placement is not None:
        return Why(Reason.NODE_TYPE_UNKNOWN, f"The Platform knows no node type {claim.placement.node_type}.")
    if claim.placement is not None and (small := too_small(claim.placement, seen.node_type)) is not None:
        return Why(Reason.NODE_TYPE_MISMATCH, f"{small}; the tier's file must be mended.")
    if seen.cluster is not None and seen.cluster.refusal:
        return Why(seen.cluster.refusal, f"The cluster's template can't be used: {seen.cluster.message}.")
    return None


def _failed(claim: Claim, events: tuple[Event, ...], why: Why, terms: _Terms) -> Decision[Claim]:
    if claim.is_failed:
        return _decided(claim, events, terms)
    claim = replace(_having_told(claim, Fact.CAPACITY_FAILED), waiting="")
    return _decided(claim, (*events, CapacityFailed(reason=why.reason, message=why.message)), terms)


def _progressed(
    claim: Claim,
    seen: Observed,
    events: tuple[Event, ...],
    why: Why | None,
    terms: _Terms,
    gives: tuple[Give, ...] = (),
) -> Decision[Claim]:
    """Tell what holds now and was not told, then why it does not go on."""
    for event in reached(claim, seen):
        if event.fact is not None and event.fact not in claim.told:
            claim = replace(_having_told(claim, event.fact), waiting="")
            events = (*events, event)
    if why is not None and why.reason == Reason.GPU_PENDING and Fact.GPU_READY in claim.told:
        why = None
    claim, waits = explain(claim, why, acts=bool(plan(claim, seen, terms.now_ms)))
    return _decided(claim, (*events, *waits), terms, gives)


def _decided(claim: Claim, events: tuple[Event, ...], terms: _Terms, gives: tuple[Give, ...] = ()) -> Decision[Claim]:
    claim = aimed(claim, terms.rules.warm)
    return Decision(claim, events, generation=claim.generation, wake_at_ms=_wake_at_ms(claim, terms), counters=gives)


def _wake_at_ms(claim: Claim, terms: _Terms) -> int | None:
    """When the next look is due: to confirm what seems gone, or to ask for quota again.

    What is due already and was first seen in an earlier look waits for the look that is under way, not for the clock.
    """
    dues = ((each.since_ms + terms.rules.confirm_gone_ms, each.look) for each in unconfirmed(claim))
    looks = (due_ms for due_ms, look in dues if look == claim.look or due_ms > terms.now_ms)
    silences = (each for each in due_ms(claim.nodes) if each > terms.now_ms)
    retry = (claim.quota_retry_at_ms,) if claim.quota_retry_at_ms is not None else ()
    return min((*looks, *silences, *replacing.due_ms(claim, terms.now_ms), *retry), default=None)


def _having_told(claim: Claim, fact: Fact) -> Claim:
    return replace(claim, told=tuple(sorted({*claim.told, fact})))
