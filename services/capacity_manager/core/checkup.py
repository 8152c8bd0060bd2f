"""What a look at the Platform means for us: what is well, what is missing, and what each missing thing turns off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from services.capacity_manager.core.reasons import Reason
from services.capacity_manager.core.tiers import TierClass, TierSight

VERSION_MIN: Final = (4, 8)  # The first whose node types, claims and environments are as we read them.
GOOD: Final = frozenset({"active", "preview", "included"})  # Words of the Platform for a feature that may be used.


class Health(StrEnum):
    """How a thing is. Only BROKEN makes the whole unhealthy."""

    FINE = "fine"
    LACKING = "lacking"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `means` says what does not work without it, and what to do; empty if it is fine."""

    area: str
    name: str
    health: Health
    said: str
    means: str = ""


@dataclass(frozen=True, slots=True)
class TypeSight:
    """A node type; `free` is None where the Platform names no limit."""

    name: str
    phase: str
    gpus: int
    total: int | None
    free: int | None


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen. None: it could not be seen, and `troubles` says why, by area."""

    url: str
    user: str | None = None
    host: str = ""
    prefix: str = ""
    version: str | None = None
    plan: str = ""
    features: Mapping[str, str] | None = None
    rights: Mapping[str, bool] | None = None
    node_types: tuple[TypeSight, ...] | None = None
    tiers: tuple[TierSight, ...] = ()
    troubles: Mapping[str, str] = field(default_factory=dict)


# Feature -> whether nothing works without it, and what does not.
FEATURES: Final[Mapping[str, tuple[bool, str]]] = MappingProxyType(
    {
        "vclusters": (True, "no tenant cluster can be made; no endpoint can be created"),
        "vcp-distro-private-nodes": (True, "no node can join a tenant cluster; no endpoint gets a GPU"),
        "private-nodes-auto-nodes": (True, "pools of nodes stay empty; nodes would have to be joined by hand"),
        "template-versioning": (False, "templates roll at once for every cluster; none can be pinned"),
        "project-quotas": (False, "the Platform holds no second limit per project; our own GPU quotas still hold"),
        "vcp-distro-embedded-etcd": (False, "a tenant cluster's control plane is not highly available"),
        "private-nodes-vpn": (False, "nodes must reach a tenant cluster's control plane over a load balancer"),
        "scheduled-snapshots": (False, "tenant clusters are not snapshotted on a schedule"),
        "metal3": (False, "bare-metal node types stay unavailable"),
        "vnode-runtime": (False, "tiers with tenancy vnode can't be served"),
    }
)

RIGHTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "get projects": "whether a tenant's project exists can't be seen",
        "create projects": "a new tenant's project can't be made",
        "patch projects": "a project can't be told to allow another node type or template",
        "get virtualclusterinstances": "how a tenant cluster is can't be seen",
        "create virtualclusterinstances": "no tenant cluster can be made",
        "patch virtualclusterinstances": "a cluster's nodes can't become more or fewer",
        "delete virtualclusterinstances": "nothing is ever given back, and it costs money",
        "list nodeclaims": "which nodes are held can't be seen; nothing is metered or released",
        "get nodetypes": "free capacity can't be seen",
        "list nodetypes": "free capacity can't be shown here",
        "get virtualclustertemplates": "our cluster templates can't be published; an operator must do it",
        "create virtualclustertemplates": "our cluster templates can't be published; an operator must do it",
        "patch virtualclustertemplates": "new versions of them can't be published; an operator must do it",
    }
)
BY_OPERATOR: Final = frozenset(
    {"get virtualclustertemplates", "create virtualclustertemplates", "patch virtualclustertemplates", "list nodetypes"}
)


def checkup(sight: Sight) -> tuple[Finding, ...]:
    """Everything looked at, in the order in which to read it; without access, nothing else can be judged."""
    if "platform" in sight.troubles:
        return tuple(_platform(sight))
    return (
        *_platform(sight),
        *_features(sight),
        *_rights(sight),
        *_node_types(sight),
        *_tiers(sight),
    )


def is_healthy(findings: tuple[Finding, ...]) -> bool:
    """Whether endpoints can be created, served and given back."""
    return all(each.health is not Health.BROKEN for each in findings)


def _platform(sight: Sight) -> Iterator[Finding]:
    trouble = sight.troubles.get("platform")
    if trouble is not None:
        yield Finding("platform", "access", Health.BROKEN, trouble, f"nothing can be done on {sight.url}")
        return
    yield Finding("platform", "access", Health.FINE, f"{sight.user or 'unknown user'} at {sight.host or sight.url}")
    yield Finding("platform", "namespaces", Health.FINE, f"projects live in {sight.prefix}<project>")
    version = _version(sight.version or "")
    if version is None:
        said = sight.troubles.get("version", sight.version or "not told")
        yield Finding("platform", "version", Health.LACKING, said, "whether its API is as we read it can't be said")
    elif version < VERSION_MIN:
        least = ".".join(map(str, VERSION_MIN))
        yield Finding("platform", "version", Health.BROKEN, str(sight.version), f"older than {least}: upgrade it")
    else:
        yield Finding("platform", "version", Health.FINE, f"{sight.version}, plan {sight.plan or 'not told'}")


def _features(sight: Sight) -> Iterator[Finding]:
    if sight.features is None:
        if "features" in sight.troubles:
            said = sight.troubles["features"]
            yield Finding("licence", "features", Health.LACKING, said, "what the licence lacks shows only as refusals")
        return
    for name, (is_needed, means) in FEATURES.items():
        if sight.features.get(name, "") in GOOD:
            yield Finding("licence", name, Health.FINE, "licensed")
        else:
            health = Health.BROKEN if is_needed else Health.LACKING
            told = "not licensed" if name in sight.features else "unknown to this Platform"
            yield Finding("licence", name, health, told, means)


def _rights(sight: Sight) -> Iterator[Finding]:
    if sight.rights is None:
        if "rights" in sight.troubles:
            said = sight.troubles["rights"]
            yield Finding("rights", "of our key", Health.LACKING, said, "what our key may not do shows as refusals")
        return
    missing = [name for name in RIGHTS if not sight.rights.get(name, False)]
    if not missing:
        yield Finding("rights", "of our key", Health.FINE, f"all {len(RIGHTS)} that are needed")
    for name in missing:
        health = Health.LACKING if name in BY_OPERATOR else Health.BROKEN
        yield Finding("rights", name, health, "refused", RIGHTS[name])


def _node_types(sight: Sight) -> Iterator[Finding]:
    if sight.node_types is None:
        if "node types" in sight.troubles:
            said = sight.troubles["node types"]
            yield Finding("capacity", "node types", Health.BROKEN, said, "free capacity can't be seen")
        return
    if not any(each.gpus for each in sight.node_types):
        yield Finding("capacity", "node types", Health.BROKEN, "none has GPUs", "no endpoint can be served")
    for each in sorted(sight.node_types, key=lambda one: one.name):
        told = "no limit told" if each.free is None else f"{each.free} of {each.total} free"
        said = f"{told}, {each.gpus} {'GPU' if each.gpus == 1 else 'GPUs'} each"
        if each.phase not in ("", "Available"):
            yield Finding("capacity", each.name, Health.LACKING, f"{each.phase}; {said}", "its tiers wait for nodes")
        elif each.free is not None and each.free <= 0:
            yield Finding("capacity", each.name, Health.LACKING, said, "new endpoints of its tiers wait for a node")
        else:
            yield Finding("capacity", each.name, Health.FINE, said)


def _tiers(sight: Sight) -> Iterator[Finding]:
    for tier in sight.tiers:
        lacking = [each for each in (*tier.licences, *NEEDED.get(tier.tenancy, ())) if not _has(sight, each)]
        wrong = [told for each in tier.classes if (told := _mismatch(sight, each)) is not None]
        if wrong:
            is_left = len(wrong) < len(tier.classes)
            means = "; ".join(means for _, means in wrong) + (
                "; until then its other classes serve" if is_left else "; until then each new endpoint of it is refused"
            )
            health = Health.LACKING if is_left else Health.BROKEN
            yield Finding("tier", tier.name, health, "; ".join(said for said, _ in wrong), means)
        elif lacking:
            said = f"{tier.place} licences: needs {', '.join(dict.fromkeys(lacking))}"
            yield Finding("tier", tier.name, Health.LACKING, said, "it can't be served; stop selling it, or license it")
        else:
            yield Finding("tier", tier.name, Health.FINE, f"{tier.tenancy} on {', '.join(tier.node_types)}")


def _mismatch(sight: Sight, each: TierClass) -> tuple[str, str] | None:
    """The field in which a class and the Platform's node types differ, and what to do; None if they fit."""
    if sight.node_types is None:
        return None
    known = {one.name: one for one in sight.node_types}
    if each.node_type not in known:
        there = ", ".join(sorted(known)) or "none"
        reason = Reason.NODE_TYPE_UNKNOWN
        return (
            f"{each.place} node_type: the Platform has no {each.node_type}",
            f"{reason}: add it to a node provider, or name one of {there}",
        )
    gpus = known[each.node_type].gpus
    if gpus < each.gpus:
        return (
            f"{each.place} gpus_per_node: {each.gpus}, but a {each.node_type} has {gpus}",
            f"{Reason.NODE_TYPE_MISMATCH}: write {gpus}, or name a larger node type",
        )
    return None


NEEDED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({"vnode": ("vnode-runtime",)})


def _has(sight: Sight, feature: str) -> bool:
    return sight.features is None or sight.features.get(feature, "") in GOOD


def _version(text: str) -> tuple[int, int] | None:
    parts = text.lstrip("v").split(".")
    if len(parts) < 2 or not parts[0].isdigit() or not parts[1].isdigit():
        return None
    return int(parts[0]), int(parts[1])
