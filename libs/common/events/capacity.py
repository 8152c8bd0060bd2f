"""Events owned by capacity-manager: projects, tenant clusters, node claims, and what is waited for."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final

from pydantic import Field

from libs.common.events.event import Contract, Event, Owner
from libs.common.events.facts import Fact

TO_API: Final = frozenset({Owner.ENDPOINT_API})
TO_API_AND_DEPLOYER: Final = frozenset({Owner.ENDPOINT_API, Owner.RUNTIME_DEPLOYER})


class CapacityQueued(Event):
    """The request for capacity is recorded and will be worked on."""

    kind: ClassVar[str] = "capacity.queued"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = TO_API
    fact: ClassVar[Fact | None] = Fact.CAPACITY_QUEUED


class CapacityWaiting(Event):
    """Nothing moves until something else does: why, for the customer to read. Not a fact: it explains the stage."""

    kind: ClassVar[str] = "capacity.waiting"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = TO_API

    reason: str = Field(description="NoCapacity, QuotaExceeded, PlatformUnavailable, …")
    message: str


class CapacityReserved(Event):
    """Nodes of the class are free or coming, the quota is taken, and the project exists."""

    kind: ClassVar[str] = "capacity.reserved"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = TO_API
    fact: ClassVar[Fact | None] = Fact.CAPACITY_RESERVED

    platform_project: str
    cluster: str
    node_type: str
    nodes: int


class ClusterReady(Event):
    """The tenant cluster's API server answers."""

    kind: ClassVar[str] = "capacity.cluster_ready"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = TO_API_AND_DEPLOYER
    fact: ClassVar[Fact | None] = Fact.CLUSTER_READY

    platform_project: str
    cluster: str


class NodesJoined(Event):
    """The nodes that the fewest replicas need have joined the tenant cluster."""

    kind: ClassVar[str] = "capacity.nodes_joined"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = TO_API
    fact: ClassVar[Fact | None] = Fact.NODES_JOINED

    nodes: int


class GpuReady(Event):
    """The GPU stack is up: the joined nodes offer the GPUs that the fewest replicas need."""

    kind: ClassVar[str] = "capacity.gpu_ready"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = TO_API_AND_DEPLOYER
    fact: ClassVar[Fact | None] = Fact.GPU_READY

    platform_project: str
    cluster: str
    gpus: int


class CapacityFailed(Event):
    """No waiting will help: the class, the template or the Platform refuses for good."""

    kind: ClassVar[str] = "capacity.failed"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = TO_API
    fact: ClassVar[Fact | None] = Fact.CAPACITY_FAILED

    reason: str
    message: str


class CapacityReleased(Event):
    """Cluster, claims and quota are confirmed gone, by two reads, not by an accepted delete."""

    kind: ClassVar[str] = "capacity.released"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = TO_API
    fact: ClassVar[Fact | None] = Fact.CAPACITY_RELEASED


class Pool(Contract):
    """A tenant cluster that several endpoints share; without a tenant, endpoints of all."""

    project: str = Field(description="The Platform's project.")
    cluster: str
    tenant_id: str
    project_id: str
    tier: str
    region: str


class NodeJoined(Event):
    """A node began to belong to an endpoint, or to a pool; GPU time is counted from `at_ms`."""

    kind: ClassVar[str] = "node.joined"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.METERING})

    claim: str = Field(description="The Platform's NodeClaim name.")
    node_type: str
    gpu_count: int
    at_ms: int
    pool: Pool | None = Field(default=None, description="Set if the subject is a cluster that endpoints share.")


class NodeUse(StrEnum):
    """What a node is held for."""

    SERVING = "serving"
    WARM = "warm"
    DRAINING = "draining"


class NodeUsed(Event):
    """What a node is held for, from `at_ms` on: endpoints, the next one that comes (warm), or nobody any more."""

    kind: ClassVar[str] = "node.used"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.METERING})

    claim: str
    use: NodeUse
    at_ms: int


class PoolDrawn(Event):
    """Endpoints of a shared cluster, or one of its own, came to need more nodes; so many of them stood warm."""

    kind: ClassVar[str] = "pool.drawn"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.AUTOSCALER})

    tier: str
    region: str
    nodes: int
    warm: int = Field(description="Of these, nodes that had joined before they were needed.")
    idle_gpu_ms: int = Field(default=0, description="GPU-milliseconds that have stood warm there so far, for all hits.")


class NodeReleased(Event):
    """The node belongs to the endpoint no longer; GPU time is counted up to, not including, `at_ms`."""

    kind: ClassVar[str] = "node.released"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.METERING})

    claim: str
    at_ms: int
