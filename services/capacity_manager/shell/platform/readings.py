"""The Platform's objects, read: JSON in, what was seen out. Go writes empty things as null; so null is empty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import yaml

from services.capacity_manager.core.node_kinds import TenantNode
from services.capacity_manager.core.observed import (
    ClusterSeen,
    GpuNode,
    MachineSeen,
    NodeSeen,
    NodeTypeSeen,
    ProjectSeen,
)
from services.capacity_manager.core.pools import PoolCluster
from services.capacity_manager.core.reasons import Reason
from services.capacity_manager.shell.platform import labels, shares

Json = dict[str, Any]

GPU: Final = "nvidia.com/gpu"
QUANTITY: Final = "gpuQuantity"  # The variable of our cluster templates that sizes the static pool.
NODE_TYPE: Final = "nodeType"
OF_CLAIM: Final = "vcluster.com/nodeclaim"  # Where a node says which claim it came of.
RACK: Final = "rack"  # Properties that an operator gives a node type; the names are ours, as labels of hosts are.
RESERVATION: Final = "reservation"

# Reasons of TemplateResolved=False (platform.md 2.3): errors of configuration, before the first deploy.
TEMPLATE_REFUSALS: Final = {
    "TemplateNotFound": Reason.TEMPLATE_UNKNOWN,
    "VersionNotFound": Reason.TEMPLATE_UNKNOWN,
    "VersionError": Reason.TEMPLATE_INVALID,
    "ErrorSyncingParameters": Reason.TEMPLATE_INVALID,
    "ErrorRenderingTemplate": Reason.TEMPLATE_INVALID,
    "ErrorModifyingTemplate": Reason.TEMPLATE_INVALID,
}


def project_seen(project: Json, *, wanted: labels.Labels, allowed: labels.Allowed) -> ProjectSeen:
    """A project, and whether it is ours and as wanted."""
    theirs = labels.of(project)
    is_ours = all(theirs.get(key) == value for key, value in wanted.items())
    return ProjectSeen(is_ours=is_ours, is_as_wanted=is_ours and not labels.widened(project, allowed))


def cluster_seen(instance: Json, *, wanted: labels.Labels, sharer: str = "") -> ClusterSeen:
    """A VirtualClusterInstance. It has no status subresource; phase, reason and message say how it is.

    Of a shared one, ``sharer`` is the endpoint whose share is looked for.
    """
    shared = shares.of(instance) if sharer else {}
    mine = shared.get(sharer)
    theirs, status = labels.of(instance), instance.get("status") or {}
    resolved, refusal = _condition(status, "TemplateResolved"), _refusal(status)
    said = (resolved or {}).get("message") if refusal in TEMPLATE_REFUSALS.values() else None
    return ClusterSeen(
        is_ours=all(theirs.get(key) == value for key, value in wanted.items()),
        uid=str(instance["metadata"].get("uid", "")),
        generation=(mine.generation if mine else 0) if sharer else generation_of(instance),
        is_deleting=bool(instance["metadata"].get("deletionTimestamp")),
        phase=str(status.get("phase") or "Pending"),
        message=str(said or status.get("message") or status.get("reason") or ""),
        quantity=quantity_of(instance),
        refusal=refusal,
        share=mine.replicas if mine else None,
        others=sum(each.replicas for name, each in shared.items() if name != sharer),
        sharers=len(shared),
        warm=shares.warm_of(instance),
        template=_template_of(instance),
        installation=theirs.get(labels.INSTALLATION, ""),
    )


def pool_seen(instance: Json) -> PoolCluster:
    """A shared cluster, as its pool sees it."""
    status, is_deleting = instance.get("status") or {}, bool(instance["metadata"].get("deletionTimestamp"))
    return PoolCluster(
        uid=str(instance["metadata"].get("uid", "")),
        is_deleting=is_deleting,
        quantity=quantity_of(instance),
        warm=shares.warm_of(instance),
        sharers=tuple(sorted(shares.of(instance))),
        is_ready=status.get("phase") == "Ready" and not is_deleting,
        template=_template_of(instance),
        refusal=_refusal(status),
    )


def _refusal(status: Json) -> str:
    """Why the Platform can't make the cluster by its template, if so."""
    if status.get("phase") == "Failed" and status.get("reason") == "FeatureNotAllowed":
        return Reason.LICENCE_MISSING
    resolved = _condition(status, "TemplateResolved")
    if resolved is None or resolved.get("status") != "False":
        return ""
    return TEMPLATE_REFUSALS.get(str(resolved.get("reason", "")), "")


def _template_of(instance: Json) -> str:
    made_by = (instance.get("spec") or {}).get("templateRef") or {}
    version = made_by.get("version")
    return f"{made_by.get('name') or ''}@{version}" if version else str(made_by.get("name") or "")


def quantity_of(instance: Json) -> int | None:
    """The size of its static pool; None where that can't be read."""
    return whole(parameters(instance).get(QUANTITY))


def generation_of(instance: Json) -> int:
    """The generation of the claim that last wrote the instance; 0 if it does not say."""
    return whole(labels.of(instance).get(labels.GENERATION)) or 0


def parameters(instance: Json) -> Json:
    """The parameters of an instance: on the wire they are YAML in a string. Unreadable ones count as none."""
    return dict(_parsed((instance.get("spec") or {}).get("parameters") or ""))


@lru_cache(maxsize=1024)  # Each look at each cluster finds the same text again, and YAML is slow to read.
def _parsed(text: str) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def parameters_text(values: Json) -> str:
    """The parameters as the Platform wants them."""
    return yaml.safe_dump(values, sort_keys=True)


def sized(values: Json, node_type: str, nodes: int) -> str:
    """The parameters of a cluster, with so many nodes of a type."""
    return parameters_text({**values, QUANTITY: nodes, NODE_TYPE: node_type})


def nodes_seen(claims: Iterable[Json], *, cluster: str) -> tuple[NodeSeen, ...]:
    """The NodeClaims of a cluster, by name."""
    mine = (each for each in claims if (each.get("spec") or {}).get("vClusterRef") == cluster)
    return tuple(sorted((_node_seen(each) for each in mine), key=lambda node: node.name))


def node_type_seen(node_type: Json | None) -> NodeTypeSeen:
    """A node type and its free capacity: total less claimed, which can be negative after a limit was lowered."""
    if node_type is None:
        return NodeTypeSeen(is_known=False, free=0)
    status = node_type.get("status") or {}
    capacity = status.get("capacity")
    has_capacity = _condition(status, "HasCapacity")
    says_yes = has_capacity is not None and has_capacity.get("status") == "True"
    if not capacity or (not capacity.get("total") and says_yes):
        free = None  # What an unlimited provider shows is not documented.
    else:
        free = max(0, int(capacity["total"] or 0) - int(capacity.get("claimed") or 0))
    about = properties_of(node_type)
    return NodeTypeSeen(
        is_known=True,
        free=free,
        gpus=gpus_of(node_type) or None,
        cost=cost_of(node_type),
        provider=str((node_type.get("spec") or {}).get("providerRef") or ""),
        rack=about.get(RACK, ""),
        reservation=about.get(RESERVATION, ""),
    )


def gpus_of(node_type: Json | None) -> int:
    """The GPUs of one node of a type; 0 if it does not say."""
    resources = ((node_type or {}).get("spec") or {}).get("resources") or {}
    return whole(resources.get(GPU)) or 0


def cost_of(node_type: Json | None) -> int:
    """What the Platform rates a node of a type at; 0 if it does not say."""
    found = node_type or {}
    rated, named = (found.get("status") or {}).get("cost"), (found.get("spec") or {}).get("cost")
    return whole(rated) or whole(named) or 0


def properties_of(node_type: Json) -> Mapping[str, str]:
    """What an operator wrote of a node type: `a,b` are several values, and `*` is any."""
    return (node_type.get("spec") or {}).get("properties") or {}


def tenant_nodes(nodes: Iterable[Json]) -> tuple[TenantNode, ...]:
    """The nodes inside a tenant cluster, by name."""
    found = []
    for each in nodes:
        marks = labels.of(each)
        claim = marks.get("vcluster.com/nodeclaim", "") or marks.get("karpenter.sh/nodepool", "")
        found.append(
            TenantNode(
                name=str(each["metadata"]["name"]),
                uid=str(each["metadata"].get("uid", "")),
                claim=claim,
                node_type=marks.get("vcluster.com/node-type", ""),
            )
        )
    return tuple(sorted(found, key=lambda node: node.name))


def gpu_nodes(nodes: Iterable[Json]) -> tuple[GpuNode, ...]:
    """The tenant's nodes that are Ready and offer GPUs, by name."""
    found = []
    for node in nodes:
        status = node.get("status") or {}
        gpus = whole((status.get("allocatable") or {}).get(GPU)) or 0
        ready = _condition(status, "Ready")
        if gpus and ready is not None and ready.get("status") == "True":
            found.append(GpuNode(name=str(node["metadata"]["name"]), gpus=gpus))
    return tuple(sorted(found, key=lambda node: node.name))


def machines(nodes: Iterable[Json]) -> tuple[MachineSeen, ...]:
    """The tenant's nodes and the claims that they came of, by name: by our label, or else of the same name."""
    found = []
    for node in nodes:
        status = node.get("status") or {}
        ready, info = _condition(status, "Ready") or {}, status.get("nodeInfo") or {}
        name = str(node["metadata"]["name"])
        found.append(
            MachineSeen(
                name=name,
                claim=labels.of(node).get(OF_CLAIM) or name,
                uid=str(node["metadata"].get("uid", "")),
                is_ready=ready.get("status") == "True",
                since_ms=_epoch_ms(ready.get("lastTransitionTime")),
                is_cordoned=bool((node.get("spec") or {}).get("unschedulable")),
                kernel=str(info.get("kernelVersion") or ""),
                containerd=_containerd(str(info.get("containerRuntimeVersion") or "")),
            )
        )
    return tuple(sorted(found, key=lambda node: node.name))


def _containerd(runtime: str) -> str:
    """Its version of containerd; what another runtime says is told as it is, so that it is not taken for none."""
    return runtime.removeprefix("containerd://")


def _node_seen(claim: Json) -> NodeSeen:
    status = claim.get("status") or {}
    joined, scheduled = _condition(status, "Joined"), _condition(status, "Scheduled")
    current = _condition(status, "NotDrifted")
    is_behind = current is not None and current.get("status") == "False"
    is_joined = joined is not None and joined.get("status") == "True"
    waits = scheduled if scheduled is not None and scheduled.get("status") == "False" else {}
    return NodeSeen(
        name=str(claim["metadata"]["name"]),
        phase=str(status.get("phase") or "Pending"),
        message=str(waits.get("message") or status.get("message") or status.get("reason") or ""),
        is_scheduled=scheduled is not None and scheduled.get("status") == "True",
        is_joined=is_joined,
        joined_at_ms=_epoch_ms((joined or {}).get("lastTransitionTime")) if is_joined else None,
        since_ms=None if is_joined else _epoch_ms((joined or {}).get("lastTransitionTime")),
        is_deleting=bool(claim["metadata"].get("deletionTimestamp")),
        drift=str((current or {}).get("message") or (current or {}).get("reason") or "drifted") if is_behind else "",
    )


def _condition(status: Json, kind: str) -> Json | None:
    return next((each for each in status.get("conditions") or () if each.get("type") == kind), None)


def _epoch_ms(text: object) -> int | None:
    try:
        return round(datetime.fromisoformat(str(text)).timestamp() * 1000)
    except ValueError:
        return None


def whole(value: object) -> int | None:
    """A number, also one written as text; None if it is none."""
    try:
        return int(str(value))
    except ValueError:
        return None
