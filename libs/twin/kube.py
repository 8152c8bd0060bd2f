"""One tenant cluster's API as its clients see it: discovery, objects, logs, evictions, and the way to a pod."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from libs.twin import kinds
from libs.twin.answers import ApiError, Response, answer, no_such_path, unavailable
from libs.twin.cluster import Cluster
from libs.twin.discovery import discover
from libs.twin.options import TwinOptions
from libs.twin.pods import port_of


@dataclass(frozen=True, slots=True)
class PodTarget:
    """Where a request through the pod proxy goes."""

    key: str
    address: str
    port: int
    path: str


class KubeFacade:
    """The Kubernetes API of one cluster."""

    def __init__(self, cluster: Cluster, options: TwinOptions) -> None:
        self._cluster = cluster
        self._options = options
        self.rest = cluster.rest

    def request(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Response:
        """Answer one request. Raises ApiError."""
        if path in {"/healthz", "/readyz", "/livez"}:
            return Response(200, {"content-type": "text/plain"}, b"ok")
        found = discover(path, kinds.CLUSTER_KINDS, self._options.kubernetes_version)
        if found is not None:
            return answer(found)
        target = self.rest.address(path)
        if target.kind is kinds.PODS and target.subresource == "eviction" and method == "POST":
            return self._evict(target.namespace, target.name)
        if target.kind is kinds.PODS and target.subresource == "log":
            text = self._cluster.log(
                target.namespace, target.name, query.get("container", ""), query.get("tailLines", "")
            )
            return Response(200, {"content-type": "text/plain"}, text.encode())
        return self.rest.request(method, path, query, headers, body)

    def proxied(self, path: str, query: Mapping[str, str]) -> PodTarget | None:
        """The pod that a proxy path leads to; None for any other path. Raises 404 or 503."""
        try:
            target = self.rest.address(path)
        except ApiError:
            return None
        if target.kind is not kinds.PODS or target.subresource != "proxy":
            return None
        scheme, name, port = _addressed(target.name)
        if scheme not in {"", "http"}:
            raise no_such_path()
        pod = self._cluster.store.get(kinds.PODS, target.namespace, name)
        engine = self._cluster.kubelet.engine_of(pod)
        if engine is None:
            raise unavailable(f"error trying to reach service: no endpoints available for pod {name!r}")
        text = "&".join(f"{key}={value}" for key, value in query.items())
        rest = "/" + "/".join(target.rest) + (f"?{text}" if text else "")
        return PodTarget(engine[0], engine[1], port or port_of(pod["spec"]["containers"][0]), rest)

    def _evict(self, namespace: str, name: str) -> Response:
        pod = self._cluster.store.get(kinds.PODS, namespace, name)
        if not self._cluster.may_evict(pod):
            raise ApiError(
                429,
                "TooManyRequests",
                "Cannot evict pod as it would violate the pod's disruption budget.",
                {
                    "causes": [
                        {"reason": "DisruptionBudget", "message": "The disruption budget needs more healthy pods"}
                    ]
                },
            )
        self._cluster.rules.delete_pod(pod)
        return answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, 201)


def _addressed(text: str) -> tuple[str, str, int | None]:
    """`name`, `name:port`, `http:name:port`."""
    parts = text.split(":")
    if len(parts) == 3:
        return parts[0], parts[1], int(parts[2]) if parts[2].isdigit() else None
    if len(parts) == 2:
        if parts[1].isdigit():
            return "", parts[0], int(parts[1])
        return parts[0], parts[1], None
    return "", text, None
