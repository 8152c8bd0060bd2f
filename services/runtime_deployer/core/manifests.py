"""The objects of one endpoint in its tenant cluster: pure, the same text for the same runtime, names computed.

The namespace is shared by whatever else runs there, so nothing of an endpoint is written on it and it is never
deleted; every other object is named by the endpoint id and carries the generation as a fence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from services.runtime_deployer.core.observed import Kind
from services.runtime_deployer.core.pod import GPUS, Json, pod_spec
from services.runtime_deployer.core.state import Runtime
from services.runtime_deployer.core.templates import Template, Workload
from services.runtime_deployer.core.weights import egress_port

NAMESPACE: Final = "inference"
MANAGER: Final = "millrace"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
ENDPOINT: Final = "millrace.dev/endpoint"
TENANT: Final = "millrace.dev/tenant"
GENERATION: Final = "millrace.dev/generation"
DIGEST: Final = "millrace.dev/digest"
RECIPE: Final = "millrace.dev/recipe"
MODEL: Final = "millrace.dev/model"

ROLLOUT_SLACK_S: Final = 600  # Node pressure and a slow registry, before Kubernetes calls a rollout stuck.
MIN_READY_S: Final = 10  # Our look and a warm-up fit in: the next old pod goes when the new one takes traffic.
DNS_PORT: Final = 53
SCRAPE_S: Final = 15  # Four points a minute: enough for an alert on a minute's average.
# Standard mode: KServe makes a Deployment and a Service, and no autoscaler, because ours decides.
KSERVE: Final = {"serving.kserve.io/deploymentMode": "Standard", "serving.kserve.io/autoscalerClass": "external"}

API_VERSIONS: Final[Mapping[Kind, str]] = {
    Kind.NAMESPACE: "v1",
    Kind.SERVICE_ACCOUNT: "v1",
    Kind.VOLUME_CLAIM: "v1",
    Kind.GPU_CLAIM: "resource.k8s.io/v1",
    Kind.NETWORK_POLICY: "networking.k8s.io/v1",
    Kind.SERVICE: "v1",
    Kind.DISRUPTION_BUDGET: "policy/v1",
    Kind.MONITOR: "monitoring.coreos.com/v1",
    Kind.POD_MONITOR: "monitoring.coreos.com/v1",
    Kind.INFERENCE_SERVICE: "serving.kserve.io/v1beta1",
    Kind.DEPLOYMENT: "apps/v1",
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object as we want it. `digest` is computed from its content and rides along as an annotation."""

    kind: Kind
    name: str
    generation: int
    digest: str
    body: Mapping[str, JsonValue]


def render(runtime: Runtime, template: Template) -> tuple[Manifest, ...]:
    """Every object of the endpoint, in the order in which they are made; the workload, which counts, comes last."""
    assert runtime.placement is not None, runtime.endpoint_id
    wanted = kinds_of(template)
    return (
        namespace(),
        *(_manifest(runtime, kind, _CONTENTS[kind](runtime, template)) for kind in Kind if kind in wanted),
    )


def kinds_of(template: Template) -> frozenset[Kind]:
    """The kinds of object that a template makes. KServe gets no second Deployment or Service beside its own."""
    always = {Kind.SERVICE_ACCOUNT, Kind.NETWORK_POLICY, Kind.DISRUPTION_BUDGET, workload_of(template)}
    is_ours = template.workload is Workload.DEPLOYMENT
    asked = {
        Kind.SERVICE: is_ours,
        Kind.VOLUME_CLAIM: template.claim is not None,
        Kind.GPU_CLAIM: bool(template.device_class),
        Kind.MONITOR: is_ours and bool(template.metrics_path),
        Kind.POD_MONITOR: not is_ours and bool(template.metrics_path),
    }
    return frozenset(always | {kind for kind, wanted in asked.items() if wanted})


def workload_of(template: Template | None) -> Kind:
    """The kind of the object from which the pods hang."""
    if template is not None and template.workload is Workload.INFERENCE_SERVICE:
        return Kind.INFERENCE_SERVICE
    return Kind.DEPLOYMENT


def namespace() -> Manifest:
    """The namespace that endpoints share."""
    metadata: Json = {"name": NAMESPACE, "labels": {MANAGED_BY: MANAGER}}
    return Manifest(Kind.NAMESPACE, NAMESPACE, 0, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})


def labels_of(runtime: Runtime) -> Json:
    """The labels that every object of the endpoint carries."""
    return {**_whose(runtime), GENERATION: str(runtime.generation)}


def _whose(runtime: Runtime) -> Json:
    return {MANAGED_BY: MANAGER, ENDPOINT: runtime.endpoint_id, TENANT: runtime.tenant_id}


def _pod_metadata(runtime: Runtime) -> Json:
    """Without the generation: a change of limits or of the number of replicas must not restart a pod."""
    return {
        "labels": {**_whose(runtime), RECIPE: runtime.recipe},
        "annotations": {MODEL: runtime.served_name},
    }


def _manifest(runtime: Runtime, kind: Kind, content: Json) -> Manifest:
    metadata: Json = {"name": runtime.endpoint_id, "namespace": NAMESPACE, "labels": labels_of(runtime)}
    if kind is Kind.INFERENCE_SERVICE:
        metadata["labels"] = _whose(runtime)  # KServe copies labels to pods, and a new generation restarts none.
    head: Json = {"apiVersion": API_VERSIONS[kind], "kind": kind.value, "metadata": metadata}
    digest = hashlib.sha256(json.dumps({**head, **content}, sort_keys=True).encode()).hexdigest()[:16]
    metadata["annotations"] = {
        GENERATION: str(runtime.generation),
        DIGEST: digest,
        **(KSERVE if kind is Kind.INFERENCE_SERVICE else {}),
    }
    return Manifest(kind, runtime.endpoint_id, runtime.generation, digest, {**head, **content})


def _selector(runtime: Runtime) -> Json:
    """Immutable on a Deployment, so it must not speak of a generation."""
    return {"matchLabels": {ENDPOINT: runtime.endpoint_id}}


def _service_account(_runtime: Runtime, _template: Template) -> Json:
    return {"automountServiceAccountToken": False}


def _service(runtime: Runtime, template: Template) -> Json:
    spec: Json = {
        "type": "ClusterIP",
        "selector": {ENDPOINT: runtime.endpoint_id},
        "ports": [{"name": "http", "port": template.port, "targetPort": "http", "protocol": "TCP"}],
    }
    return {"spec": spec}


def _volume_claim(_runtime: Runtime, template: Template) -> Json:
    claim = template.claim
    assert claim is not None, template.key
    spec: Json = {
        "accessModes": [claim.access_mode],
        "resources": {"requests": {"storage": f"{claim.storage_gib}Gi"}},
        **({"storageClassName": claim.storage_class} if claim.storage_class else {}),
    }
    return {"spec": spec}


def _gpu_claim(runtime: Runtime, template: Template) -> Json:
    assert runtime.placement is not None, runtime.endpoint_id
    exactly: Json = {"deviceClassName": template.device_class, "count": runtime.placement.gpus_per_replica}
    return {"spec": {"spec": {"devices": {"requests": [{"name": GPUS, "exactly": exactly}]}}}}


def _monitor(runtime: Runtime, template: Template) -> Json:
    return {"spec": {"selector": _selector(runtime), "endpoints": [_scraped(template)]}}


def _pod_monitor(runtime: Runtime, template: Template) -> Json:
    return {"spec": {"selector": _selector(runtime), "podMetricsEndpoints": [_scraped(template)]}}


def _scraped(template: Template) -> Json:
    return {"port": "http", "path": template.metrics_path, "interval": f"{SCRAPE_S}s"}


def _disruption_budget(runtime: Runtime, _template: Template) -> Json:
    """One at a time. A minimum would forbid for ever to drain the node of an endpoint's only replica."""
    return {"spec": {"maxUnavailable": 1, "selector": _selector(runtime)}}


def _network_policy(runtime: Runtime, template: Template) -> Json:
    names: Json = {"ports": [{"port": DNS_PORT, "protocol": each} for each in ("UDP", "TCP")]}
    ports = dict.fromkeys((*template.egress_ports, *filter(None, (egress_port(runtime.weights),))))
    storage: Json = {"ports": [{"port": each, "protocol": "TCP"} for each in ports]}
    spec: Json = {
        "podSelector": _selector(runtime),
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {
                "from": [{"ipBlock": {"cidr": each}} for each in template.ingress_cidrs],
                "ports": [{"port": template.port, "protocol": "TCP"}],
            }
        ],
        "egress": [names, storage],
    }
    return {"spec": spec}


def _steps(*, surges: bool) -> Json:
    """One at a time: the new one first where there is room for it, else the old one first (decision 0020)."""
    return {"maxSurge": 1, "maxUnavailable": 0} if surges else {"maxSurge": 0, "maxUnavailable": 1}


def _deployment(runtime: Runtime, template: Template) -> Json:
    assert runtime.placement is not None, runtime.endpoint_id
    size_bytes = runtime.placement.model_size_bytes
    budget_s = template.download_s(size_bytes) + template.startup_s(size_bytes) + ROLLOUT_SLACK_S
    spec: Json = {
        "replicas": runtime.replicas_wanted,
        **({"paused": True} if runtime.rollout_paused else {}),
        "selector": _selector(runtime),
        "progressDeadlineSeconds": budget_s,
        "minReadySeconds": MIN_READY_S,
        "revisionHistoryLimit": 2,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _steps(surges=runtime.surges)},
        "template": {
            "metadata": _pod_metadata(runtime),
            "spec": pod_spec(runtime.endpoint_id, runtime.placement, runtime.model, template, runtime.weights),
        },
    }
    return {"spec": spec}


def _inference_service(runtime: Runtime, template: Template) -> Json:
    """As many replicas as wanted, no fewer and no more: the number is ours, and KServe makes no autoscaler."""
    assert runtime.placement is not None, runtime.endpoint_id
    predictor: Json = {
        "minReplicas": runtime.replicas_wanted,
        "maxReplicas": max(1, runtime.replicas_wanted),
        "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": _steps(surges=runtime.surges)},
        **_pod_metadata(runtime),
        **pod_spec(runtime.endpoint_id, runtime.placement, runtime.model, template, runtime.weights),
    }
    return {"spec": {"predictor": predictor}}


_CONTENTS: Final[Mapping[Kind, Callable[[Runtime, Template], Json]]] = {
    Kind.SERVICE_ACCOUNT: _service_account,
    Kind.VOLUME_CLAIM: _volume_claim,
    Kind.GPU_CLAIM: _gpu_claim,
    Kind.NETWORK_POLICY: _network_policy,
    Kind.SERVICE: _service,
    Kind.DISRUPTION_BUDGET: _disruption_budget,
    Kind.MONITOR: _monitor,
    Kind.POD_MONITOR: _pod_monitor,
    Kind.INFERENCE_SERVICE: _inference_service,
    Kind.DEPLOYMENT: _deployment,
}
