"""Three kinds of nodes behind one model: who makes them, what we may remove of each, and what becomes of the machine.

| kind | made by | known by | we make them more or fewer by | the machine then |
|---|---|---|---|---|
| owned metal | Metal3, BCM | NodeClaim, before a BareMetalHost | the pool's size | is wiped, and available again |
| cloud | Terraform, KubeVirt, Cluster API | NodeClaim | the pool's size | is destroyed |
| by hand | a person, with a join command | a Node inside the tenant cluster | nothing | stays its owner's |

A NodeClaim belongs to its pool, and is nobody's to delete: one that was deleted is made again. A BareMetalHost is never
ours. A node that a person joined is in no pool, so nothing counts on it; it is never taken while its cluster is wanted,
and let go before its cluster is deleted, or its kubelet would dial a control plane that is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class NodeKind(StrEnum):
    """Where a node comes from."""

    OWNED_METAL = "owned metal"
    CLOUD = "cloud"
    BY_HAND = "by hand"


class Afterwards(StrEnum):
    """What becomes of a machine that is given back."""

    AVAILABLE = "available again"
    DESTROYED = "destroyed"
    KEPT = "its owner's"


@dataclass(frozen=True, slots=True)
class Handling:
    """What we may do with nodes of a kind. By which thing they are given back, and what then becomes of the machine.

    `is_replaced`: its pool makes another for one whose Node is deleted, so that deleting it gives nothing back.
    """

    gives_back: str
    afterwards: Afterwards
    may_resize_pool: bool
    is_replaced: bool
    may_delete_claim: bool = False
    may_delete_machine: bool = False


HANDLING: Final[Mapping[NodeKind, Handling]] = MappingProxyType(
    {
        NodeKind.OWNED_METAL: Handling("pool", Afterwards.AVAILABLE, may_resize_pool=True, is_replaced=True),
        NodeKind.CLOUD: Handling("pool", Afterwards.DESTROYED, may_resize_pool=True, is_replaced=True),
        NodeKind.BY_HAND: Handling("node", Afterwards.KEPT, may_resize_pool=False, is_replaced=False),
    }
)
OWNED: Final = frozenset({"metal3", "bcm"})
RENTED: Final = frozenset({"terraform", "kubeVirt", "clusterAPI"})


def kind_of(provider: Mapping[str, object]) -> NodeKind | None:
    """The kind of nodes that a provider makes, by the one block that its spec has; None for one that is new to us."""
    blocks = {name for name, block in provider.items() if block is not None}
    if blocks & OWNED:
        return NodeKind.OWNED_METAL
    return NodeKind.CLOUD if blocks & RENTED else None


@dataclass(frozen=True, slots=True)
class TenantNode:
    """A node inside a tenant cluster; `claim` is the NodeClaim that it says it is, `node_type` its type, if any."""

    name: str
    uid: str
    claim: str = ""
    node_type: str = ""


def joined_by_hand(nodes: Iterable[TenantNode], claims: Iterable[str]) -> tuple[TenantNode, ...]:
    """Those that no NodeClaim stands for. Whatever looks like a claim's is taken for one, so that none is taken."""
    known = set(claims)
    return tuple(
        each for each in nodes if not each.claim and not each.node_type and each.name not in known
    )  # fmt: skip


class HostState(StrEnum):
    """What one of our machines can do for us now."""

    AVAILABLE = "available"
    COMING = "coming"
    IN_USE = "in use"
    BROKEN = "broken"


COMING: Final = frozenset({"registering", "inspecting", "preparing", "deprovisioning"})
USED: Final = frozenset({"provisioning", "provisioned"})
WELL: Final = frozenset({"", "OK", "discovered"})  # Operational states; others are error, delayed, detached.


@dataclass(frozen=True, slots=True)
class Host:
    """A BareMetalHost, as it tells of itself."""

    name: str
    labels: Mapping[str, str]
    provisioning: str
    operational: str
    is_on: bool

    @property
    def state(self) -> HostState:
        """What it can do. One that holds a node counts as in use, also if something is wrong with it."""
        if self.provisioning in USED:
            return HostState.IN_USE
        if self.operational not in WELL:
            return HostState.BROKEN
        if self.provisioning == "available":
            return HostState.AVAILABLE
        return HostState.COMING if self.provisioning in COMING else HostState.BROKEN


@dataclass(frozen=True, slots=True)
class Hardware:
    """Our machines behind one node type: counted, not held. Of the available ones, `off` are powered off."""

    available: int = 0
    off: int = 0
    coming: int = 0
    in_use: int = 0
    broken: int = 0
    racks: tuple[str, ...] = ()


def hardware(hosts: Iterable[Host], selector: Mapping[str, str]) -> Hardware:
    """What stands behind a node type that selects hosts by these labels."""
    mine = [each for each in hosts if all(each.labels.get(key) == value for key, value in selector.items())]
    states = Counter(each.state for each in mine)
    return Hardware(
        available=states[HostState.AVAILABLE],
        off=sum(each.state is HostState.AVAILABLE and not each.is_on for each in mine),
        coming=states[HostState.COMING],
        in_use=states[HostState.IN_USE],
        broken=states[HostState.BROKEN],
        racks=tuple(sorted({each.labels["rack"] for each in mine if each.labels.get("rack")})),
    )
