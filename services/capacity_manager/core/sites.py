"""A cluster whose nodes are replaced, as it was seen: an endpoint's own, or one that endpoints share."""

from __future__ import annotations

from dataclasses import dataclass

from services.capacity_manager.core.observed import GpuNode, MachineSeen, NodeSeen, Observed
from services.capacity_manager.core.placement import wanted_by
from services.capacity_manager.core.pools import Pool, PoolSeen
from services.capacity_manager.core.state import Claim
from services.capacity_manager.core.tenancy import home_of
from services.capacity_manager.core.vnode import Image


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What is known of sandboxes in a cluster; `image` is what its template says that a new node has."""

    template: str
    image: Image
    is_licensed: bool | None
    has_runtime_class: bool | None


@dataclass(frozen=True, slots=True)
class Site:
    """What a replacement goes by. `needed` nodes are to stand ready beside the one that goes.

    `has_room`: whether its type has a free machine; None where that was not asked. `is_back`: its pool has its size
    again. `pods` of ours are on the node of the claim `asked`. `sharers` are the endpoints in it, None of one's own.
    """

    project: str
    cluster: str
    needed: int
    is_unwanted: bool
    is_back: bool
    has_room: bool | None
    nodes: tuple[NodeSeen, ...]
    machines: tuple[MachineSeen, ...]
    gpu_nodes: tuple[GpuNode, ...]
    asked: str
    pods: int | None
    sharers: tuple[str, ...] | None = None
    sandbox: Sandbox | None = None

    def machine_of(self, claim: str) -> MachineSeen | None:
        """The node inside the cluster that came of a claim."""
        return next((each for each in self.machines if each.claim == claim), None)


def standing(nodes: tuple[NodeSeen, ...]) -> tuple[NodeSeen, ...]:
    """Those that are to stay."""
    return tuple(each for each in nodes if not each.is_deleting and not each.is_failed)


def site_of(claim: Claim, seen: Observed) -> Site:
    """An endpoint's own cluster."""
    home, cluster, needed = home_of(claim), seen.our_cluster, wanted_by(claim)
    is_back = False
    if cluster is not None and cluster.quantity is not None:
        is_back = cluster.quantity - cluster.warm == needed and len(standing(seen.nodes)) <= cluster.quantity
    free = seen.node_type.free if seen.node_type is not None else 0
    return Site(
        project=home.project,
        cluster=home.cluster,
        needed=needed,
        is_unwanted=claim.is_unwanted,
        is_back=is_back,
        has_room=None if seen.node_type is None else free is None or free > 0,
        nodes=seen.nodes,
        machines=seen.machines or (),
        gpu_nodes=seen.gpu_nodes or (),
        asked=seen.question.node,
        pods=seen.pods,
    )


def site_of_pool(pool: Pool, seen: PoolSeen, *, warm: int, sandbox: Sandbox | None) -> Site:
    """A shared cluster, which is to have so many warm nodes when nothing is replaced."""
    cluster, is_back, needed = seen.cluster, False, pool.needed
    if cluster is not None and cluster.quantity is not None:
        is_back = cluster.warm <= warm and len(standing(seen.nodes)) <= cluster.quantity
        needed = max(0, cluster.quantity - cluster.warm)
    return Site(
        project=pool.project,
        cluster=pool.cluster,
        needed=needed,
        is_unwanted=pool.is_released or (cluster is not None and cluster.is_deleting),
        is_back=is_back,
        has_room=None if cluster is None else seen.free is None or seen.free > 0,
        nodes=seen.nodes,
        machines=seen.machines or (),
        gpu_nodes=seen.gpu_nodes,
        asked=seen.node,
        pods=seen.pods,
        sharers=cluster.sharers if cluster is not None else (),
        sandbox=sandbox,
    )
