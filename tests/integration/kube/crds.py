"""Custom resource definitions of what we write: put down from the documentation, without what we don't use.

Unknown fields are refused, as by the published ones. What embeds a pod takes its schema from the server itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import httpx

from services.runtime_deployer.shell.connections import APPLY
from tests.integration.kube.deployer import Deployer

Json = dict[str, Any]

TEXT: Final[Json] = {"type": "string"}
TEXTS: Final[Json] = {"type": "object", "additionalProperties": TEXT}
COUNT: Final[Json] = {"type": "integer", "format": "int32", "minimum": 0}
EITHER: Final[Json] = {"x-kubernetes-int-or-string": True}
PORT: Final[Json] = {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535}
HOST: Final[Json] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 253,
    "pattern": r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
}
FROM: Final[Json] = {"type": "string", "enum": ["All", "Selector", "Same"]}
WAIT: Final[Json] = {"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}
# Without it an API server takes no definition in a group of Kubernetes' own; the published ones are approved.
UNAPPROVED: Final[Json] = {"api-approved.kubernetes.io": "unapproved, for tests"}
DEFINITIONS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DURATION: Final[Json] = {
    "type": "string",
    "pattern": r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$",
}
KEPT: Final = ("type", "format", "enum", "minimum", "maximum", "pattern", "required", "nullable")


def definitions(http: httpx.Client) -> Iterator[Json]:
    """Prometheus operator's ServiceMonitor and PodMonitor, and KServe's InferenceService."""
    yield _definition("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors", _monitor("endpoints"))
    yield _definition("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors", _monitor("podMetricsEndpoints"))
    schemas = http.get("/openapi/v3/api/v1").raise_for_status().json()["components"]["schemas"]
    pod = _inlined(schemas, schemas["io.k8s.api.core.v1.PodSpec"])
    yield _definition("serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices", _inference_service(pod))


def gateway_definitions() -> Iterator[Json]:
    """Gateway API's Gateway, ListenerSet and HTTPRoute, and the certificate of a listener."""
    group = "gateway.networking.k8s.io"
    yield _definition(group, "v1", "ListenerSet", "listenersets", _listener_set())
    yield _definition("cert-manager.io", "v1", "Certificate", "certificates", _certificate())
    yield _definition(group, "v1", "Gateway", "gateways", _gateway())
    yield _definition(group, "v1", "HTTPRoute", "httproutes", _http_route())


@contextmanager
def installed(one: Deployer, wanted: Iterable[Json]) -> Iterator[None]:
    """Have these kinds served, and take them back after; where a cluster has the published ones, these are better."""
    made = []
    for each in wanted:
        name = each["metadata"]["name"]
        if one.ask("GET", f"{DEFINITIONS}/{name}").is_ok:
            continue
        answer = one.ask("PATCH", f"{DEFINITIONS}/{name}", each, APPLY, fieldManager="operator")
        assert answer.is_ok, answer
        made.append(name)
        one.until(partial(_is_established, one, name), f"{name} is served")
    yield
    for name in made:
        one.ask("DELETE", f"{DEFINITIONS}/{name}")


def _is_established(one: Deployer, name: str) -> bool:
    conditions = one.ask("GET", f"{DEFINITIONS}/{name}").body.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


def _definition(group: str, version: str, kind: str, plural: str, spec: Json) -> Json:
    schema: Json = {
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": TEXT,
            "kind": TEXT,
            "metadata": {"type": "object"},
            "spec": spec,
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    served = {"name": version, "served": True, "storage": True, "subresources": {"status": {}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", **({"annotations": UNAPPROVED} if group.endswith(".k8s.io") else {})},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": names,
            "versions": [{**served, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def _record(required: Sequence[str] = (), **properties: Json) -> Json:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def _list(of: Json) -> Json:
    return {"type": "array", "items": of}


def _gateway() -> Json:
    return _record(["gatewayClassName", "listeners"], gatewayClassName=TEXT, listeners=_list(_listener()))


def _listener_set() -> Json:
    parent = _record(["name"], group=TEXT, kind=TEXT, name=TEXT, namespace=TEXT)
    return _record(["parentRef", "listeners"], parentRef=parent, listeners=_list(_listener()))


def _certificate() -> Json:
    issuer = _record(["name"], group=TEXT, kind=TEXT, name=TEXT)
    return _record(["secretName", "issuerRef"], secretName=TEXT, dnsNames=_list(TEXT), issuerRef=issuer)


def _listener() -> Json:
    secret = _record(["name"], group=TEXT, kind=TEXT, name=TEXT, namespace=TEXT)
    return _record(
        ["name", "port", "protocol"],
        name=TEXT,
        hostname=HOST,
        port=PORT,
        protocol=TEXT,
        tls=_record(mode={"type": "string", "enum": ["Terminate", "Passthrough"]}, certificateRefs=_list(secret)),
        allowedRoutes=_record(namespaces={"type": "object", "properties": {"from": FROM}}),
    )


def _http_route() -> Json:
    parent = _record(["name"], group=TEXT, kind=TEXT, name=TEXT, namespace=TEXT, sectionName=TEXT, port=PORT)
    match = {"type": "string", "enum": ["Exact", "PathPrefix", "RegularExpression"]}
    rule = _record(
        matches=_list(_record(path=_record(type=match, value=TEXT))),
        backendRefs=_list(_record(["name"], group=TEXT, kind=TEXT, name=TEXT, namespace=TEXT, port=PORT, weight=COUNT)),
        timeouts=_record(request=WAIT, backendRequest=WAIT),
    )
    return _record(parentRefs=_list(parent), hostnames=_list(HOST), rules=_list(rule))


def _monitor(endpoints: str) -> Json:
    requirement = {
        "type": "object",
        "required": ["key", "operator"],
        "properties": {"key": TEXT, "operator": TEXT, "values": {"type": "array", "items": TEXT}},
    }
    endpoint = {
        "type": "object",
        "properties": {
            **dict.fromkeys(("port", "path"), TEXT),
            "targetPort": EITHER,
            "scheme": {"type": "string", "enum": ["http", "https", "HTTP", "HTTPS"]},
            "interval": DURATION,
            "scrapeTimeout": DURATION,
            "honorLabels": {"type": "boolean"},
        },
    }
    selector = {
        "type": "object",
        "properties": {"matchLabels": TEXTS, "matchExpressions": {"type": "array", "items": requirement}},
    }
    return {
        "type": "object",
        "required": ["selector", endpoints],
        "properties": {
            "selector": selector,
            endpoints: {"type": "array", "items": endpoint},
            "jobLabel": TEXT,
            "targetLabels": {"type": "array", "items": TEXT},
            "podTargetLabels": {"type": "array", "items": TEXT},
            "namespaceSelector": {
                "type": "object",
                "properties": {"any": {"type": "boolean"}, "matchNames": {"type": "array", "items": TEXT}},
            },
        },
    }


def _inference_service(pod: Json) -> Json:
    rolling = {"type": "object", "properties": {"maxSurge": EITHER, "maxUnavailable": EITHER}}
    extension = {
        "minReplicas": COUNT,
        "maxReplicas": COUNT,
        "scaleTarget": COUNT,
        "scaleMetric": {"type": "string", "enum": ["cpu", "memory", "concurrency", "rps"]},
        "containerConcurrency": {"type": "integer", "format": "int64"},
        "timeout": {"type": "integer", "format": "int64"},
        "canaryTrafficPercent": {"type": "integer", "format": "int64"},
        "labels": TEXTS,
        "annotations": TEXTS,
        "deploymentStrategy": {"type": "object", "properties": {"type": TEXT, "rollingUpdate": rolling}},
    }
    predictor = {"type": "object", "required": ["containers"], "properties": {**pod["properties"], **extension}}
    return {"type": "object", "required": ["predictor"], "properties": {"predictor": predictor}}


def _inlined(schemas: Mapping[str, Json], schema: Json) -> Json:
    """A schema of the server without references, in the form that a definition may have."""
    found = schema
    for each in (schema, *schema.get("allOf", ())):
        if "$ref" in each:
            found = schemas[each["$ref"].rpartition("/")[2]]
    if found.get("format") == "int-or-string" or "oneOf" in found:
        return EITHER
    kept: Json = {each: found[each] for each in KEPT if each in found}
    if "properties" in found:
        kept["properties"] = {name: _inlined(schemas, each) for name, each in found["properties"].items()}
    if "items" in found:
        kept["items"] = _inlined(schemas, found["items"])
    if "additionalProperties" in found:
        kept["additionalProperties"] = _inlined(schemas, found["additionalProperties"])
    return kept if "type" in kept or kept == EITHER else {**kept, "x-kubernetes-preserve-unknown-fields": True}
