"""Taking in what the other services tell. Any order, any repeat: the owner's highest sequence wins, per thing told."""

from __future__ import annotations

from dataclasses import replace

from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    EndpointRequested,
)
from libs.common.events.envelope import Envelope
from libs.common.events.facts import Fact
from libs.common.events.runtime import ReplicasChanged
from libs.common.events.scale import ScaleDecided
from libs.common.ids import ProjectId, TenantId
from services.capacity_manager.core.state import Claim, Count


def hear(claim: Claim, envelope: Envelope) -> Claim:
    """The claim after an event of another service; the very same if there is no news in it."""
    match envelope.data:
        case ScaleDecided(replicas=replicas):
            return replace(claim, planned=_newer(claim.planned, replicas, envelope))
        case ReplicasChanged(desired=desired, ready=ready):
            return replace(claim, running=_newer(claim.running, max(desired, ready), envelope))
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
            known = _identified(_requested_again(claim, envelope), tenant, project)
            return replace(known, facts=facts, spec=spec, placement=placement)
        case (
            EndpointDeletionRequested(tenant_id=tenant, project_id=project)
            | EndpointPauseRequested(tenant_id=tenant, project_id=project)
            | EndpointFailed(tenant_id=tenant, project_id=project)
        ):
            return replace(_identified(claim, tenant, project), facts=facts)
        case _:
            return replace(claim, facts=facts)


def _identified(claim: Claim, tenant: str, project: str) -> Claim:
    return replace(claim, tenant_id=TenantId(tenant), project_id=ProjectId(project))


def _requested_again(claim: Claim, envelope: Envelope) -> Claim:
    """A newer request wants every fact told anew; what is held stays held."""
    before = claim.facts.of(Fact.REQUESTED)
    if before is None or before.generation >= envelope.generation:
        return claim
    return replace(claim, told=(), waiting="", gone=None, released_for=None)


def _newer(known: Count | None, replicas: int, envelope: Envelope) -> Count:
    if known is not None and known.sequence >= envelope.sequence:
        return known
    return Count(replicas, envelope.sequence)
