"""A world with a clock in hand, and the few requests that every test of it makes."""

from __future__ import annotations

import json
from typing import Any, Final

from libs.common.clock import ManualClock
from libs.twin.answers import Response
from libs.twin.fake_engines import FakeEngines
from libs.twin.options import DEFAULT_KEY, TwinOptions
from libs.twin.world import World

Json = dict[str, Any]

MANAGEMENT: Final = "/kubernetes/management/apis/management.loft.sh/v1"
TENANT: Final = "/kubernetes/project/acme/virtualcluster/ep-1"
INSTANCES: Final = f"{MANAGEMENT}/namespaces/p-acme/virtualclusterinstances"
CLAIMS: Final = f"{MANAGEMENT}/namespaces/p-acme/nodeclaims"
KEY: Final = {"authorization": f"Bearer {DEFAULT_KEY}"}
SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND


class Scene:
    """One world and its caller."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.engines = FakeEngines()
        self.world = World(self.clock, TwinOptions(**options), self.engines)

    def ask(
        self, method: str, path: str, body: object = None, *, kind: str = "application/json", **query: str
    ) -> Response:
        content = b"" if body is None else json.dumps(body).encode()
        return self.world.request(method, path, query, {**KEY, "content-type": kind}, content)

    def get(self, path: str, **query: str) -> Json:
        answer = self.ask("GET", path, **query)
        assert answer.status == 200, answer.body
        return answer.json()

    def items(self, path: str, **query: str) -> list[Json]:
        found: list[Json] = self.get(path, **query)["items"]
        return found

    def apply(self, path: str, body: Json, *, manager: str = "millrace", **query: str) -> Response:
        return self.ask("PATCH", path, body, kind="application/apply-patch+yaml", fieldManager=manager, **query)

    def merge(self, path: str, body: Json) -> Response:
        return self.ask("PATCH", path, body, kind="application/merge-patch+json")

    def later(self, duration_ms: int) -> None:
        self.clock.advance(duration_ms)
        self.world.advance()

    def project(self, **spec: Any) -> None:
        assert self.ask("POST", f"{MANAGEMENT}/projects", {"metadata": {"name": "acme"}, "spec": spec}).status == 201
        self.later(SECOND)

    def instance(
        self, *, nodes: int = 1, node_type: str = "metal3.gpu-h100", template: str = "inference-h100"
    ) -> Response:
        return self.ask("POST", INSTANCES, an_instance(nodes=nodes, node_type=node_type, template=template))

    def ready_cluster(self, *, nodes: int = 1, **spec: Any) -> None:
        """A project and a tenant cluster with nodes whose GPUs are ready."""
        self.project(**spec)
        assert self.instance(nodes=nodes).status == 201
        self.later(10 * MINUTE)

    def namespace(self, name: str = "inference") -> None:
        assert self.ask("POST", f"{TENANT}/api/v1/namespaces", {"metadata": {"name": name}}).status == 201

    def deploy(self, deployment: Json) -> Json:
        name = deployment["metadata"]["name"]
        answer = self.apply(f"{TENANT}/apis/apps/v1/namespaces/inference/deployments/{name}", deployment)
        assert answer.status in {200, 201}, answer.body
        return answer.json()

    def pods(self) -> list[Json]:
        return self.items(f"{TENANT}/api/v1/namespaces/inference/pods")

    def deployment(self) -> Json:
        return self.get(f"{TENANT}/apis/apps/v1/namespaces/inference/deployments/ep-1")

    def serving(self, *, nodes: int = 1, replicas: int = 1, **changes: Any) -> None:
        """A ready cluster in which so many replicas answer."""
        self.ready_cluster(nodes=nodes)
        self.namespace()
        self.deploy(a_deployment(replicas=replicas, **changes))
        self.later(10 * MINUTE)


def an_instance(*, nodes: int = 1, node_type: str = "metal3.gpu-h100", template: str = "inference-h100") -> Json:
    return {
        "apiVersion": "management.loft.sh/v1",
        "kind": "VirtualClusterInstance",
        "metadata": {"name": "ep-1", "namespace": "p-acme", "labels": {"millrace.dev/endpoint": "ep-1"}},
        "spec": {
            "templateRef": {"name": template, "version": "1.0.0"},
            "clusterRef": {"cluster": "eu-1"},
            "parameters": f"gpuQuantity: {nodes}\nnodeType: {node_type}\n",
        },
    }


def a_deployment(
    *,
    replicas: int = 1,
    gpus: int = 4,
    image: str = "millrace/model-server:1",
    digest: str = "sha256:aa",
    size_bytes: int = 0,
    **spec: Any,
) -> Json:
    fetch = ["--model", "m", "--digest", digest, "--size-bytes", str(size_bytes)]
    container = {
        "name": "engine",
        "image": image,
        "args": ["--model", "m", "--served-model-name", "m", "--host", "$(POD_IP)", "--port", "8000"],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": [{"name": "http", "containerPort": 8000}],
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "ep-1", "namespace": "inference", "labels": {"app": "ep-1"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "ep-1"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": {"app": "ep-1"}},
                "spec": {
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                    "initContainers": [{"name": "fetch", "image": "millrace/model-fetch:1", "args": fetch}],
                    "containers": [container],
                    **spec,
                },
            },
        },
    }


def is_true(thing: Json, kind: str) -> bool:
    return any(each["type"] == kind and each["status"] == "True" for each in thing["status"].get("conditions", []))


def condition(thing: Json, kind: str) -> Json:
    return next(dict(each) for each in thing["status"]["conditions"] if each["type"] == kind)
