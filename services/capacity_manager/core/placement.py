"""How many nodes a claim wants, whether there is room for them, and why not. Nodes are whole: a tenant shares none."""

from __future__ import annotations

from collections.abc import Iterable

from libs.common.events.endpoint import EndpointSpec, Placement
from services.capacity_manager.core.observed import NodeTypeSeen
from services.capacity_manager.core.reasons import Reason, Why
from services.capacity_manager.core.state import Claim, Count


def nodes_wanted(spec: EndpointSpec, placement: Placement, planned: Count | None, running: Count | None) -> int:
    """Nodes for the replicas that should run, and for those that still do: a scale-down waits for the runtime."""
    wanted = planned.replicas if planned else spec.scaling.min
    replicas = min(max(wanted, spec.scaling.min), spec.scaling.max)
    return nodes_for(max(replicas, running.replicas if running else 0), placement)


def nodes_for(replicas: int, placement: Placement) -> int:
    """The fewest whole nodes that carry so many replicas: some to a node, or some nodes to a replica."""
    per_node = placement.gpus_per_node // placement.gpus_per_replica
    if per_node:
        return -(-replicas // per_node)
    return replicas * -(-placement.gpus_per_replica // placement.gpus_per_node)


def replicas_that_fit(gpus_by_node: Iterable[int], placement: Placement) -> int:
    """How many replicas the GPUs on ready nodes carry."""
    if placement.gpus_per_replica <= placement.gpus_per_node:
        return sum(gpus // placement.gpus_per_replica for gpus in gpus_by_node)
    nodes_each = -(-placement.gpus_per_replica // placement.gpus_per_node)
    return sum(1 for gpus in gpus_by_node if gpus >= placement.gpus_per_node) // nodes_each


def wanted_by(claim: Claim) -> int:
    """Nodes that the claim wants now; 0 once it is unwanted, or before it is known."""
    if claim.is_unwanted or claim.spec is None or claim.placement is None:
        return 0
    return nodes_wanted(claim.spec, claim.placement, claim.planned, claim.running)


def fewest_for(claim: Claim) -> int:
    """Nodes that the fewest replicas need: with these the claim counts as fulfilled."""
    if claim.spec is None or claim.placement is None:
        return 0
    return nodes_for(claim.spec.scaling.min, claim.placement)


def shortage(extra: int, placement: Placement, seen: NodeTypeSeen) -> Why | None:
    """Why ``extra`` more nodes of the type can't be had now; None if they can."""
    if seen.free is None or seen.free >= extra:
        return None
    return Why(
        Reason.NO_CAPACITY,
        f"{extra} more {_nodes(extra)} of type {placement.node_type} wanted, {seen.free} free; "
        "it goes on as soon as capacity is given back or added",
    )


def _nodes(count: int) -> str:
    return "node" if count == 1 else "nodes"
