"""What a look at the Platform proves: which nodes are held since when, and what is gone. Gone needs two looks."""

from __future__ import annotations

from dataclasses import replace

from libs.common.decision import Give
from libs.common.events.event import Event
from services.capacity_manager.core import warm_nodes
from services.capacity_manager.core.names import gpu_counter
from services.capacity_manager.core.node_loss import gone, missed, note_losses
from services.capacity_manager.core.node_time import Look, is_confirmed, noted
from services.capacity_manager.core.observed import Observed
from services.capacity_manager.core.placement import wanted_by
from services.capacity_manager.core.replacing import replaced
from services.capacity_manager.core.state import Claim, Sighting
from services.capacity_manager.core.tenancy import is_shared


def note_nodes(claim: Claim, seen: Observed, *, now_ms: int, confirm_gone_ms: int) -> tuple[Claim, tuple[Event, ...]]:
    """The claim with its nodes as seen, and what to tell of them: each joins once and is released once.

    Nodes that are shared are nobody's: what runs on them is measured, not how long they are held.
    """
    if is_shared(claim.placement):
        return claim, ()
    look = Look(
        seen.question.look, now_ms, confirm_gone_ms, claim.reservation.since_ms if claim.reservation else 0
    )  # fmt: skip
    nodes, told = noted(claim.nodes, seen.nodes, claim.machines, look)
    nodes = missed(nodes, claim.nodes, kept=wanted_by(claim) + claim.warm, asked=replaced(claim))
    vanished = gone(nodes, claim.nodes, look)
    nodes, lost = note_losses(nodes, seen.nodes, seen.machines, look)
    return warm_nodes.noted(replace(claim, nodes=nodes), seen, (*vanished, *told, *lost), now_ms)


def note_shrinking(
    claim: Claim, seen: Observed, *, now_ms: int, confirm_gone_ms: int
) -> tuple[Claim, tuple[Give, ...]]:
    """The claim with quota only for what may still be held, and what to give back: confirmed by two looks."""
    held = claim.reservation
    if held is None:
        return claim, ()
    needed = max(wanted_by(claim), _still_there(claim, seen, held.nodes))
    if needed >= held.nodes:
        return replace(claim, shrunk=None), ()
    first = claim.shrunk or Sighting(now_ms, seen.question.look, needed)
    first = replace(first, nodes=max(first.nodes, needed))
    if not is_confirmed(first, seen.question.look, now_ms=now_ms, confirm_gone_ms=confirm_gone_ms):
        return replace(claim, shrunk=first), ()
    left = replace(held, nodes=first.nodes)
    again = Sighting(now_ms, seen.question.look, needed) if needed < left.nodes else None
    after = replace(claim, reservation=left if left.nodes else None, shrunk=again)
    return after, (_give(claim, held.gpus - left.gpus),)


def note_gone(claim: Claim, seen: Observed, *, now_ms: int) -> Claim:
    """The claim with the first look that found nothing, once nothing may be there."""
    if not seen.question.is_removable or _is_left(claim, seen):
        return replace(claim, gone=None)
    return replace(claim, gone=claim.gone or Sighting(now_ms, seen.question.look))


def _still_there(claim: Claim, seen: Observed, held: int) -> int:
    """What of the reservation may still be in use: nodes that stand or will come, or a share of shared ones.

    Warm nodes are not of it; they come only where nothing else is coming or going.
    """
    cluster = seen.our_cluster
    if is_shared(claim.placement):
        return cluster.share or 0 if cluster is not None else 0
    quantity = warm = 0
    if cluster is not None:
        quantity, warm = held if cluster.quantity is None else cluster.quantity, cluster.warm
    return max(len(seen.nodes), quantity) - warm


def _is_left(claim: Claim, seen: Observed) -> bool:
    """Whether anything is left. Of a shared cluster only the share counts: the cluster itself is its pool's."""
    cluster = seen.our_cluster
    if is_shared(claim.placement):
        return cluster is not None and cluster.share is not None
    return cluster is not None or bool(seen.nodes)


def give_rest(claim: Claim) -> tuple[Give, ...]:
    """All quota that the claim still holds."""
    return (_give(claim, claim.reservation.gpus),) if claim.reservation else ()


def _give(claim: Claim, gpus: int) -> Give:
    assert claim.reservation is not None
    return Give(gpu_counter(tenant_id=claim.tenant_id, node_type=claim.reservation.node_type), gpus)
