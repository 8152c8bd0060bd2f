"""Doors in front of the router: what lets clients enter at a Gateway, the tenant's own or a shared one.

Keys, limits and the bill are the router's, so behind every door stands a router and never an engine: there is no door
at which a model answers strangers. The objects are the same for all endpoints of a tenant, and hold no secret.

| mode | clients enter at | the objects are in | they lead to |
|---|---|---|---|
| layer | our routers | nowhere | |
| tenant | a Gateway of the tenant's cluster | the tenant's cluster | our routers |
| shared | the provider's Gateway, imported | the tenant's cluster | our routers |
| bridge | the provider's Gateway | the host cluster | routers in the tenant's cluster, at its nodes |
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
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
GATEWAYS: Final = "gateway.networking.k8s.io"
NAMESPACE_MAX: Final = 63
NODE_PORT_MIN: Final = 30_000  # As an API server has it that was told nothing else.
NODE_PORT_MAX: Final = 32_767


class Mode(StrEnum):
    """Where clients enter."""

    LAYER = "layer"  # At the router itself: no objects.
    TENANT = "tenant"  # At a Gateway of the tenant's own cluster, with its own address and certificate.
    SHARED = "shared"  # At a Gateway of the provider that is imported into the tenant's cluster.
    BRIDGE = "bridge"  # At a Gateway of the provider, which reaches the nodes of a cluster from outside of it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One door. `routers` are addresses of routers, all of one family and port; none: nobody is let through.

    Of a bridge they are the nodes of the tenant's cluster, and the port is the NodePort of the routers that run there.
    """

    mode: Mode
    hostname: str
    name: str = "millrace"
    namespace: str = "inference"
    routers: tuple[str, ...] = ()
    router_port: int = 8800
    gateway_class: str = ""  # Of a tenant's Gateway.
    issuer: str = ""  # The cert-manager ClusterIssuer of its certificate; empty: somebody else writes the Secret.
    parent: str = ""  # The provider's Gateway, as <namespace>/<name>.
    project: str = ""  # Of a bridge: the Platform's project, and the tenant cluster in it.
    cluster: str = ""

    @property
    def home(self) -> str:
        """The namespace that its objects are in: of a bridge the one in which the Platform keeps the tenant cluster."""
        return f"loft-{self.project}-v-{self.cluster}" if self.mode is Mode.BRIDGE else self.namespace


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the tenant's cluster: its internal address, and whether its kubelet says that it is Ready."""

    address: str
    is_ready: bool


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
    named = [NAME.fullmatch(each) is not None for each in door.parent.split("/")]
    if door.mode in (Mode.SHARED, Mode.BRIDGE) and named != [True, True]:
        yield "parent", f"{door.parent!r} is no Gateway: say <namespace>/<name> of the provider's"
    if door.mode is Mode.BRIDGE:
        yield from _of_bridge(door)


def _of_bridge(door: Door) -> Iterator[tuple[str, str]]:
    for field, text in (("project", door.project), ("cluster", door.cluster)):
        if NAME.fullmatch(text) is None:
            yield field, f"{text!r} names nothing on the Platform: say where the nodes are"
    if len(door.home) > NAMESPACE_MAX:
        yield "cluster", f"{door.home!r} is longer than the {NAMESPACE_MAX} of a namespace"
    if not door.issuer:
        yield "issuer", "name cert-manager's ClusterIssuer: the certificate is asked for beside the listener"
    if not NODE_PORT_MIN <= door.router_port <= NODE_PORT_MAX:
        yield "router_port", f"{door.router_port} is no NodePort: these are {NODE_PORT_MIN} to {NODE_PORT_MAX}"


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
        case Mode.BRIDGE:
            listeners: Json = {"group": GATEWAYS, "kind": "ListenerSet", "name": door.name}
            return (_service(door), _slice(door), _certificate(door), _listeners(door), _route(door, listeners))


def addresses_of(nodes: Iterable[Node]) -> tuple[str, ...]:
    """Where a bridge may lead: the nodes that are Ready.

    One that is not, or of which nobody has heard for a while, is left out: its address may be another's by now.
    """
    return tuple(sorted(each.address for each in nodes if each.is_ready and each.address))


def _object(door: Door, version: str, kind: str, *, labels: Json | None = None, notes: Json | None = None) -> Json:
    metadata: Json = {"name": door.name, "namespace": door.home, "labels": {**LABELS, **(labels or {})}}
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
    head = _object(door, f"{GATEWAYS}/v1", "Gateway", notes=notes)
    return {**head, "spec": {"gatewayClassName": door.gateway_class, "listeners": [_listener(door)]}}


def _listener(door: Door) -> Json:
    return {
        "name": "https",
        "protocol": "HTTPS",
        "port": 443,
        "hostname": door.hostname,
        "tls": {"mode": "Terminate", "certificateRefs": [{"kind": "Secret", "name": f"{door.name}-tls"}]},
        "allowedRoutes": {"namespaces": {"from": "Same"}},
    }


def _listeners(door: Door) -> Json:
    """A listener more of the provider's Gateway, whose `allowedListeners` has to let this namespace in."""
    namespace, _, name = door.parent.partition("/")
    parent: Json = {"group": GATEWAYS, "kind": "Gateway", "namespace": namespace, "name": name}
    head = _object(door, f"{GATEWAYS}/v1", "ListenerSet")
    return {**head, "spec": {"parentRef": parent, "listeners": [_listener(door)]}}


def _certificate(door: Door) -> Json:
    issuer: Json = {"group": "cert-manager.io", "kind": "ClusterIssuer", "name": door.issuer}
    spec: Json = {"secretName": f"{door.name}-tls", "dnsNames": [door.hostname], "issuerRef": issuer}
    return {**_object(door, "cert-manager.io/v1", "Certificate"), "spec": spec}


def _route(door: Door, parent: Json) -> Json:
    rule: Json = {
        "matches": [{"path": {"type": "PathPrefix", "value": SURFACE}}],
        "backendRefs": [{"name": door.name, "port": PORT}],
        "timeouts": {"request": "0s"},  # The router knows when an answer takes too long; a stream may take minutes.
    }
    spec: Json = {"parentRefs": [parent], "hostnames": [door.hostname], "rules": [rule]}
    return {**_object(door, f"{GATEWAYS}/v1", "HTTPRoute"), "spec": spec}
