"""Taking in what the other services tell. Any order, any repeat: the owner's highest sequence wins, per thing told."""

from __future__ import annotations

from dataclasses import replace

from libs.common.desire import begins_anew
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    EndpointRequested,
    Placement,
)
from libs.common.events.envelope import Envelope
from libs.common.events.facts import Fact
from libs.common.events.runtime import ReplicasChanged, RuntimeRemoved
from libs.common.events.scale import PoolTargeted, ScaleDecided
from libs.common.ids import ProjectId, TenantId
from services.capacity_manager.core.choosing import classes_of
from services.capacity_manager.core.state import Claim, Count
from services.capacity_manager.core.tenancy import is_shared


def hear(claim: Claim, envelope: Envelope) -> Claim:
    """The claim after an event of another service; the very same if there is no news in it."""
    match envelope.data:
        case ScaleDecided(replicas=replicas):
            return _planned(claim, replicas, envelope)
        case PoolTargeted(nodes=nodes) if _is_newer(claim.warm_said, envelope):
            return replace(claim, warm_said=Count(nodes, envelope.sequence))
        case PoolTargeted():
            return claim
        case ReplicasChanged(desired=desired, ready=ready):
            return _running(claim, max(desired, ready), envelope)
        case _:
            return _learn(claim, envelope)


def _learn(claim: Claim, envelope: Envelope) -> Claim:
    news = envelope.heard()
    assert news is not None, f"{envelope.type} is subscribed to, but is neither a fact nor a number"
    facts = claim.facts.learn(news)
    if facts is claim.facts:
        return claim
    match envelope.data:
        case EndpointRequested(tenant_id=tenant, project_id=project, spec=spec, placement=placement):
            known = replace(_identified(_tried_again(claim), tenant, project), found=None)
            placed = _on_its_machines(claim, placement)
            classes = classes_of(placement) if placement.fallbacks else ()
            return _alive(replace(known, facts=facts, spec=spec, placement=placed, classes=classes))
        case (
            EndpointDeletionRequested(tenant_id=tenant, project_id=project)
            | EndpointPauseRequested(tenant_id=tenant, project_id=project)
            | EndpointFailed(tenant_id=tenant, project_id=project)
        ):
            return _alive(replace(_identified(claim, tenant, project), facts=facts))
        case RuntimeRemoved() if claim.running is not None and claim.running.sequence < envelope.sequence:
            return replace(claim, facts=facts, running=None)
        case _:
            return replace(claim, facts=facts)


def _identified(claim: Claim, tenant: str, project: str) -> Claim:
    return replace(claim, tenant_id=TenantId(tenant), project_id=ProjectId(project))


def _alive(claim: Claim) -> Claim:
    """The claim, in a new life if it was asked for after an end: all facts are told anew; what is held stays held.

    Another look is due, also where the last one saw just this: it proves the facts for the new life.
    """
    asked = claim.facts.of(Fact.REQUESTED)
    if asked is None:
        return claim
    if not begins_anew(claim.facts, life=claim.life):
        return claim if claim.life else replace(claim, life=asked.generation)
    planned = claim.planned if claim.planned and claim.planned.generation >= asked.generation else None
    again = replace(claim, life=asked.generation, planned=planned, gone=None, released_for=None)
    return _untold(again)


def _tried_again(claim: Claim) -> Claim:
    """Any newer request is a reason to try again what failed; else what was told stays told."""
    return _untold(claim) if claim.is_failed else claim


def _untold(claim: Claim) -> Claim:
    return replace(claim, told=(), waiting="", look=claim.look + 1)


def _on_its_machines(claim: Claim, placement: Placement) -> Placement:
    """The placement, with the machines that quota is held of: those change only when all was given back."""
    held = claim.reservation
    if held is None:
        return placement
    if is_shared(placement):  # Of those, quota is held by the replica.
        return placement.model_copy(update={"node_type": held.node_type})
    region = claim.placement.region if claim.placement else ""
    same = [each for each in classes_of(placement) if (each.node_type, each.region) == (held.node_type, region)]
    made = same[0].cluster_template if same else placement.cluster_template
    return placement.model_copy(
        update={
            "node_type": held.node_type,
            "gpus_per_node": held.gpus_per_node,
            "region": region,
            "cluster_template": made,
        }
    )


def _planned(claim: Claim, replicas: int, envelope: Envelope) -> Claim:
    """What was decided in an earlier life says nothing of this one."""
    if envelope.generation < claim.life or not _is_newer(claim.planned, envelope):
        return claim
    return replace(claim, planned=Count(replicas, envelope.sequence, envelope.generation))


def _running(claim: Claim, replicas: int, envelope: Envelope) -> Claim:
    """What ran before all of it was removed runs no longer."""
    removed = claim.facts.of(Fact.RUNTIME_REMOVED)
    if (removed is not None and removed.sequence > envelope.sequence) or not _is_newer(claim.running, envelope):
        return claim
    return replace(claim, running=Count(replicas, envelope.sequence, envelope.generation))


def _is_newer(known: Count | None, envelope: Envelope) -> bool:
    return known is None or known.sequence < envelope.sequence
