"""Why a claim waits, from what was last seen; told when the reason changes, not when its words do."""

from __future__ import annotations

from dataclasses import replace

from libs.common.events.capacity import CapacityWaiting
from libs.common.events.event import Event
from libs.common.events.facts import Fact
from services.capacity_manager.core.lifecycle import reserved_nodes
from services.capacity_manager.core.node_loss import joined_and_well, lost
from services.capacity_manager.core.observed import ClusterSeen, Observed
from services.capacity_manager.core.placement import nodes_missing, nodes_needed, shortage, wanted_by
from services.capacity_manager.core.reasons import Reason, Why
from services.capacity_manager.core.state import Claim
from services.capacity_manager.core.tenancy import is_shared


def why_waiting(claim: Claim, seen: Observed) -> Why | None:
    """What the claim waits for; None if it has what it wants."""
    if claim.is_unwanted:
        return _why_held(claim, seen)
    extra = wanted_by(claim) - reserved_nodes(claim)
    if extra > 0:
        return _why_not_reserved(claim, seen)
    cluster = seen.our_cluster
    if cluster is None or not cluster.is_ready:
        return _why_no_cluster(cluster)
    if joined_and_well(claim, seen.nodes) < nodes_needed(claim, cluster):
        return _why_no_nodes(claim, seen)
    if Fact.GPU_READY not in claim.told:
        return Why(Reason.GPU_PENDING, "The nodes have joined and their GPU drivers start.")
    return None


def explain(claim: Claim, why: Why | None, *, acts: bool = False) -> tuple[Claim, tuple[Event, ...]]:
    """The claim with the reason told, and the event if it is news: trouble, or the end of trouble told before.

    While something is still to be done (`acts`), a look without trouble ends none: what failed may have been the doing.
    """
    reason, is_trouble = (why.reason, why.is_trouble) if why else ("", False)
    if claim.is_orphan:
        return replace(claim, waiting=reason if is_trouble else ""), ()
    if reason == claim.waiting or not (is_trouble or (claim.waiting and not acts)):
        return claim, ()
    told = CapacityWaiting(reason=reason, message=why.message if why else "Nothing is waited for.")
    return replace(claim, waiting=reason), (told,)


def _why_held(claim: Claim, seen: Observed) -> Why:
    if not claim.is_removable:
        return Why(Reason.RUNTIME_PRESENT, "The model server is being removed first.")
    if is_shared(claim.placement):
        if seen.our_cluster is None or seen.our_cluster.share is None:
            return Why(Reason.CONFIRMING_GONE, "Nothing is left at first sight; a second look confirms it.")
        return Why(Reason.CLUSTER_DELETING, "Its share of the cluster is being given back.")
    if seen.our_cluster is not None or seen.nodes:
        return Why(Reason.CLUSTER_DELETING, f"The cluster is being deleted; {len(seen.nodes)} of its nodes are left.")
    return Why(Reason.CONFIRMING_GONE, "Nothing is left at first sight; a second look confirms it.")


def _why_not_reserved(claim: Claim, seen: Observed) -> Why:
    if seen.project is None or not seen.project.is_as_wanted:
        return Why(Reason.PROJECT_PENDING, "The tenant's project is being prepared.")
    if claim.placement is not None and seen.node_type is not None:
        short = shortage(nodes_missing(claim, seen.our_cluster), claim.placement, seen.node_type)
        if short is not None:
            others = f"; of its tier's classes: {', '.join(claim.passed_over)}" if claim.passed_over else ""
            return replace(short, message=short.message + others)
    return Why(Reason.PROJECT_PENDING, "Capacity is being reserved.")


def _why_no_cluster(cluster: ClusterSeen | None) -> Why:
    if cluster is not None and cluster.phase == "Failed":
        return Why(Reason.CLUSTER_FAILED, f"The cluster reports a failure: {cluster.message or 'no reason given'}.")
    return Why(Reason.CLUSTER_PENDING, "The cluster is being provisioned.")


def _why_no_nodes(claim: Claim, seen: Observed) -> Why:
    if seen.cluster is not None and seen.cluster.refusal:
        return Why(seen.cluster.refusal, f"The cluster can't be changed: {seen.cluster.message}.")
    vanished = lost(claim.nodes)
    if vanished:
        names = ", ".join(each.name for each in vanished)
        return Why(Reason.NODE_LOST, f"A node that served was lost ({names}); another one is on its way.")
    failed = next((node for node in seen.nodes if node.is_failed), None)
    if failed is not None:
        return Why(Reason.NODE_FAILED, f"A node could not be provided: {failed.message or 'no reason given'}.")
    unscheduled = next((node for node in seen.nodes if node.message and not node.is_scheduled), None)
    if unscheduled is not None:
        return Why(Reason.NO_CAPACITY, f"A node waits for capacity: {unscheduled.message}.")
    joined = joined_and_well(claim, seen.nodes)
    return Why(Reason.NODES_PENDING, f"{joined} of {nodes_needed(claim, seen.our_cluster)} nodes have joined.")
