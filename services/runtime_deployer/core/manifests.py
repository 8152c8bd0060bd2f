"""The objects of one endpoint in its tenant cluster: pure, the same text for the same runtime, names computed.

The namespace is shared by whatever else runs there, so nothing of an endpoint is written on it and it is never
deleted; every other object is named by the endpoint id and carries the generation as a fence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from services.runtime_deployer.core.observed import Kind
from services.runtime_deployer.core.pod import Json, pod_spec
from services.runtime_deployer.core.state import Runtime
from services.runtime_deployer.core.templates import Template

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

API_VERSIONS: Final[Mapping[Kind, str]] = {
    Kind.NAMESPACE: "v1",
    Kind.SERVICE_ACCOUNT: "v1",
    Kind.NETWORK_POLICY: "networking.k8s.io/v1",
    Kind.SERVICE: "v1",
    Kind.DISRUPTION_BUDGET: "policy/v1",
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
    """Every object of the endpoint, in the order in which they are made; the Deployment, which counts, comes last."""
    assert runtime.placement is not None, runtime.endpoint_id
    owned = (
        _manifest(runtime, Kind.SERVICE_ACCOUNT, {"automountServiceAccountToken": False}),
        _manifest(runtime, Kind.NETWORK_POLICY, {"spec": _network_policy(runtime, template)}),
        _manifest(runtime, Kind.SERVICE, {"spec": _service(runtime, template)}),
        _manifest(runtime, Kind.DISRUPTION_BUDGET, {"spec": _disruption_budget(runtime)}),
        _manifest(runtime, Kind.DEPLOYMENT, {"spec": _deployment(runtime, template)}),
    )
    return (namespace(), *owned)


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
        "annotations": {MODEL: runtime.model},
    }


def _manifest(runtime: Runtime, kind: Kind, content: Json) -> Manifest:
    metadata: Json = {"name": runtime.endpoint_id, "namespace": NAMESPACE, "labels": labels_of(runtime)}
    head: Json = {"apiVersion": API_VERSIONS[kind], "kind": kind.value, "metadata": metadata}
    digest = hashlib.sha256(json.dumps({**head, **content}, sort_keys=True).encode()).hexdigest()[:16]
    metadata["annotations"] = {GENERATION: str(runtime.generation), DIGEST: digest}
    return Manifest(kind, runtime.endpoint_id, runtime.generation, digest, {**head, **content})


def _selector(runtime: Runtime) -> Json:
    """Immutable on a Deployment, so it must not speak of a generation."""
    return {"matchLabels": {ENDPOINT: runtime.endpoint_id}}


def _service(runtime: Runtime, template: Template) -> Json:
    return {
        "type": "ClusterIP",
        "selector": {ENDPOINT: runtime.endpoint_id},
        "ports": [{"name": "http", "port": template.port, "targetPort": "http", "protocol": "TCP"}],
    }


def _disruption_budget(runtime: Runtime) -> Json:
    """One at a time. A minimum would forbid for ever to drain the node of an endpoint's only replica."""
    return {"maxUnavailable": 1, "selector": _selector(runtime)}


def _network_policy(runtime: Runtime, template: Template) -> Json:
    names: Json = {"ports": [{"port": DNS_PORT, "protocol": each} for each in ("UDP", "TCP")]}
    storage: Json = {"ports": [{"port": each, "protocol": "TCP"} for each in template.egress_ports]}
    return {
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


def _steps(*, surges: bool) -> Json:
    """One at a time: the new one first where there is room for it, else the old one first (decision 0020)."""
    return {"maxSurge": 1, "maxUnavailable": 0} if surges else {"maxSurge": 0, "maxUnavailable": 1}


def _deployment(runtime: Runtime, template: Template) -> Json:
    assert runtime.placement is not None, runtime.endpoint_id
    size_bytes = runtime.placement.model_size_bytes
    budget_s = template.download_s(size_bytes) + template.startup_s(size_bytes) + ROLLOUT_SLACK_S
    return {
        "replicas": runtime.replicas_wanted,
        "selector": _selector(runtime),
        "progressDeadlineSeconds": budget_s,
        "minReadySeconds": MIN_READY_S,
        "revisionHistoryLimit": 2,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _steps(surges=runtime.surges)},
        "template": {
            "metadata": _pod_metadata(runtime),
            "spec": pod_spec(runtime.endpoint_id, runtime.placement, runtime.model, template),
        },
    }
