"""What stands on the Platform under our mark and nobody wants, by the Platform's own list: which of it to collect.

Never what another owner made, never what was not nobody's for long, never many at once; and not at all where so
much seems to be nobody's that it is likelier that we forgot who wants it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Final

from libs.common.events.event import Internal, Owner
from libs.common.ids import EndpointId, ProjectId, TenantId
from libs.common.units import MINUTE_MS
from services.capacity_manager.core.names import cluster_name, project_name
from services.capacity_manager.core.state import Machines

FEW: Final = 5  # So many orphans are believed, however few clusters there are.
SHARE_MAX: Final = 10  # More than one in so many: a database was lost or set back, rather than clusters.
NOTHING_SEEN: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Standing:
    """A tenant cluster as a list tells of it; whose it is, by its labels."""

    endpoint_id: EndpointId
    tenant_id: TenantId
    project_id: ProjectId
    installation: str
    project: str
    name: str
    uid: str
    created_at_ms: int
    is_deleting: bool


@dataclass(frozen=True, slots=True)
class PoolStanding:
    """A shared cluster as a list tells of it, and who has a share in it."""

    id: str
    project: str
    name: str
    uid: str
    tenant_id: TenantId
    project_id: ProjectId
    installation: str
    is_deleting: bool
    sharers: tuple[EndpointId, ...]
    mark: str


@dataclass(frozen=True, slots=True)
class Survey:
    """The Platform at a glance: the clusters that stand, and for each endpoint a mark that changes with its things."""

    standing: tuple[Standing, ...]
    marks: Mapping[str, str]
    pools: tuple[PoolStanding, ...] = ()


@dataclass(frozen=True, slots=True)
class Caution:
    """What an operator sets.

    The grace counts from when this process first saw it to be nobody's: after a database was set back, and after any
    start, whoever wants it has so long to say so again.
    """

    installation: str = "millrace"
    per_pass_max: int = 3
    grace_ms: int = 15 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Orphans:
    """What to collect now; since when each was seen to be nobody's, by uid; and why all of it is left, if it is."""

    collect: tuple[Standing, ...] = ()
    since_ms: Mapping[str, int] = field(default_factory=dict)
    held_back: str = ""


@dataclass(frozen=True, slots=True)
class Strays:
    """Shares to drop now, by pool; since when each was seen to be nobody's; and why all are left, if they are."""

    drop: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    since_ms: Mapping[str, int] = field(default_factory=dict)
    held_back: str = ""


class Found(Internal):
    """A cluster of ours stands that nobody wants; these are its machines."""

    kind: ClassVar[str] = "internal.cluster_found"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER

    tenant_id: str
    project_id: str
    uid: str
    node_type: str
    gpus_per_node: int

    @property
    def machines(self) -> Machines:
        """Its machines."""
        return Machines(self.node_type, self.gpus_per_node)


def orphans(
    standing: Collection[Standing],
    followed: Collection[str],
    since_ms: Mapping[str, int],
    caution: Caution,
    now_ms: int,
) -> Orphans:
    """The oldest of what is nobody's. ``followed`` are the endpoints whose claims are not released."""
    strays = [each for each in standing if is_stray(each, followed, caution)]
    seen = {each.uid: since_ms.get(each.uid, now_ms) for each in strays}
    if (why := _too_many(len(strays), len(standing), "clusters")) is not None:
        return Orphans(since_ms=seen, held_back=why)
    ripe = [each for each in strays if now_ms >= max(each.created_at_ms, seen[each.uid]) + caution.grace_ms]
    return Orphans(tuple(_oldest(ripe)[: caution.per_pass_max]), seen)


def stray_shares(
    pools: Collection[PoolStanding],
    followed: Collection[str],
    since_ms: Mapping[str, int],
    caution: Caution,
    now_ms: int,
) -> Strays:
    """The shares in clusters of ours whose endpoints have no claim, once that was so for all of the grace."""
    ours = [each for each in pools if each.installation == caution.installation and not each.is_deleting]
    found = [(each.id, share) for each in ours for share in each.sharers if share not in followed]
    seen = {f"{pool}/{share}": since_ms.get(f"{pool}/{share}", now_ms) for pool, share in found}
    if (why := _too_many(len(found), sum(len(each.sharers) for each in ours), "shares")) is not None:
        return Strays(since_ms=seen, held_back=why)
    ripe = [(pool, share) for pool, share in found if now_ms >= seen[f"{pool}/{share}"] + caution.grace_ms]
    drop: dict[str, tuple[str, ...]] = {}
    for pool, share in sorted(ripe)[: caution.per_pass_max]:
        drop[pool] = (*drop.get(pool, ()), share)
    return Strays(drop, seen)


def _too_many(strays: int, of: int, what: str) -> str | None:
    """Why none is believed to be nobody's, if so many seem to be."""
    if strays <= max(FEW, of // SHARE_MAX):
        return None
    return (
        f"{strays} of {of} {what} seem to be nobody's: none is collected; "
        "look whether this is the right database, and whether it is whole"
    )


def is_stray(each: Standing, followed: Collection[str], caution: Caution) -> bool:
    """Whether it is by all signs of our own making, and its endpoint has no claim that holds anything."""
    is_ours = (
        each.installation == caution.installation
        and each.name == cluster_name(each.endpoint_id)
        and each.project == project_name(tenant_id=each.tenant_id, project_id=each.project_id)
    )
    return is_ours and not each.is_deleting and each.endpoint_id not in followed


def _oldest(found: Iterable[Standing]) -> list[Standing]:
    return sorted(found, key=lambda each: (each.created_at_ms, each.uid))
