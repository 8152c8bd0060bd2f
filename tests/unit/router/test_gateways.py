"""Doors in front of the router: their objects, what is refused with its field, and that none leads to an engine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import yaml

from services.router.core.gateways import PORT, Door, Mode, Node, addresses_of, objects, problems
from services.router.shell.edge.server import SERVING_PAGE
from services.router.shell.gateways import main
from services.router.shell.settings import RouterSettings

SERVICES: Final = Path(__file__).parents[3] / "deploy/k8s/base/services.yaml"
ROUTERS: Final = ("10.0.0.7", "10.0.0.5")
TENANT: Final = Door(
    mode=Mode.TENANT, hostname="api.acme.example", routers=ROUTERS, gateway_class="envoy", issuer="letsencrypt-dns"
)
SHARED: Final = Door(mode=Mode.SHARED, hostname="*.eu-1.example", routers=ROUTERS, parent="ingress/public")
BRIDGE: Final = Door(
    mode=Mode.BRIDGE, hostname="api.acme.example", routers=("10.8.0.4", "10.8.0.3"), router_port=30_880,
    parent="ingress/public", project="acme", cluster="mr-acme-main", issuer="letsencrypt-dns",
)  # fmt: skip
DOORS: Final = {
    "tenant": TENANT,
    "shared": SHARED,
    "bridge": BRIDGE,
    "layer": Door(mode=Mode.LAYER, hostname="api.example"),
}
GOLDEN: Final = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["tenant", "shared", "bridge"])
def test_a_door_is_what_the_golden_file_says(name: str) -> None:
    text = yaml.safe_dump_all(objects(DOORS[name]), sort_keys=False)

    assert text == (GOLDEN / f"door-{name}.yaml").read_text()


@pytest.mark.parametrize("name", sorted(DOORS))
def test_behind_every_door_stands_a_router_and_nothing_that_a_selector_could_find(name: str) -> None:
    made = {str(each["kind"]): yaml.safe_dump(each) for each in objects(DOORS[name])}
    if name == "layer":
        assert made == {}
        return

    service, addresses, route = (yaml.safe_load(made[kind]) for kind in ("Service", "EndpointSlice", "HTTPRoute"))

    assert "selector" not in service["spec"]
    assert [each["addresses"] for each in addresses["endpoints"]] == [[each] for each in sorted(DOORS[name].routers)]
    assert addresses["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"]
    assert [rule["backendRefs"] for rule in route["spec"]["rules"]] == [[{"name": "millrace", "port": PORT}]]


@pytest.mark.parametrize("door", [TENANT, BRIDGE], ids=["tenant", "bridge"])
def test_a_door_without_routers_keeps_no_address(door: Door) -> None:
    _, addresses, *_ = objects(replace(door, routers=()))

    assert addresses["endpoints"] == []


def test_a_bridge_leads_to_nodes_that_are_ready_and_to_no_other() -> None:
    nodes = (Node("10.8.0.4", is_ready=True), Node("10.8.0.9", is_ready=False), Node("", is_ready=True))

    assert addresses_of(nodes) == ("10.8.0.4",)
    assert addresses_of(nodes[1:]) == ()


@pytest.mark.parametrize(
    ("door", "field"),
    [
        (replace(TENANT, hostname="API.acme.example"), "hostname"),
        (replace(TENANT, hostname="10.0.0.1:80"), "hostname"),
        (replace(TENANT, hostname="a.*.example"), "hostname"),
        (replace(TENANT, routers=("router.example",)), "routers"),
        (replace(TENANT, routers=("10.0.0.5", "fd00::5")), "routers"),
        (replace(TENANT, router_port=0), "router_port"),
        (replace(TENANT, gateway_class=""), "gateway_class"),
        (replace(TENANT, namespace="a/b"), "namespace"),
        (replace(SHARED, parent="public"), "parent"),
        (replace(SHARED, parent="a/b/c"), "parent"),
        (replace(BRIDGE, parent=""), "parent"),
        (replace(BRIDGE, project="Acme"), "project"),
        (replace(BRIDGE, cluster=""), "cluster"),
        (replace(BRIDGE, cluster="c" * 60), "cluster"),
        (replace(BRIDGE, issuer=""), "issuer"),
        (replace(BRIDGE, router_port=8800), "router_port"),
    ],
)
def test_a_door_that_cannot_be_is_refused_with_its_field(door: Door, field: str) -> None:
    assert [each for each, _ in problems(door)] == [field]


def test_the_command_prints_what_can_be_applied_and_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["tenant", "--hostname", "api.acme.example", "--gateway-class", "envoy", "--router", "10.0.0.5"]

    done, printed = main(asked), capsys.readouterr().out
    refused, said = main([*asked[:2], "nobody", *asked[3:]]), capsys.readouterr()

    assert (done, [each["kind"] for each in yaml.safe_load_all(printed)]) == (
        0, ["Service", "EndpointSlice", "Gateway", "HTTPRoute"],
    )  # fmt: skip
    assert (refused, said.out, said.err.partition(":")[0]) == (2, "", "hostname")


def test_the_tiers_route_is_taken_and_another_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiers.yaml").write_text("tiers: [{name: own, route: bridge}, {name: plain}]")
    (tmp_path / "nodes.json").write_text(
        json.dumps({"items": [a_node("10.8.0.3"), a_node("10.8.0.4", ready="Unknown")]})
    )
    where = ["--catalogue", str(tmp_path), "--hostname", "api.acme.example"]
    bridge = ["--parent", "ingress/public", "--project", "acme", "--cluster", "mr-acme", "--issuer", "le"]
    nodes = ["--nodes", str(tmp_path / "nodes.json"), "--router-port", "30880"]

    done, printed = main(["--tier", "own", *where, *bridge, *nodes]), capsys.readouterr().out
    refused = [main(each) for each in (["tenant", "--tier", "own", *where], ["--tier", "no", *where], where)]
    said = capsys.readouterr().err.splitlines()

    made = {each["kind"]: each for each in yaml.safe_load_all(printed)}
    assert (done, list(made)) == (0, ["Service", "EndpointSlice", "Certificate", "ListenerSet", "HTTPRoute"])
    assert made["EndpointSlice"]["endpoints"] == [{"addresses": ["10.8.0.3"], "conditions": {"ready": True}}]
    assert {each["metadata"]["namespace"] for each in made.values()} == {"loft-acme-v-mr-acme"}
    assert (refused, [each.partition(":")[0] for each in said]) == ([2, 2, 2], ["mode", "--tier", "mode"])


def a_node(address: str, *, ready: str = "True") -> dict[str, object]:
    """A node as Kubernetes lists it."""
    addresses = [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": address}]
    return {"status": {"conditions": [{"type": "Ready", "status": ready}], "addresses": addresses}}


def test_pods_of_routers_get_clients_by_what_they_serve_and_not_by_the_bus() -> None:
    manifests = yaml.safe_load_all(SERVICES.read_text())
    router = next(each for each in manifests if (each["kind"], each["metadata"]["name"]) == ("Deployment", "router"))
    spec = router["spec"]["template"]["spec"]
    (container,) = spec["containers"]

    assert container["readinessProbe"]["httpGet"] == {"path": SERVING_PAGE, "port": "admin"}
    waits_s = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    ends_s = RouterSettings(usage_db="u", database_url="sqlite://", nats_url="nats://n").end_within_s
    assert waits_s + ends_s < spec["terminationGracePeriodSeconds"]
