"""A tenant cluster's template: what an operator says of it, made into the Platform's object and its vcluster.yaml.

Private nodes switch off every sync from and to the host cluster, so none is written: what such a cluster needs (GPU
stack, metrics, scheduler, policies) runs inside it. `{{ … }}` are parameters that the Platform fills in per cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from services.capacity_manager.core.tenancy import SHARED, Tenancy
from services.capacity_manager.core.vnode import UNSAID, Image, of_image

Json = dict[str, JsonValue]

QUANTITY: Final = "{{ .Values.gpuQuantity }}"
NODE_TYPE: Final = "{{ .Values.nodeType }}"
CLUSTER: Final = "{{ .Values.loft.cluster }}"
POOL: Final = "gpu"
BURST_POOL: Final = "burst"
NAMESPACE: Final = "inference"  # Where runtime-deployer puts endpoints.
RUNTIME_CLASS: Final = "vnode"
IDLE: Final = "10m"  # Karpenter's own thirty seconds would take a node away between two requests.


@dataclass(frozen=True, slots=True)
class App:
    """An app that the operator has defined on the Platform, installed into each cluster."""

    name: str
    namespace: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When the Platform takes a snapshot of each cluster, how many it keeps, and where: a bucket, and its secret."""

    cron: str
    timezone: str
    keep_days: int
    keep_max: int
    url: str
    secret: str
    secret_namespace: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """One version of a template. `burst_max` is how many nodes more a dynamic pool may add for pods that wait.

    `image` is what the operator says that the OS image of its nodes has.
    """

    name: str
    version: str
    tenancy: Tenancy
    chart: str
    provider: str
    node_type: str
    nodes_max: int
    burst_max: int = 0
    properties: Mapping[str, str] | None = None
    node_labels: Mapping[str, str] | None = None
    control_planes: int = 1
    vpn: bool = True
    gpu_taint: bool = True
    pod_security: str = "baseline"
    apps: tuple[App, ...] = ()
    snapshots: Schedule | None = None
    image: Image = UNSAID


def values_of(recipe: Recipe) -> Json:
    """The vcluster.yaml."""
    return {
        "controlPlane": {
            "backingStore": {"etcd": {"embedded": {"enabled": True}}},
            "statefulSet": {"highAvailability": {"replicas": recipe.control_planes}},
        },
        "deploy": {"metricsServer": {"enabled": True}},
        "policies": {"podSecurityStandard": recipe.pod_security},
        "privateNodes": {
            "enabled": True,
            "vpn": {"enabled": recipe.vpn},
            "autoNodes": [
                {
                    "provider": recipe.provider,
                    "properties": {"region": CLUSTER, **(recipe.properties or {})},
                    "static": [_static(recipe)],
                    **({"dynamic": [_dynamic(recipe)]} if recipe.burst_max else {}),
                }
            ],
        },
        **({"snapshots": {"auto": _auto(recipe.snapshots)}} if recipe.snapshots else {}),
    }


def objects_of(recipe: Recipe) -> tuple[Json, ...]:
    """What is made inside each cluster: nothing may be reached that no policy lets be reached."""
    names = dict.fromkeys(each.namespace for each in recipe.apps)
    trusted = [_namespace(each, {"pod-security.kubernetes.io/enforce": "privileged"}) for each in names]
    deny: Json = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny-by-default", "namespace": NAMESPACE},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }
    sandbox: Json = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": RUNTIME_CLASS},
        "handler": RUNTIME_CLASS,
    }
    return (_namespace(NAMESPACE, {}), *trusted, deny, *((sandbox,) if recipe.tenancy is Tenancy.VNODE else ()))


def _namespace(name: str, labels: Json) -> Json:
    metadata: Json = {"name": name, **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def parameters_of(recipe: Recipe) -> list[JsonValue]:
    """The parameters of the template: what may differ from one cluster to the next."""
    return [
        {"variable": "gpuQuantity", "type": "number", "defaultValue": "0", "min": 0, "max": recipe.nodes_max},
        {"variable": "nodeType", "type": "string", "defaultValue": recipe.node_type},
    ]


def version_of(recipe: Recipe, *, values: str, objects: str) -> Json:
    """One version of the Platform's template object, of the two texts."""
    apps: list[JsonValue] = [_app(each) for each in recipe.apps]
    template: Json = {
        "metadata": {"labels": {"millrace.dev/tenancy": recipe.tenancy.value}},
        "pro": {"enabled": True},
        "helmRelease": {"chart": {"version": recipe.chart}, "values": values},
        "objects": objects,
        **({"apps": apps} if apps else {}),
    }
    return {"version": recipe.version, "parameters": parameters_of(recipe), "template": template}


def contradictions(recipes: tuple[Recipe, ...]) -> Iterator[tuple[Recipe, str]]:
    """What can't be true of a set of templates, with the one that it is wrong of."""
    seen: set[tuple[str, str]] = set()
    tenancies: dict[str, Tenancy] = {}
    for each in recipes:
        if (each.name, each.version) in seen:
            yield each, f"{each.name}@{each.version} is there twice"
        seen.add((each.name, each.version))
        if tenancies.setdefault(each.name, each.tenancy) is not each.tenancy:
            yield each, f"{each.name} has another tenancy in another version: give it another name"
        if not each.node_type.startswith(f"{each.provider}."):
            yield each, f"node type {each.node_type} is not of provider {each.provider}"
        if each.tenancy in SHARED and each.burst_max:
            yield each, "a shared cluster has no burst pool: its size is the sum of the shares on it"
        if each.tenancy is Tenancy.VNODE:
            yield from ((each, str(flaw)) for flaw in of_image(each.image, "its nodes.image"))
        if each.control_planes % 2 == 0:
            yield each, f"{each.control_planes} control planes have no majority: take 1, 3 or 5"


def _auto(schedule: Schedule) -> Json:
    credential: Json = {"secretName": schedule.secret, "secretNamespace": schedule.secret_namespace}
    return {
        "schedule": schedule.cron,
        "timezone": schedule.timezone,
        "retention": {"period": schedule.keep_days, "maxSnapshots": schedule.keep_max},
        "storage": {"type": "s3", "s3": {"url": schedule.url, "credential": credential}},
    }


def _static(recipe: Recipe) -> Json:
    return {"name": POOL, "quantity": QUANTITY, **_nodes(recipe)}


def _dynamic(recipe: Recipe) -> Json:
    return {
        "name": BURST_POOL,
        **_nodes(recipe),
        "limits": {"nodes": str(recipe.burst_max)},
        "disruption": {"consolidationPolicy": "WhenEmpty", "consolidateAfter": IDLE},
    }


def _nodes(recipe: Recipe) -> Json:
    taint: Json = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    return {
        "nodeTypeSelector": [{"property": "vcluster.com/node-type", "operator": "In", "values": [NODE_TYPE]}],
        "nodeLabels": {"millrace.dev/tenancy": recipe.tenancy.value, **(recipe.node_labels or {})},
        **({"taints": [taint]} if recipe.gpu_taint else {}),
    }


def _app(app: App) -> Json:
    return {
        "name": app.name,
        "namespace": app.namespace,
        "releaseName": app.name,
        **({"version": app.version} if app.version else {}),
    }
