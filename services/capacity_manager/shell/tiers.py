"""Reads of the tier catalogue what capacity depends on, with the line of each tier, so that a complaint can name it.

endpoint-api reads the same file for what is sold. Here what contradicts itself, or the cluster templates beside it, is
refused as well: it would be noticed only once machines are claimed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from libs.common.errors import Invalid
from services.capacity_manager.core.cluster_template import Recipe
from services.capacity_manager.core.tiers import NO_RECIPES, TierClass, TierSight, contradictions
from services.capacity_manager.core.warmth import COLD, Warm

FILE: Final = "tiers.yaml"
BYTES_MAX: Final = 1 << 20  # As endpoint-api has it.


def read_tiers(directory: Path, recipes: Sequence[Recipe] = NO_RECIPES) -> tuple[TierSight, ...]:
    """The tiers in the order of the file. Raises Invalid, naming file, line and field, for what can't be true."""
    path = directory / FILE
    try:
        with path.open("rb") as file:
            text = file.read(BYTES_MAX + 1)
    except OSError as missing:
        raise Invalid(f"catalogue {path}: {missing.strerror}; set MILLRACE_CATALOGUE_DIR") from missing
    if len(text) > BYTES_MAX:
        raise Invalid(f"catalogue {path}: larger than {BYTES_MAX} bytes")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        entries = yaml.safe_load(text)
    except yaml.YAMLError as malformed:
        raise Invalid(f"catalogue {path}: {' '.join(str(malformed).split())}") from None
    listed = entries.get("tiers") if isinstance(entries, dict) else None
    if not isinstance(listed, list):
        raise Invalid(f"{path}:1: no list of tiers")
    tiers = tuple(_tier(f"{path.name}:{line}", each) for line, each in zip(_lines(root), listed, strict=True))
    wrong = "; ".join(contradictions(tiers, recipes))
    if wrong:
        raise Invalid(wrong)
    return tiers


def _lines(root: Any) -> list[int]:  # noqa: ANN401  # A YAML node has no better type.
    tiers = next(value for key, value in root.value if key.value == "tiers")
    return [each.start_mark.line + 1 for each in tiers.value]


def _tier(place: str, entry: object) -> TierSight:
    if not isinstance(entry, dict):
        raise Invalid(f"{place}: a tier is a mapping")
    for key in ("name", "tenancy", "node_type", "cluster_template"):
        if not isinstance(entry.get(key), str):
            raise Invalid(f"{place}: a tier needs {key}")
    others = entry.get("fallbacks") or ()
    if not all(isinstance(each, dict) and isinstance(each.get("node_type"), str) for each in others):
        raise Invalid(f"{place}: a fallback needs node_type")
    return TierSight(
        name=entry["name"],
        tenancy=entry["tenancy"],
        classes=(
            _class(place, entry),
            *(_class(f"{place} fallbacks.{number}", each) for number, each in enumerate(others)),
        ),
        licences=tuple(map(str, entry.get("licences") or ())),
        place=place,
        gpus_per_replica=_count(place, entry, "gpus_per_replica"),
        replicas_max=_count(place, entry, "replicas_max"),
        warm=_warm(place, entry.get("warm")),
    )


def _class(place: str, entry: Mapping[str, Any]) -> TierClass:
    return TierClass(
        node_type=entry["node_type"],
        gpus=_count(place, entry, "gpus_per_node"),
        template=str(entry.get("cluster_template") or ""),
        place=place,
        region=str(entry.get("region") or ""),
    )


def _count(place: str, entry: Mapping[str, Any], key: str) -> int:
    found = entry.get(key)
    if not isinstance(found, int) or found < 1:
        raise Invalid(f"{place} {key}: {found!r} is no count; write a whole number from 1")
    return found


def _warm(place: str, wanted: object) -> Warm:
    if wanted is None:
        return COLD
    found = dict(wanted) if isinstance(wanted, dict) else {}
    nodes, floor, most = (found.get(key, default) for key, default in (("nodes", -1), ("floor", 0), ("most", 0)))
    if not all(isinstance(each, int) for each in (nodes, floor, most)) or not 0 <= floor <= nodes:
        raise Invalid(f"{place} warm: needs nodes, and a floor that is not above them")
    if most and most < nodes:
        raise Invalid(f"{place} warm.most: {most} is below nodes, which is {nodes}; raise it, or leave it out")
    return Warm(nodes, floor, most)
