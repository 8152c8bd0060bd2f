"""Looks at everything of the Platform that a checkup judges; what can't be seen is said, and ends nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, TypeVar

from libs.common.errors import MillraceError
from services.capacity_manager.core.checkup import RIGHTS, Sight, TypeSight
from services.capacity_manager.core.tiers import TierSight
from services.capacity_manager.shell.platform import readings
from services.capacity_manager.shell.platform.adapter import API, MANAGEMENT, NODE_TYPES, Platform
from services.capacity_manager.shell.platform.client import PlatformClient

Json = dict[str, Any]
T = TypeVar("T")

GROUP: Final = "management.loft.sh"
REVIEWS_AT_ONCE: Final = 4  # A checkup that asks for a dozen rights in a row takes as many round trips.


def examine(client: PlatformClient, *, url: str, tiers: tuple[TierSight, ...] = ()) -> Sight:
    """What was seen; never raises for what the Platform does."""
    platform, troubles = Platform(client), dict[str, str]()
    sight = Sight(url, tiers=tiers)
    who = _tried("platform", troubles, platform.who)
    if who is None:
        return replace(sight, troubles=troubles)
    version = _tried("version", troubles, lambda: client.read("/version"))
    features = _tried("features", troubles, lambda: client.list(f"{MANAGEMENT}/features"))
    licence = _tried("licence", troubles, lambda: client.list(f"{MANAGEMENT}/licenses"))
    types = _tried("node types", troubles, lambda: client.list(NODE_TYPES))
    return replace(
        sight,
        user=who.user,
        host=who.host,
        prefix=who.prefix,
        version=str((version or {}).get("version") or "") or None,
        plan=_plan(licence or ()),
        features=None if features is None else {str(each["metadata"]["name"]): _status(each) for each in features},
        rights=_tried("rights", troubles, lambda: _rights(client)),
        node_types=None if types is None else tuple(_type(each) for each in types),
        troubles=troubles,
    )


def _tried(area: str, troubles: dict[str, str], do: Callable[[], T]) -> T | None:
    try:
        return do()
    except MillraceError as trouble:
        troubles[area] = str(trouble)
        return None


def _rights(client: PlatformClient) -> Mapping[str, bool]:
    def may(right: str) -> tuple[str, bool]:
        verb, resource = right.split()
        asked = {"group": GROUP, "verb": verb, "resource": resource}
        body: Json = {"apiVersion": API, "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": asked}}
        status = client.create(f"{MANAGEMENT}/selfsubjectaccessreviews", body).get("status") or {}
        return right, bool(status.get("allowed"))

    with ThreadPoolExecutor(REVIEWS_AT_ONCE) as pool:
        return dict(pool.map(may, RIGHTS))


def _status(feature: Json) -> str:
    return str((feature.get("status") or {}).get("status") or "")


def _plan(licences: Sequence[Json]) -> str:
    status = licences[0].get("status") or {} if licences else {}
    return str((status.get("license") or {}).get("plan") or "")


def _type(node_type: Json) -> TypeSight:
    status = node_type.get("status") or {}
    resources = (node_type.get("spec") or {}).get("resources") or {}
    total = (status.get("capacity") or {}).get("total")
    free = readings.node_type_seen(node_type).free
    return TypeSight(
        name=str(node_type["metadata"]["name"]),
        phase=str(status.get("phase") or ""),
        gpus=readings.whole(resources.get(readings.GPU)) or 0,
        total=readings.whole(total) if free is not None else None,
        free=free,
    )
