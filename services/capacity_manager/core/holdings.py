"""Who holds what, since when, why and at what cost, and what a change of the node class would come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from libs.common.events.endpoint import Placement
from services.capacity_manager.core.lifecycle import Stage, live_nodes, stage_of
from services.capacity_manager.core.node_kinds import Hardware, NodeKind
from services.capacity_manager.core.placement import nodes_for, wanted_by
from services.capacity_manager.core.reasons import Reason
from services.capacity_manager.core.state import Claim


@dataclass(frozen=True, slots=True)
class NodeClass:
    """A node type as the Platform tells of it. `free` is None without a limit; `cost` is in its units, per node.

    `kind` says who makes such nodes; of our own metal, `hardware` is what stands behind it, where that may be seen.
    """

    name: str
    gpus: int
    free: int | None
    cost: int
    provider: str = ""
    kind: NodeKind | None = None
    rack: str = ""
    reservation: str = ""
    zone: str = ""
    hardware: Hardware | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """One claim. `wanted` and `nodes` differ while it grows or shrinks; `cost` is what its nodes are rated at.

    `chosen` says what they are: their provider, rack, reservation and the cost of each.
    """

    endpoint_id: str
    tenant_id: str
    project_id: str
    stage: Stage
    why: str
    node_type: str
    wanted: int
    nodes: int
    gpus: int
    since_ms: int | None
    cost: int
    chosen: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What it would mean for one claim to have nodes of another class; `refusal` is empty where it could be done."""

    endpoint_id: str
    tenant_id: str
    nodes: int
    nodes_after: int
    cost: int
    cost_after: int
    refusal: str


def holdings(claims: Iterable[Claim], classes: Mapping[str, NodeClass]) -> tuple[Holding, ...]:
    """What each claim that is not released holds or waits for, the dearest first."""
    found = (_holding(each, classes) for each in claims if each.tenant_id and not each.is_released)
    return tuple(sorted(found, key=lambda each: (-each.cost, each.since_ms or 0, each.endpoint_id)))


def changes(
    claims: Iterable[Claim], classes: Mapping[str, NodeClass], *, old: str, new: str, gpus_max: int
) -> tuple[Change, ...]:
    """Each wanted claim of one class moved to another, in turn: the first takes the room that the next then lacks.

    Both are held for a while, since the new nodes must serve before the old ones go.
    """
    target, room, taken = classes.get(new), 0, dict[str, int]()
    if target is not None:
        room = target.free if target.free is not None else 1 << 30
    found = []
    for claim in sorted(claims, key=lambda each: each.id):
        placement = claim.placement
        if placement is None or placement.node_type != old or claim.is_unwanted:
            continue
        after = _nodes_after(claim, placement, target)
        gpus = after * target.gpus if target is not None else 0
        refusal = _refusal(new, target, placement, after=after, room=room)
        if not refusal and taken.get(claim.tenant_id, 0) + gpus > gpus_max:
            refusal = f"its tenant may have {gpus_max} GPUs of a type"
        if not refusal:
            room -= after
            taken[claim.tenant_id] = taken.get(claim.tenant_id, 0) + gpus
        nodes = wanted_by(claim)
        cost_after = after * target.cost if target is not None else 0
        found.append(Change(claim.id, claim.tenant_id, nodes, after, nodes * _cost(old, classes), cost_after, refusal))
    return tuple(found)


def _holding(claim: Claim, classes: Mapping[str, NodeClass]) -> Holding:
    held, machines = claim.reservation, claim.machines
    node_type = held.node_type if held else machines.node_type if machines else ""
    nodes = len(live_nodes(claim))
    return Holding(
        endpoint_id=claim.id,
        tenant_id=claim.tenant_id,
        project_id=claim.project_id,
        stage=stage_of(claim),
        why=_why(claim),
        node_type=node_type,
        wanted=wanted_by(claim) + claim.warm,
        nodes=nodes,
        chosen=claim.chosen,
        gpus=held.gpus if held else nodes * (machines.gpus_per_node if machines else 0),
        since_ms=held.since_ms if held else min((each.joined_at_ms or 0 for each in live_nodes(claim)), default=None),
        cost=nodes * _cost(node_type, classes),
    )


def _why(claim: Claim) -> str:
    if claim.is_orphan:
        return "found on the Platform; nobody asked for it"
    because = f" ({'; '.join(claim.passed_over)})" if claim.passed_over else ""
    if claim.waiting:
        return claim.waiting + (because if claim.waiting == Reason.NO_CAPACITY else "")
    match stage_of(claim):
        case Stage.HELD:
            return f"serves{because}"
        case Stage.RELEASING:
            return "being given back"
        case Stage.FAILED:
            return "failed; waits to be given back"
        case _:
            return "being brought up"


def _nodes_after(claim: Claim, placement: Placement, target: NodeClass | None) -> int:
    if target is None or not target.gpus:
        return 0
    per_node = placement.gpus_per_node // placement.gpus_per_replica
    replicas = wanted_by(claim) * max(1, per_node)
    return nodes_for(replicas, placement.model_copy(update={"gpus_per_node": target.gpus}))


def _refusal(new: str, target: NodeClass | None, placement: Placement, *, after: int, room: int) -> str:
    if target is None:
        return f"the Platform knows no node type {new}"
    if not target.gpus:
        return f"{new} has no GPUs"
    if placement.gpus_per_replica % target.gpus and placement.gpus_per_replica > target.gpus:
        return f"a replica's {placement.gpus_per_replica} GPUs do not fill nodes of {target.gpus}"
    if after > room:
        return f"{after} of {new} wanted, {max(0, room)} free"
    return ""


def _cost(node_type: str, classes: Mapping[str, NodeClass]) -> int:
    return classes[node_type].cost if node_type in classes else 0
