"""How many nodes a claim wants, whether there is room for them, and why not. Nodes are whole, shared or not."""

from __future__ import annotations

from collections.abc import Iterable

from libs.common.events.endpoint import EndpointSpec, Placement
from services.capacity_manager.core.observed import ClusterSeen, NodeTypeSeen
from services.capacity_manager.core.reasons import Reason, Why
from services.capacity_manager.core.state import Claim, Count
from services.capacity_manager.core.tenancy import is_shared


def nodes_wanted(spec: EndpointSpec, placement: Placement, planned: Count | None, running: Count | None) -> int:
    """Nodes for the replicas that should run, and for those that still do: a scale-down waits for the runtime."""
    return nodes_for(replicas_wanted(spec, planned, running), placement)


def replicas_wanted(spec: EndpointSpec, planned: Count | None, running: Count | None) -> int:
    """Replicas that there must be room for."""
    wanted = planned.replicas if planned else spec.scaling.min
    replicas = min(max(wanted, spec.scaling.min), spec.scaling.max)
    return max(replicas, running.replicas if running else 0)


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
    """Nodes (of shared ones: replicas) that the claim wants now; 0 once it is unwanted, or before it is known."""
    if claim.is_unwanted or claim.spec is None or claim.placement is None:
        return 0
    if is_shared(claim.placement):
        return replicas_wanted(claim.spec, claim.planned, claim.running)
    return nodes_wanted(claim.spec, claim.placement, claim.planned, claim.running)


def nodes_needed(claim: Claim, cluster: ClusterSeen | None) -> int:
    """Nodes that the cluster must have for all that the claim wants, and for what others have in it."""
    return _nodes_with_others(claim, cluster, wanted_by(claim))


def fewest_needed(claim: Claim, cluster: ClusterSeen | None) -> int:
    """Nodes with which the claim counts as fulfilled: its fewest replicas run, and what others have in the cluster."""
    if claim.spec is None or claim.placement is None:
        return 0
    fewest = claim.spec.scaling.min
    return _nodes_with_others(
        claim, cluster, fewest if is_shared(claim.placement) else nodes_for(fewest, claim.placement)
    )


def nodes_missing(claim: Claim, cluster: ClusterSeen | None) -> int:
    """Nodes that must be free for the claim to get what it wants beyond what it has reserved."""
    if not is_shared(claim.placement):
        missing = wanted_by(claim) - (claim.reservation.nodes if claim.reservation else 0)
        return missing if cluster is None or cluster.is_deleting else max(0, missing - cluster.warm)
    there = cluster.quantity or 0 if cluster is not None else 0
    return max(0, nodes_needed(claim, cluster) - there)


def gpus_of_each(placement: Placement) -> int:
    """GPUs of the tenant's quota for each thing that a claim reserves: a whole node, or a replica on a shared one."""
    return placement.gpus_per_replica if is_shared(placement) else placement.gpus_per_node


def _nodes_with_others(claim: Claim, cluster: ClusterSeen | None, wanted: int) -> int:
    if claim.placement is None or not is_shared(claim.placement):
        return wanted
    return nodes_for(wanted + (cluster.others if cluster is not None else 0), claim.placement)


def shortage(extra: int, placement: Placement, seen: NodeTypeSeen) -> Why | None:
    """Why ``extra`` more nodes of the type can't be had now; None if they can."""
    if seen.free is None or seen.free >= extra:
        return None
    return Why(
        Reason.NO_CAPACITY,
        f"{extra} more {_nodes(extra)} of type {placement.node_type}{_about(seen)} wanted, {seen.free} free; "
        "it goes on as soon as capacity is given back or added",
    )


def too_small(placement: Placement, seen: NodeTypeSeen | None) -> str | None:
    """Why nodes of the type can never carry what the tier says; None if they can, or are not known."""
    if seen is None or seen.gpus is None or seen.gpus >= placement.gpus_per_node:
        return None
    return f"{placement.node_type} has {seen.gpus} GPUs a node, its tier counts on {placement.gpus_per_node}"


def _about(seen: NodeTypeSeen) -> str:
    return f" ({seen.described})" if seen.described else ""


def _nodes(count: int) -> str:
    return "node" if count == 1 else "nodes"
