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
from services.capacity_manager.core.observed import NodeSeen
from services.capacity_manager.core.state import (
    LIVE,
    NEVER_IDLE,
    RELEASED,
    Count,
    Idle,
    Machines,
    Node,
    Sighting,
)
from services.capacity_manager.core.warmth import ALL_COLD, COLD, Warm

POOL: Final = "pool"


@dataclass(frozen=True, slots=True)
class PoolRules:
    """What an operator sets. `grace_ms`: so long an empty cluster stays for the next endpoint of its tier."""

    confirm_gone_ms: int = 30 * SECOND_MS
    grace_ms: int = 10 * MINUTE_MS
    warm: Mapping[str, Warm] = field(default_factory=lambda: ALL_COLD)

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
    """The shared cluster. `quantity` are the nodes of its pool (None: unreadable), of which `warm` are nobody's yet."""

    uid: str
    is_deleting: bool
    quantity: int | None
    warm: int
    sharers: tuple[str, ...]


class PoolSeen(Internal):
    """What the Platform holds of a pool. `free` nodes are asked for only where it is to have more warm ones."""

    kind: ClassVar[str] = "internal.pool_seen"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER

    look: int
    cluster: PoolCluster | None
    nodes: tuple[NodeSeen, ...] = ()
    free: int | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """One shared cluster. `idle_since_ms`: nobody has a share in it since then. `needed` nodes are what shares need.

    `strays` are endpoints without a claim whose shares are to go. `drawn` are all nodes that endpoints came to need,
    and `drawn_warm` those of them that stood warm: the hit rate. `warm` nodes are to stand ready, `said` is the
    autoscaler's word on that, and `idle` how long GPUs did.
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

    @property
    def word(self) -> int | None:
        """The autoscaler's, if it gave one."""
        return self.said.replicas if self.said is not None else None


def attention_of(pool: Pool) -> Attention:
    """A pool is watched while anything of it may stand."""
    return Attention.NONE if pool.is_released or not pool.project else Attention.WATCH


def scope_of(pool: Pool) -> str:
    """Where its record is listed."""
    return RELEASED if pool.is_released else LIVE
