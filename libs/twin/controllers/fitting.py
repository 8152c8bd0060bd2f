"""Which node types a node claim could have, by its provider, its properties and its requirements."""

from __future__ import annotations

from libs.twin.objects import Json
from libs.twin.options import NodeTypeOption


def fits(claim: Json, option: NodeTypeOption) -> bool:
    """Whether nodes of the type are what the claim asks for."""
    spec = claim["spec"]
    if spec.get("typeRef") not in {None, "", option.name} or spec["providerRef"] != option.name.split(".")[0]:
        return False
    properties = {
        "vcluster.com/node-type": {option.name},
        "node.kubernetes.io/instance-type": {option.name},
        "region": set(option.regions),
    }
    wanted = spec.get("properties", {}).get("region")
    if wanted and wanted not in option.regions and wanted != "loft-cluster":
        return False
    return all(_requirement_holds(each, properties.get(each["key"], set())) for each in spec.get("requirements") or ())


def _requirement_holds(requirement: Json, have: set[str]) -> bool:
    values = set(requirement.get("values") or ())
    match requirement["operator"]:
        case "In":
            return bool(values & have)
        case "NotIn":
            return not values & have
        case "Exists":
            return bool(have)
        case _:
            return not have
