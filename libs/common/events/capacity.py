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


class NodeLost(Event):
    """A node stopped being one, and nobody asked it to. It was held for somebody until `at_ms`, for nobody since.

    As far as the Platform goes, it stays held until `node.released`. Should it come back, `node.used` says so.
    """

    kind: ClassVar[str] = "node.lost"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.METERING})

    claim: str
    at_ms: int = Field(description="When it was last known to be well.")
    seen_at_ms: int = Field(description="When that was noticed.")
    reason: str = Field(description="ClaimGone, ClaimFailed, NodeGone or NodeSilent.")
    message: str
    waiting_on: str = Field(description="Who brings another one.")


class NodeDrifted(Event):
    """A node is not what its pool would make today: an older image, driver or template. It works on; see node life."""

    kind: ClassVar[str] = "node.drifted"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = frozenset()

    claim: str
    message: str = Field(description="The Platform's words.")
    waiting_on: str = Field(description="Who replaces it.")


class NodeReplacementRequested(Event):
    """An operator asked for another machine in place of a node; nodes of one cluster are replaced one after another."""

    kind: ClassVar[str] = "node.replacement_requested"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = frozenset()

    claim: str
    reason: str = Field(description="Why, in the operator's words: driver 570, OS image, template 1.1.0.")
    actor: str
    ahead: int = Field(ge=0, description="How many of the cluster come before it.")


class NodeDraining(Event):
    """A node is to go: no new pod comes to it, and what runs on it moves before the deadline, cutting no stream."""

    kind: ClassVar[str] = "node.draining"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.RUNTIME_DEPLOYER})

    claim: str
    node: str = Field(description="Its name inside the tenant cluster.")
    reason: str
    surges: bool = Field(description="Whether another one stands ready already; else one comes when it is gone.")
    deadline_ms: int
    endpoints: tuple[str, ...] | None = Field(
        default=None, description="Of a shared cluster: whose pods are to move. Else it is the subject's own."
    )


class NodeReplaced(Event):
    """A replacement is over: the node is gone and another one does its work, or why it was left."""

    kind: ClassVar[str] = "node.replaced"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = frozenset()

    claim: str
    reason: str
    actor: str
    outcome: str = Field(description="replaced, drained_late (its deadline passed), lost, unwanted, or refused.")
    requested_at_ms: int
    at_ms: int
    message: str = Field(default="", description="Why it was refused, and what to do.")


class CapacityDrifted(Event):
    """Somebody else changed what we had made on the Platform, and we did not ask for it; it is being put right."""

    kind: ClassVar[str] = "capacity.drifted"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = frozenset()

    cluster: str
    what: str = Field(description="What differs: gpuQuantity, or the cluster itself.")
    wanted: str
    found: str
    waiting_on: str = Field(description="Who puts it right.")


class NodeReleased(Event):
    """The node belongs to the endpoint no longer; GPU time is counted up to, not including, `at_ms`."""

    kind: ClassVar[str] = "node.released"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.METERING})

    claim: str
    at_ms: int
