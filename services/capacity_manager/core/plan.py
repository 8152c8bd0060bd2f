"""What to do on the Platform so that it becomes what the claim wants; never against a newer hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from libs.common.events.endpoint import NodeChoice, Placement
from libs.common.ids import EndpointId, ProjectId, TenantId
from services.capacity_manager.core.choosing import classes_of
from services.capacity_manager.core.lifecycle import reserved_nodes
from services.capacity_manager.core.node_actions import NodeAction, RetireNode
from services.capacity_manager.core.node_loss import lost
from services.capacity_manager.core.observed import Observed
from services.capacity_manager.core.placement import nodes_for, wanted_by
from services.capacity_manager.core.replacing import plan_nodes
from services.capacity_manager.core.rolling import plan_roll
from services.capacity_manager.core.sites import site_of
from services.capacity_manager.core.state import Claim
from services.capacity_manager.core.tenancy import Home, home_of


@dataclass(frozen=True, slots=True)
class EnsureProject:
    """Have the tenant's project exist, labelled, and allow what this claim needs."""

    name: str
    tenant_id: TenantId
    project_id: ProjectId
    classes: tuple[NodeChoice, ...]
    region: str


@dataclass(frozen=True, slots=True)
class EnsureCluster:
    """Have the endpoint's tenant cluster exist with so many nodes."""

    project: str
    name: str
    generation: int
    endpoint_id: EndpointId
    tenant_id: TenantId
    project_id: ProjectId
    tier: str
    region: str
    template: str
    template_version: str
    node_type: str
    nodes: int
    share: int | None = None  # Replicas of this endpoint, where the cluster is shared.


@dataclass(frozen=True, slots=True)
class SetShare:
    """Have a shared cluster carry so many replicas of this endpoint (0: none), and have nodes for all that share it."""

    project: str
    name: str
    endpoint_id: EndpointId
    generation: int
    replicas: int
    placement: Placement


@dataclass(frozen=True, slots=True)
class ResizeCluster:
    """Have the tenant cluster's pool hold so many nodes, the last `warm` for replicas to come.

    Unless a newer generation wrote it.
    """

    project: str
    name: str
    generation: int
    node_type: str
    nodes: int
    warm: int = 0


@dataclass(frozen=True, slots=True)
class SetWarm:
    """Have a shared cluster hold so many nodes more than its shares need."""

    project: str
    name: str
    nodes: int


@dataclass(frozen=True, slots=True)
class DropShare:
    """Take the share of an endpoint that is nobody's from a cluster; whoever stays has the pool made smaller."""

    project: str
    name: str
    endpoint_id: EndpointId


@dataclass(frozen=True, slots=True)
class DeleteCluster:
    """Have exactly this tenant cluster, not one made later under its name, go."""

    project: str
    name: str
    uid: str
    is_shared: bool = False  # Then only if nobody has a share in it.


@dataclass(frozen=True, slots=True)
class LetNodeGo:
    """Have exactly this node, which a person joined, leave the tenant cluster; its machine is its owner's."""

    project: str
    cluster: str
    name: str
    uid: str
    is_shared: bool = False  # Then only while nobody has a share in the cluster.


ClusterAction = EnsureCluster | ResizeCluster | DeleteCluster
Action = EnsureProject | ClusterAction | SetShare | SetWarm | DropShare | NodeAction | LetNodeGo


def plan(claim: Claim, observed: Observed, _now_ms: int) -> tuple[Action, ...]:
    """The actions that bring the Platform closer to the claim; none if it is there, or if nothing may be done yet."""
    cluster = observed.cluster
    if cluster is not None and not cluster.is_ours:
        return ()
    if cluster is not None and cluster.generation > claim.generation and not claim.is_orphan:
        return ()
    if claim.is_unwanted:
        return _let_go(claim, observed)
    if claim.is_failed or claim.spec is None or claim.placement is None:
        return ()
    return (*_project(claim, observed), *_cluster(claim, observed), *_nodes(claim, observed))


def template_of(text: str) -> tuple[str, str]:
    """Name and version of ``<name>@<version>``; an empty version means the template has none."""
    name, _, version = text.partition("@")
    return name, version


def _let_go(claim: Claim, observed: Observed) -> tuple[Action, ...]:
    cluster = observed.cluster
    if not claim.is_removable or cluster is None or cluster.is_deleting:
        return ()
    home = home_of(claim)
    if home.is_shared:  # The cluster itself is its pool's to keep or to delete.
        return (_share(claim, home, 0),) if cluster.share is not None else ()
    # Nodes that people joined first, or their kubelets would dial a control plane that is gone.
    guests = tuple(LetNodeGo(home.project, home.cluster, each.name, each.uid) for each in observed.by_hand)
    return (*guests, DeleteCluster(home.project, home.cluster, cluster.uid))


def _project(claim: Claim, observed: Observed) -> tuple[Action, ...]:
    assert claim.spec is not None
    assert claim.placement is not None
    if observed.project is not None and (observed.project.is_as_wanted or not observed.project.is_ours):
        return ()
    home = home_of(claim)
    return (
        EnsureProject(
            name=home.project,
            tenant_id=home.tenant_id,
            project_id=home.project_id,
            classes=claim.classes or classes_of(claim.placement),
            region=claim.spec.region,
        ),
    )


def _cluster(claim: Claim, observed: Observed) -> tuple[Action, ...]:
    cluster = observed.cluster
    assert claim.spec is not None
    assert claim.placement is not None
    reserved = min(wanted_by(claim), reserved_nodes(claim))
    if reserved == 0 or (cluster is not None and cluster.is_deleting):
        return ()
    home, node_type = home_of(claim), claim.placement.node_type
    nodes = reserved + claim.surplus
    if home.is_shared:
        nodes = nodes_for(reserved + (cluster.others if cluster else 0), claim.placement)
    if cluster is not None:
        there = None if cluster.quantity is None else cluster.quantity - cluster.warm
        if home.is_shared:
            is_as_wanted = there == nodes and cluster.share == reserved
            return () if is_as_wanted else (_share(claim, home, reserved),)
        warm = _warm(claim, observed, there, nodes)
        if (there, cluster.warm) == (nodes, warm):
            return ()
        return (ResizeCluster(home.project, home.cluster, claim.generation, node_type, nodes + warm, warm),)
    template, version = template_of(claim.roll.template if claim.roll else claim.placement.cluster_template)
    return (
        EnsureCluster(
            project=home.project,
            name=home.cluster,
            generation=claim.generation,
            endpoint_id=claim.id,
            tenant_id=home.tenant_id,
            project_id=home.project_id,
            tier=claim.spec.tier,
            region=claim.region,
            template=template,
            template_version=version,
            node_type=node_type,
            nodes=nodes,
            share=reserved if home.is_shared else None,
        ),
    )


def _warm(claim: Claim, observed: Observed, there: int | None, nodes: int) -> int:
    """Warm nodes to have now: who needs more draws on them first; more are made at rest, where machines are free."""
    cluster = observed.cluster
    assert cluster is not None
    if there is None or there != nodes:
        return min(claim.warm_wanted, cluster.warm if there is None else max(0, cluster.warm - max(0, nodes - there)))
    more = claim.warm_wanted - cluster.warm
    free = observed.node_type.free if observed.node_type is not None else 0
    is_at_rest = claim.shrunk is None and len(observed.nodes) == cluster.quantity
    return claim.warm_wanted if more <= 0 or (is_at_rest and (free is None or free >= more)) else cluster.warm


def _nodes(claim: Claim, observed: Observed) -> Iterator[Action]:
    """A machine that is lost, but still listed in its cluster, is in the way of the next one."""
    yield from plan_nodes(claim, site_of(claim, observed))
    yield from plan_roll(claim, observed.our_cluster)
    home, names = home_of(claim), {each.name for each in lost(claim.nodes)}
    going = {each.name for each in observed.nodes if each.is_deleting}
    for each in observed.machines or ():
        if each.claim in names - going:
            yield RetireNode(home.project, home.cluster, each.name, each.uid)


def _share(claim: Claim, home: Home, replicas: int) -> SetShare:
    assert claim.placement is not None
    return SetShare(home.project, home.cluster, claim.id, claim.generation, replicas, claim.placement)
