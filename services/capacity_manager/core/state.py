"""What capacity-manager knows of one endpoint's claim: all of it heard or seen; wishes are computed from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from libs.common.desire import ends_of, generation_of, is_ended
from libs.common.events.endpoint import EndpointSpec, NodeChoice, Placement
from libs.common.events.facts import Fact, Facts
from libs.common.ids import EndpointId, ProjectId, TenantId

CLAIM: Final = "claim"  # What a claim is called where it is kept, and the scopes of those that hold and that do not.
LIVE: Final = "live"
RELEASED: Final = "released"
NO_TENANT: Final = TenantId("")
NO_PROJECT: Final = ProjectId("")
NOTHING_HEARD: Final = Facts()


@dataclass(frozen=True, slots=True)
class Sighting:
    """The first of two reads that say the same: when, in which look, and the most nodes that were seen since."""

    since_ms: int
    look: int
    nodes: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A NodeClaim of ours. Its time runs from `joined_at_ms` until it was first seen gone, once that is confirmed.

    `use` is what it was told to be held for, where that was told. `is_met`: it was seen Ready inside its cluster.
    `silent`: since when it does not answer there, as far as was seen; `lost_at_ms`: the same, once that was told.
    `is_unasked`: it went missing while it was wanted.
    """

    name: str
    joined_at_ms: int | None = None
    is_told: bool = False
    missing: Sighting | None = None
    released_at_ms: int | None = None
    use: str = ""
    is_met: bool = False
    silent: Sighting | None = None
    lost_at_ms: int | None = None
    is_drifted: bool = False
    is_unasked: bool = False


@dataclass(frozen=True, slots=True)
class Idle:
    """GPU-milliseconds that stood warm until `since_ms`, and the GPUs that do since then."""

    gpu_ms: int = 0
    gpus: int = 0
    since_ms: int = 0


NEVER_IDLE: Final = Idle()


@dataclass(frozen=True, slots=True)
class Count:
    """A number of replicas as its owner last said it, and of which generation."""

    replicas: int
    sequence: int
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """GPU quota that this claim holds in the tenant's counter."""

    node_type: str
    nodes: int
    gpus_per_node: int
    since_ms: int

    @property
    def gpus(self) -> int:
        """GPUs of the tenant's quota that are taken."""
        return self.nodes * self.gpus_per_node


@dataclass(frozen=True, slots=True)
class Machines:
    """What nodes of a cluster are."""

    node_type: str
    gpus_per_node: int


class Step(StrEnum):
    """How far the replacement of a node is."""

    PREPARING = "preparing"  # It is not decided, or not there yet, what takes its place.
    DRAINING = "draining"  # What runs on it moves.
    RETIRING = "retiring"  # Nothing runs on it; it goes.


@dataclass(frozen=True, slots=True)
class Replacement:
    """A node that is to go for a reason. `surges`: whether another one comes first; None while that is not known.

    Of a cluster that is shared, `moving` are the endpoints that were told that it drains.
    """

    node: str
    reason: str
    actor: str
    since_ms: int
    step: Step = Step.PREPARING
    surges: bool | None = None
    due_ms: int = 0
    is_late: bool = False
    moving: tuple[str, ...] = ()


def surplus_of(replacements: tuple[Replacement, ...]) -> int:
    """Nodes beyond those that are wanted, while one takes the place of another."""
    job = replacements[0] if replacements else None
    return int(job is not None and bool(job.surges) and job.step is not Step.RETIRING)


@dataclass(frozen=True, slots=True)
class Roll:
    """A version of its template that a cluster is to have, and its nodes with it.

    `is_written`: it was seen on the cluster; `is_queued`: at a later look it was not refused, and the nodes follow.
    """

    template: str
    reason: str
    actor: str
    is_written: bool = False
    is_queued: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """One endpoint's claim on capacity.

    `look` numbers the looks at the Platform; it is raised when another one is due. `life` is the generation
    that the present life began with: the first request, or the one after a pause or failure. `told` are the facts told
    in this life; `waiting` is the reason told last; `released_for` is the generation for which all is given back.
    `found` are the machines of a cluster that stood on the Platform while nobody had asked for its endpoint.
    `classes` are those of the tier in their order, `passed_over` why it did not get the ones before its own.
    `warm` nodes of its cluster stand ready for replicas to come, `warm_wanted` are to, `warm_said` is the autoscaler's
    word on that. `drawn` and `drawn_warm` are as a pool's. `chosen` says what its nodes are: provider, rack, cost.
    `sized` is the size of its pool that was seen as wanted. `replacements` are nodes to replace, one after another.
    `roll` is the template version that its cluster is to have, once an operator said so.
    """

    id: EndpointId
    tenant_id: TenantId = NO_TENANT
    project_id: ProjectId = NO_PROJECT
    facts: Facts = NOTHING_HEARD
    spec: EndpointSpec | None = None
    placement: Placement | None = None
    planned: Count | None = None
    running: Count | None = None
    reservation: Reservation | None = None
    nodes: tuple[Node, ...] = ()
    life: int = 0
    told: tuple[Fact, ...] = ()
    waiting: str = ""
    look: int = 1
    shrunk: Sighting | None = None
    gone: Sighting | None = None
    quota_retry_at_ms: int | None = None
    released_for: int | None = None
    found: Machines | None = None
    classes: tuple[NodeChoice, ...] = ()
    passed_over: tuple[str, ...] = ()
    warm: int = 0
    warm_wanted: int = 0
    warm_said: Count | None = None
    drawn: int = 0
    drawn_warm: int = 0
    idle: Idle = NEVER_IDLE
    node_cost: int = 0
    chosen: str = ""
    sized: int | None = None
    replacements: tuple[Replacement, ...] = ()
    roll: Roll | None = None

    @property
    def replacement(self) -> Replacement | None:
        """The one that is under way: the first."""
        return self.replacements[0] if self.replacements else None

    @property
    def surplus(self) -> int:
        """Nodes beyond those that are wanted, while one takes the place of another."""
        return surplus_of(self.replacements)

    @property
    def region(self) -> str:
        """Where its nodes are."""
        placed = self.placement.region if self.placement else ""
        return placed or (self.spec.region if self.spec else "")

    @property
    def generation(self) -> int:
        """The newest generation that endpoint-api spoke of."""
        return generation_of(self.facts)

    @property
    def is_unwanted(self) -> bool:
        """Whether a delete, a pause or a failure is at least as new as the request, or nobody ever asked."""
        return is_ended(self.facts) or self.is_orphan

    @property
    def is_orphan(self) -> bool:
        """Whether it stands for a cluster of which nobody ever told us."""
        return self.found is not None and self.generation == 0

    @property
    def machines(self) -> Machines | None:
        """What its nodes are, as far as it is known."""
        if self.placement is not None:
            return Machines(self.placement.node_type, self.placement.gpus_per_node)
        return self.found

    @property
    def is_removable(self) -> bool:
        """Whether the tenant cluster may go: unwanted, and nothing of the endpoint runs in it any more."""
        if self.is_orphan:
            return True
        requested, removed = self.facts.of(Fact.REQUESTED), self.facts.of(Fact.RUNTIME_REMOVED)
        asked = requested.generation if requested is not None else 0
        return self.is_unwanted and removed is not None and removed.generation >= asked

    @property
    def is_released(self) -> bool:
        """Whether everything is confirmed gone and that was told for this generation."""
        return self.is_unwanted and self.released_for == self.generation

    @property
    def is_failed(self) -> bool:
        """Whether we said that no waiting will help."""
        return Fact.CAPACITY_FAILED in self.told

    @property
    def unwanted_since_ms(self) -> int | None:
        """When the first delete, pause or failure was told; None while wanted."""
        return min((each.at_ms for each in ends_of(self.facts)), default=None)
