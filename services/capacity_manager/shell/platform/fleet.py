"""What there is to place endpoints on: node types, who makes them, and our own machines behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from libs.common.errors import MillraceError
from services.capacity_manager.core.holdings import NodeClass
from services.capacity_manager.core.node_kinds import Hardware, Host, NodeKind, hardware, kind_of
from services.capacity_manager.shell.platform import labels, readings
from services.capacity_manager.shell.platform.client import PlatformClient

Json = dict[str, Any]

GROUP: Final = "/kubernetes/management/apis/management.loft.sh/v1"
HOSTS: Final = "/kubernetes/cluster/{cluster}/apis/metal3.io/v1alpha1/namespaces/{namespace}/baremetalhosts"
ZONE: Final = "topology.kubernetes.io/zone"
ANYWHERE: Final = "global"  # What the Platform writes where nobody named a zone.


def read_fleet(client: PlatformClient) -> tuple[NodeClass, ...]:
    """Every node type, by name. Raises Unavailable; who makes them, and the machines, only where that may be seen."""
    types = client.list(f"{GROUP}/nodetypes")
    makers = _seen(client, f"{GROUP}/nodeproviders")
    providers = {str(each["metadata"]["name"]): each.get("spec") or {} for each in makers}
    metal = {name: _hardware(client, spec) for name, spec in providers.items()}
    found = []
    for each in types:
        provider = str((each.get("spec") or {}).get("providerRef") or "")
        kind = kind_of(providers[provider]) if provider in providers else None
        found.append(_class(each, provider, kind, metal.get(provider, {})))
    return tuple(sorted(found, key=lambda one: one.name))


def host_of(thing: Json) -> Host:
    """A BareMetalHost."""
    status = thing.get("status") or {}
    return Host(
        name=str(thing["metadata"]["name"]),
        labels=labels.of(thing),
        provisioning=str((status.get("provisioning") or {}).get("state") or ""),
        operational=str(status.get("operationalStatus") or ""),
        is_on=bool(status.get("poweredOn")),
    )


def _class(node_type: Json, provider: str, kind: NodeKind | None, metal: Mapping[str, Hardware]) -> NodeClass:
    name = str(node_type["metadata"]["name"])
    about = readings.properties_of(node_type)
    zone = str(about.get(ZONE) or "")
    return NodeClass(
        name=name,
        gpus=readings.gpus_of(node_type),
        free=readings.node_type_seen(node_type).free,
        cost=readings.cost_of(node_type),
        provider=provider,
        kind=kind,
        rack=str(about.get(readings.RACK) or ""),
        reservation=str(about.get(readings.RESERVATION) or ""),
        zone="" if zone == ANYWHERE else zone,
        hardware=metal.get(name.partition(".")[2]),
    )


def _hardware(client: PlatformClient, spec: Json) -> Mapping[str, Hardware]:
    """Our machines behind each node type of a provider, by its short name; none of a provider that has no hosts."""
    metal = spec.get("metal3") or {}
    where = metal.get("clusterRef") or {}
    if not where:
        return {}
    hosts = [host_of(each) for each in _seen(client, HOSTS.format(**where))]
    return {str(each["name"]): hardware(hosts, _selector(each)) for each in metal.get("nodeTypes") or () if hosts}


def _selector(entry: Json) -> Mapping[str, str]:
    chosen = (entry.get("bareMetalHosts") or {}).get("selector") or {}
    return chosen.get("matchLabels") or {}


def _seen(client: PlatformClient, path: str) -> tuple[Json, ...]:
    """What is listed there; nothing where our key may not look, or where there is no such thing."""
    try:
        return client.list(path)
    except MillraceError:
        return ()
