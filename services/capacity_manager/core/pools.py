"""A pool: what of a shared cluster is no single endpoint's. Its nodes' time, nodes that stand warm, and its end.

It is found on the Platform and knows nothing but that: who has a share is written there, by each endpoint's claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from libs.common.events.event import Contract, Internal, Owner
from libs.common.store.port import Attention
from libs.common.units import MINUTE_MS, SECOND_MS
from services.capacity_manager.core.observed import GpuNode, HandNode, MachineSeen, NodeSeen
from services.capacity_manager.core.state import (
    LIVE,
    NEVER_IDLE,
    RELEASED,
    Count,
    Idle,
    Machines,
    Node,
    Replacement,
    Roll,
    Sighting,
    surplus_of,
)
from services.capacity_manager.core.vnode import NO_SANDBOXES, Sandboxes
from services.capacity_manager.core.warmth import ALL_COLD, COLD, Warm

POOL: Final = "pool"


@dataclass(frozen=True, slots=True)
class PoolRules:
    """What an operator sets. `grace_ms`: so long an empty cluster stays for the next endpoint of its tier."""

    confirm_gone_ms: int = 30 * SECOND_MS
    grace_ms: int = 10 * MINUTE_MS
    warm: Mapping[str, Warm] = field(default_factory=lambda: ALL_COLD)
    sandboxes: Sandboxes = NO_SANDBOXES

    def of(self, tier: str) -> Warm:
        """What the tier keeps warm."""
        return self.warm.get(tier, COLD)


class PoolFound(Internal):
    """A shared cluster of ours stands; these are its labels and its machines."""

    kind: ClassVar[str] = "internal.pool_found"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER

    uid: str
    project: str
    cluster: str
    tenant_id: str
    project_id: str
    tier: str
    region: str
    node_type: str
    gpus_per_node: int
    node_cost: int = 0


class SharesStray(Internal):
    """These endpoints have a share in it, and no claim."""

    kind: ClassVar[str] = "internal.shares_stray"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER

    endpoint_ids: tuple[str, ...]


class PoolCluster(Contract):
    """The shared cluster. `quantity` are the nodes of its pool (None: unreadable), of which `warm` are nobody's yet.

    `template` is what it is made by, as `<name>@<version>`, and `refusal` why the Platform can't make it so.
    """

    uid: str
    is_deleting: bool
    quantity: int | None
    warm: int
    sharers: tuple[str, ...]
    is_ready: bool = True
    template: str = ""
    refusal: str = ""


class PoolSeen(Internal):
    """What the Platform holds of a pool. `free` nodes are asked for only where more are to come.

    What is inside is asked for only while a node is replaced (None: not asked, or no answer): its `machines`, how many
    `pods` of ours are on that of the claim `node`, what vNode needs; and nodes joined `by_hand` while nobody is in it.
    """

    kind: ClassVar[str] = "internal.pool_seen"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER

    look: int
    cluster: PoolCluster | None
    nodes: tuple[NodeSeen, ...] = ()
    free: int | None = None
    machines: tuple[MachineSeen, ...] | None = None
    gpu_nodes: tuple[GpuNode, ...] = ()
    node: str = ""
    pods: int | None = None
    is_licensed: bool | None = None
    has_runtime_class: bool | None = None
    by_hand: tuple[HandNode, ...] = ()


@dataclass(frozen=True, slots=True)
class Pool:
    """One shared cluster. `idle_since_ms`: nobody has a share in it since then. `needed` nodes are what shares need.

    `strays` are endpoints without a claim whose shares are to go. `drawn` are all nodes that endpoints came to need,
    and `drawn_warm` those of them that stood warm: the hit rate. `warm` nodes are to stand ready, `said` is the
    autoscaler's word on that, and `idle` how long GPUs did. `uid` is of the cluster that last stood, `template`
    what it was made by; it `is_taken` if somebody else deleted it. `replacements` and `roll` are as of claims.
    """

    id: str
    project: str = ""
    cluster: str = ""
    tenant_id: str = ""
    project_id: str = ""
    tier: str = ""
    region: str = ""
    machines: Machines | None = None
    nodes: tuple[Node, ...] = ()
    look: int = 1
    needed: int = 0
    drawn: int = 0
    drawn_warm: int = 0
    strays: tuple[str, ...] = ()
    idle_since_ms: int | None = None
    gone: Sighting | None = None
    is_released: bool = False
    warm: int = 0
    said: Count | None = None
    idle: Idle = NEVER_IDLE
    node_cost: int = 0
    uid: str = ""
    is_taken: bool = False
    template: str = ""
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
    def word(self) -> int | None:
        """The autoscaler's, if it gave one."""
        return self.said.replicas if self.said is not None else None


def attention_of(pool: Pool) -> Attention:
    """A pool is watched while anything of it may stand, and closely while one of its nodes is replaced."""
    if pool.is_released or not pool.project:
        return Attention.NONE
    is_rolling = pool.roll is not None and not pool.roll.is_queued
    return Attention.NOW if pool.replacements or is_rolling else Attention.WATCH


def scope_of(pool: Pool) -> str:
    """Where its record is listed."""
    return RELEASED if pool.is_released else LIVE
