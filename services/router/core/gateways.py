"""Doors in front of the router: what lets clients enter at a Gateway, the tenant's own or a shared one.

Keys, limits and the bill are the router's, so behind every door stands a router and never an engine: there is no door
at which a model answers strangers. The objects are the same for all endpoints of a tenant, and hold no secret.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import JsonValue

Json = dict[str, JsonValue]

LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOSTNAME: Final = re.compile(rf"(?=.{{1,253}}$)(\*\.)?({LABEL}\.)+{LABEL}")
NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
LABELS: Final[Json] = {"app.kubernetes.io/managed-by": "millrace"}
SURFACE: Final = "/v1"
PORT: Final = 8080  # Of the Service; routers listen where they are told to.


class Mode(StrEnum):
    """Where clients enter."""

    LAYER = "layer"  # At the router itself: no objects.
    TENANT = "tenant"  # At a Gateway of the tenant's own cluster, with its own address and certificate.
    SHARED = "shared"  # At a Gateway of the provider that is imported into the tenant's cluster.


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One door. `routers` are addresses of routers, all of one family and port; none: nobody is let through."""

    mode: Mode
    hostname: str
    name: str = "millrace"
    namespace: str = "inference"
    routers: tuple[str, ...] = ()
    router_port: int = 8800
    gateway_class: str = ""  # Of a tenant's Gateway.
    issuer: str = ""  # The cert-manager ClusterIssuer of its certificate; empty: somebody else writes the Secret.
    parent: str = ""  # The shared Gateway, as <namespace>/<name>.


def problems(door: Door) -> Iterator[tuple[str, str]]:
    """What is wrong with a door, as pairs of a field and what to do; nothing if it is fine."""
    if HOSTNAME.fullmatch(door.hostname) is None:
        yield "hostname", f"{door.hostname!r} is no host name: lower case labels with dots between, `*.` first at most"
    for field, text in (("name", door.name), ("namespace", door.namespace)):
        if NAME.fullmatch(text) is None:
            yield field, f"{text!r} names no object: lower case letters, digits and dashes, a letter first"
    yield from _of_routers(door)
    if door.mode is Mode.TENANT and not door.gateway_class:
        yield "gateway_class", "name the GatewayClass whose controller runs in the tenant's cluster"
    if door.mode is Mode.SHARED and [NAME.fullmatch(each) is None for each in door.parent.split("/")] != [False] * 2:
        yield "parent", f"{door.parent!r} is no Gateway: say <namespace>/<name> of the one that is imported"


def _of_routers(door: Door) -> Iterator[tuple[str, str]]:
    families = set()
    for each in door.routers:
        try:
            families.add(ipaddress.ip_address(each).version)
        except ValueError:
            yield "routers", f"{each!r} is no address: an EndpointSlice takes IP addresses, not names"
    if len(families) > 1:
        yield "routers", "addresses of one family only: make a second door for the other"
    if not 0 < door.router_port < 1 << 16:
        yield "router_port", f"{door.router_port} is no port"


def objects(door: Door) -> tuple[Json, ...]:
    """Its objects, in the order in which they are made. The door has no problems."""
    match door.mode:
        case Mode.LAYER:
            return ()
        case Mode.TENANT:
            return (_service(door), _slice(door), _gateway(door), _route(door, {"name": door.name}))
        case Mode.SHARED:
            namespace, _, name = door.parent.partition("/")
            return (_service(door), _slice(door), _route(door, {"namespace": namespace, "name": name}))


def _object(door: Door, version: str, kind: str, *, labels: Json | None = None, notes: Json | None = None) -> Json:
    metadata: Json = {"name": door.name, "namespace": door.namespace, "labels": {**LABELS, **(labels or {})}}
    if notes:
        metadata["annotations"] = notes
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _service(door: Door) -> Json:
    """Without a selector: its addresses are those that we write, and no pod of the cluster can become one of them."""
    ports: list[JsonValue] = [{"name": "http", "port": PORT, "protocol": "TCP", "targetPort": door.router_port}]
    return {**_object(door, "v1", "Service"), "spec": {"type": "ClusterIP", "ports": ports}}


def _slice(door: Door) -> Json:
    """Written whole each time, and empty without routers: an address that is another's by now is never kept."""
    labels: Json = {"kubernetes.io/service-name": door.name, "endpointslice.kubernetes.io/managed-by": "millrace"}
    is_v6 = any(":" in each for each in door.routers)
    return {
        **_object(door, "discovery.k8s.io/v1", "EndpointSlice", labels=labels),
        "addressType": "IPv6" if is_v6 else "IPv4",
        "ports": [{"name": "http", "port": door.router_port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [each], "conditions": {"ready": True}} for each in sorted(door.routers)],
    }


def _gateway(door: Door) -> Json:
    notes: Json | None = {"cert-manager.io/cluster-issuer": door.issuer} if door.issuer else None
    listener: Json = {
        "name": "https",
        "protocol": "HTTPS",
        "port": 443,
        "hostname": door.hostname,
        "tls": {"mode": "Terminate", "certificateRefs": [{"kind": "Secret", "name": f"{door.name}-tls"}]},
        "allowedRoutes": {"namespaces": {"from": "Same"}},
    }
    head = _object(door, "gateway.networking.k8s.io/v1", "Gateway", notes=notes)
    return {**head, "spec": {"gatewayClassName": door.gateway_class, "listeners": [listener]}}


def _route(door: Door, parent: Json) -> Json:
    rule: Json = {
        "matches": [{"path": {"type": "PathPrefix", "value": SURFACE}}],
        "backendRefs": [{"name": door.name, "port": PORT}],
        "timeouts": {"request": "0s"},  # The router knows when an answer takes too long; a stream may take minutes.
    }
    spec: Json = {"parentRefs": [parent], "hostnames": [door.hostname], "rules": [rule]}
    return {**_object(door, "gateway.networking.k8s.io/v1", "HTTPRoute"), "spec": spec}
