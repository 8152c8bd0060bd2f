"""How far a claim has come: the facts that a look at the Platform proves, in their order."""

from __future__ import annotations

from collections.abc import Iterator

from libs.common.events.capacity import CapacityReserved, ClusterReady, GpuReady, NodesJoined
from libs.common.events.event import Event
from services.capacity_manager.core.observed import Observed
from services.capacity_manager.core.placement import fewest_needed, replicas_that_fit
from services.capacity_manager.core.state import Claim
from services.capacity_manager.core.tenancy import home_of


def reached(claim: Claim, seen: Observed) -> Iterator[Event]:
    """The steps of the way that are seen to hold, in order, up to the first that does not."""
    held, placement, spec = claim.reservation, claim.placement, claim.spec
    if held is None or placement is None or spec is None:
        return
    home = home_of(claim)
    project, cluster = home.project, home.cluster
    yield CapacityReserved(platform_project=project, cluster=cluster, node_type=held.node_type, nodes=held.nodes)
    if seen.our_cluster is None or not seen.our_cluster.is_ready:
        return
    yield ClusterReady(platform_project=project, cluster=cluster)
    joined = sum(node.is_joined for node in seen.nodes)
    if joined < fewest_needed(claim, seen.our_cluster):
        return
    yield NodesJoined(nodes=joined)
    gpus = [node.gpus for node in seen.gpu_nodes or ()]
    if replicas_that_fit(gpus, placement) >= spec.scaling.min + seen.our_cluster.others:
        yield GpuReady(platform_project=project, cluster=cluster, gpus=sum(gpus))
