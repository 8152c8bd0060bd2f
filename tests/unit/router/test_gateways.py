"""Doors in front of the router: their objects, what is refused with its field, and that none leads to an engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import yaml

from services.router.core.gateways import PORT, Door, Mode, objects, problems
from services.router.shell.gateways import main

ROUTERS: Final = ("10.0.0.7", "10.0.0.5")
TENANT: Final = Door(
    mode=Mode.TENANT, hostname="api.acme.example", routers=ROUTERS, gateway_class="envoy", issuer="letsencrypt-dns"
)
SHARED: Final = Door(mode=Mode.SHARED, hostname="*.eu-1.example", routers=ROUTERS, parent="ingress/public")
DOORS: Final = {"tenant": TENANT, "shared": SHARED, "layer": Door(mode=Mode.LAYER, hostname="api.example")}
GOLDEN: Final = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["tenant", "shared"])
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
    assert [each["addresses"] for each in addresses["endpoints"]] == [["10.0.0.5"], ["10.0.0.7"]]
    assert addresses["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"]
    assert [rule["backendRefs"] for rule in route["spec"]["rules"]] == [[{"name": "millrace", "port": PORT}]]


def test_a_door_without_routers_keeps_no_address() -> None:
    _, addresses, *_ = objects(replace(TENANT, routers=()))

    assert addresses["endpoints"] == []


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
