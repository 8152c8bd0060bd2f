"""What is seen of a claim on the Platform, and the question it answers.

An observation holds no time and nothing that differs while nothing changes. It repeats the question that was asked, so
that the same sight counts again when the question is a new one.
"""

from __future__ import annotations

from typing import ClassVar

from libs.common.events.event import Contract, Internal, Owner


class Question(Contract):
    """What we wanted when we looked; `room` asks for the node type, `gpus` for the nodes inside the cluster.

    `node` asks what of ours runs on the node that came of this claim.
    """

    look: int
    wanted: int
    is_unwanted: bool
    is_removable: bool
    room: bool
    gpus: bool
    node: str = ""


class ProjectSeen(Contract):
    """The project under our name. `is_as_wanted`: its labels are right and it allows what the claim needs."""

    is_ours: bool
    is_as_wanted: bool


class ClusterSeen(Contract):
    """The VirtualClusterInstance under our name. `quantity` is None where its parameters can't be read.

    Of `quantity`, `warm` nodes are for whoever comes next, or for replicas to come. Of one that is shared, `share` are
    the replicas of this endpoint that it is to carry (None: it has none there), `others` those of all others, and
    `sharers` how many endpoints have a share. `template` is what it is made by, as `<name>@<version>`, and
    `installation` by which one of us.
    """

    is_ours: bool
    uid: str
    generation: int
    is_deleting: bool
    phase: str
    message: str
    quantity: int | None
    refusal: str = ""
    share: int | None = None
    others: int = 0
    sharers: int = 0
    warm: int = 0
    template: str = ""
    installation: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether its API server answers and it is there to stay."""
        return self.phase == "Ready" and not self.is_deleting


class NodeSeen(Contract):
    """A NodeClaim of the cluster. `since_ms` is when it left off being joined, `drift` what it is behind in."""

    name: str
    phase: str
    message: str
    is_scheduled: bool
    is_joined: bool
    joined_at_ms: int | None
    since_ms: int | None = None
    is_deleting: bool = False
    drift: str = ""

    @property
    def is_failed(self) -> bool:
        """Whether the Platform has given it up."""
        return self.phase == "Failed"


class NodeTypeSeen(Contract):
    """A node type; `free` is None where the Platform names no limit, `gpus` of a node where it does not say.

    `cost` is what the Platform rates a node at, in its own units.
    """

    is_known: bool
    free: int | None
    gpus: int | None = None
    cost: int = 0
    provider: str = ""
    rack: str = ""
    reservation: str = ""

    @property
    def described(self) -> str:
        """Who makes it, where it stands, what it is reserved by and rated at, as far as the Platform says."""
        parts = (
            f"of {self.provider}" if self.provider else "",
            f"rack {self.rack}" if self.rack else "",
            f"reservation {self.reservation}" if self.reservation else "",
            f"cost {self.cost:,} a node" if self.cost else "",
        )
        return ", ".join(filter(None, parts))


class HandNode(Contract):
    """A node inside the tenant cluster that a person joined: no claim stands for it."""

    name: str
    uid: str


class GpuNode(Contract):
    """A tenant node that is Ready, and the GPUs that it offers."""

    name: str
    gpus: int


class MachineSeen(Contract):
    """A node inside the tenant cluster, the NodeClaim that it came of, and since when it is Ready or is not.

    `kernel` and `containerd` are the versions that it says it runs.
    """

    name: str
    claim: str
    uid: str
    is_ready: bool
    since_ms: int | None
    is_cordoned: bool = False
    kernel: str = ""
    containerd: str = ""


class Observed(Internal):
    """Everything of one claim that is on the Platform. None in `node_type` and what is inside: not asked, or no answer.

    `pods` are those of ours on the node that was asked about.

    `classes` are the node types of all of the claim's classes, in their order, while it may still have any of them.
    `by_hand` are looked for before the cluster is to go.
    """

    kind: ClassVar[str] = "internal.capacity_observed"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER

    question: Question
    project: ProjectSeen | None
    cluster: ClusterSeen | None
    nodes: tuple[NodeSeen, ...] = ()
    node_type: NodeTypeSeen | None = None
    gpu_nodes: tuple[GpuNode, ...] | None = None
    machines: tuple[MachineSeen, ...] | None = None
    pods: int | None = None
    classes: tuple[NodeTypeSeen, ...] = ()
    by_hand: tuple[HandNode, ...] = ()

    @property
    def our_cluster(self) -> ClusterSeen | None:
        """The cluster if it is there and is ours."""
        return self.cluster if self.cluster is not None and self.cluster.is_ours else None
