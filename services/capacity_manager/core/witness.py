"""What a look at the Platform proves: which nodes are held since when, and what is gone. Gone needs two looks."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from libs.common.decision import Give
from libs.common.events.capacity import NodeJoined, NodeReleased
from libs.common.events.event import Event
from services.capacity_manager.core.names import gpu_counter
from services.capacity_manager.core.observed import NodeSeen, Observed
from services.capacity_manager.core.placement import wanted_by
from services.capacity_manager.core.state import Claim, Node, Sighting
from services.capacity_manager.core.tenancy import is_shared

RELEASED_NODES_MAX: Final = 256  # Remembered so that a list that lags can't have them told twice.


def note_nodes(claim: Claim, seen: Observed, *, now_ms: int, confirm_gone_ms: int) -> tuple[Claim, tuple[Event, ...]]:
    """The claim with its nodes as seen, and what to tell of them: each joins once and is released once.

    Nodes that are shared are nobody's: what runs on them is measured, not how long they are held.
    """
    if is_shared(claim.placement):
        return claim, ()
    present = {each.name: each for each in seen.nodes}
    known = {node.name: node for node in claim.nodes}
    nodes = [_noted(node, present.get(node.name), claim, seen, now_ms, confirm_gone_ms) for node in claim.nodes]
    nodes += [_noted(Node(name), each, claim, seen, now_ms, 0) for name, each in present.items() if name not in known]
    told: list[Event] = []
    for index, node in enumerate(nodes):
        if node.joined_at_ms is not None and not node.is_told and claim.machines is not None:
            nodes[index] = replace(node, is_told=True)
            told.append(_joined(nodes[index], claim))
    for node in nodes:
        was = known.get(node.name)
        if node.is_told and node.released_at_ms is not None and (was is None or was.released_at_ms is None):
            told.append(NodeReleased(claim=node.name, at_ms=node.released_at_ms))
    return replace(claim, nodes=_kept(nodes)), tuple(told)


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
    if not is_confirmed(first, seen, now_ms=now_ms, confirm_gone_ms=confirm_gone_ms):
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
    """What of the reservation may still be in use: nodes that stand or will come, or a share of shared ones."""
    cluster = seen.our_cluster
    if is_shared(claim.placement):
        return cluster.share or 0 if cluster is not None else 0
    quantity = 0
    if cluster is not None:
        quantity = held if cluster.quantity is None else cluster.quantity
    return max(len(seen.nodes), quantity)


def _is_left(claim: Claim, seen: Observed) -> bool:
    """Whether anything is left. A shared cluster may stay for the others in it; one without any must go."""
    cluster = seen.our_cluster
    if cluster is not None and is_shared(claim.placement):
        return cluster.share is not None or cluster.sharers == 0
    return cluster is not None or bool(seen.nodes)


def is_confirmed(first: Sighting, seen: Observed, *, now_ms: int, confirm_gone_ms: int) -> bool:
    """Whether this is a second look, begun long enough after the first."""
    return seen.question.look > first.look and now_ms >= first.since_ms + confirm_gone_ms


def give_rest(claim: Claim) -> tuple[Give, ...]:
    """All quota that the claim still holds."""
    return (_give(claim, claim.reservation.gpus),) if claim.reservation else ()


def _give(claim: Claim, gpus: int) -> Give:
    assert claim.reservation is not None
    return Give(gpu_counter(tenant_id=claim.tenant_id, node_type=claim.reservation.node_type), gpus)


def _noted(
    node: Node, present: NodeSeen | None, claim: Claim, seen: Observed, now_ms: int, confirm_gone_ms: int
) -> Node:
    if node.released_at_ms is not None:
        # A list may lag behind; but one that joined after this one was gone is another under the same name.
        if present is None or not present.is_joined or (present.joined_at_ms or 0) <= node.released_at_ms:
            return node
        node = Node(node.name)
    if present is not None:
        joined = node.joined_at_ms
        if joined is None and present.is_joined:
            joined = _joined_at(present, claim, now_ms)
        return replace(node, joined_at_ms=joined, missing=None)
    first = node.missing or Sighting(now_ms, seen.question.look)
    if not is_confirmed(first, seen, now_ms=now_ms, confirm_gone_ms=confirm_gone_ms):
        return replace(node, missing=first)
    return replace(node, missing=None, released_at_ms=max(first.since_ms, node.joined_at_ms or 0))


def _joined_at(present: NodeSeen, claim: Claim, now_ms: int) -> int:
    """When the Platform says that it joined: in whole seconds, so not before we reserved, and never in the future."""
    earliest = claim.reservation.since_ms if claim.reservation else 0
    said = now_ms if present.joined_at_ms is None else present.joined_at_ms
    return min(max(said, earliest), now_ms)


def _joined(node: Node, claim: Claim) -> NodeJoined:
    machines = claim.machines
    assert machines is not None
    assert node.joined_at_ms is not None
    return NodeJoined(
        claim=node.name, node_type=machines.node_type, gpu_count=machines.gpus_per_node, at_ms=node.joined_at_ms
    )


def _kept(nodes: list[Node]) -> tuple[Node, ...]:
    """Sorted by name; what never joined is forgotten once it is gone, and of the released only the newest are kept."""
    released = [node for node in nodes if node.released_at_ms is not None and node.is_told]
    newest = sorted(released, key=lambda node: (-(node.released_at_ms or 0), node.name))[:RELEASED_NODES_MAX]
    live = [node for node in nodes if node.released_at_ms is None]
    return tuple(sorted((*live, *newest), key=lambda node: node.name))
