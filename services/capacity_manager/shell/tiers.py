"""Reads of the tier catalogue what capacity depends on, with the line of each tier, so that a complaint can name it.

endpoint-api reads the same file for what is sold, and refuses what contradicts itself. Here it is held against the
Platform: whether the node types that it names exist, and whether the licence has what its tenancy needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from libs.common.errors import Invalid
from services.capacity_manager.core.checkup import TierSight
from services.capacity_manager.core.pools import COLD, Warm
from services.capacity_manager.core.tenancy import SHARED

FILE: Final = "tiers.yaml"
BYTES_MAX: Final = 1 << 20  # As endpoint-api has it.


def read_tiers(directory: Path) -> tuple[TierSight, ...]:
    """The tiers in the order of the file. Raises Invalid, naming file and line, for what can't be read as tiers."""
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
    return tuple(_tier(path, line, each) for line, each in zip(_lines(root), listed, strict=True))


def _lines(root: Any) -> list[int]:  # noqa: ANN401  # A YAML node has no better type.
    tiers = next(value for key, value in root.value if key.value == "tiers")
    return [each.start_mark.line + 1 for each in tiers.value]


def _tier(path: Path, line: int, entry: object) -> TierSight:
    place = f"{path.name}:{line}"  # Its directory is known: it was named to us.
    if not isinstance(entry, dict):
        raise Invalid(f"{place}: a tier is a mapping")
    for key in ("name", "tenancy", "node_type"):
        if not isinstance(entry.get(key), str):
            raise Invalid(f"{place}: a tier needs {key}")
    others = entry.get("fallbacks") or ()
    if not all(isinstance(each, dict) and isinstance(each.get("node_type"), str) for each in others):
        raise Invalid(f"{place}: a fallback needs node_type")
    return TierSight(
        name=entry["name"],
        tenancy=entry["tenancy"],
        node_types=(entry["node_type"], *(each["node_type"] for each in others)),
        licences=tuple(map(str, entry.get("licences") or ())),
        place=place,
        warm=_warm(place, entry),
    )


def _warm(place: str, entry: dict[str, Any]) -> Warm:
    wanted = entry.get("warm")
    if wanted is None:
        return COLD
    nodes, floor = (wanted.get("nodes"), wanted.get("floor", 0)) if isinstance(wanted, dict) else (None, None)
    if not isinstance(nodes, int) or not isinstance(floor, int) or not 0 <= floor <= nodes:
        raise Invalid(f"{place}: warm needs nodes, and a floor that is not above them")
    if entry["tenancy"] not in SHARED:
        raise Invalid(f"{place}: warm nodes need a cluster that endpoints share; change tenancy, or leave warm out")
    return Warm(nodes, floor)
