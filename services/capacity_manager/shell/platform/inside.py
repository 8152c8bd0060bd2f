"""Inside a tenant cluster, through the Platform's proxy: its nodes, what of ours runs on one, who joined by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from libs.common.errors import Rejected, Unavailable
from services.capacity_manager.core.cluster_template import RUNTIME_CLASS
from services.capacity_manager.core.observed import ClusterSeen, GpuNode, HandNode, MachineSeen, NodeSeen, Question
from services.capacity_manager.core.pools import Pool, PoolSeen
from services.capacity_manager.core.state import NO_PROJECT, NO_TENANT, Step
from services.capacity_manager.core.tenancy import Home
from services.capacity_manager.shell.platform import guests, labels, readings
from services.capacity_manager.shell.platform.client import PlatformClient

Json = dict[str, Any]

FEATURES: Final = "/kubernetes/management/apis/management.loft.sh/v1/features"
FEATURE: Final = "vnode-runtime"
RUNTIME_CLASSES: Final = "node.k8s.io/v1/runtimeclasses"
OF_ENDPOINT: Final = "millrace.dev/endpoint"  # What runtime-deployer labels its pods with.


@dataclass(frozen=True, slots=True)
class Inside:
    """What was seen. None: not asked, or the cluster did not answer, which must not hide the rest."""

    gpu_nodes: tuple[GpuNode, ...] | None = None
    machines: tuple[MachineSeen, ...] | None = None
    pods: int | None = None
    by_hand: tuple[HandNode, ...] = ()


NOTHING: Final = Inside()


def look(
    client: PlatformClient, home: Home, question: Question, cluster: ClusterSeen | None, claims: Iterable[NodeSeen]
) -> Inside:
    """What the question asks of the cluster's inside; nodes that a person joined, where all else is to go."""
    is_ending = cluster is not None and cluster.is_ready and question.is_removable and not home.is_shared
    if cluster is None or not (question.gpus or is_ending):
        return NOTHING
    try:
        nodes = client.list(guests.nodes_of(home.project, home.cluster))
    except Unavailable:
        return NOTHING
    return Inside(
        gpu_nodes=readings.gpu_nodes(nodes) if question.gpus else None,
        machines=readings.machines(nodes) if question.gpus and not home.is_shared else None,
        pods=_pods_on(client, nodes, home, question.node) if question.node else None,
        by_hand=guests.by_hand(nodes, (each.name for each in claims)) if is_ending else (),
    )


def look_at_pool(client: PlatformClient, pool: Pool, seen: PoolSeen) -> PoolSeen:
    """What was seen of a pool, with its cluster's inside. Raises Unavailable.

    While a node is replaced: all nodes, what of ours is on the one that drains, and what vNode needs before one does.
    While nobody is in it: the nodes that people joined, which are let go before the cluster.
    """
    nodes, job = client.list(guests.nodes_of(pool.project, pool.cluster)), pool.replacement
    claims = tuple(each.name for each in seen.nodes)
    found: Json = {"by_hand": guests.by_hand(nodes, claims) if seen.cluster and not seen.cluster.sharers else ()}
    if job is not None:
        found |= {"machines": readings.machines(nodes), "gpu_nodes": readings.gpu_nodes(nodes)}
    if job is not None and job.step is Step.PREPARING:
        classes = f"/kubernetes/project/{pool.project}/virtualcluster/{pool.cluster}/apis/{RUNTIME_CLASSES}"
        found |= {
            "has_runtime_class": client.get(classes, RUNTIME_CLASS) is not None,
            "is_licensed": _is_licensed(client),
        }
    if job is not None and job.step is Step.DRAINING:
        home = Home(pool.project, pool.cluster, NO_TENANT, NO_PROJECT, is_shared=True)
        found |= {"node": job.node, "pods": _pods_on(client, nodes, home, job.node)}
    return seen.model_copy(update=found)


def _is_licensed(client: PlatformClient) -> bool | None:
    """Whether the licence has sandboxes; None where our key may not ask."""
    try:
        features = {str(each["metadata"]["name"]): each.get("status") or {} for each in client.list(FEATURES)}
    except (Unavailable, Rejected):
        return None
    return (features.get(FEATURE) or {}).get("status") == "active"


def _pods_on(client: PlatformClient, nodes: Iterable[Json], home: Home, claim: str) -> int | None:
    """How many pods of ours are on the node of a claim; None if it is not there, or the cluster does not answer.

    Those that belong to the node itself, a driver's or a network's, leave with it.
    """
    name = next((each.name for each in readings.machines(nodes) if each.claim == claim), None)
    if name is None:
        return None
    try:
        pods = client.list(f"/kubernetes/project/{home.project}/virtualcluster/{home.cluster}/api/v1/pods")
    except Unavailable:
        return None
    ours = (each for each in pods if labels.of(each).get(OF_ENDPOINT))
    return sum(bool((each.get("spec") or {}).get("nodeName") == name) for each in ours)
