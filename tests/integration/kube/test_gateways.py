"""The objects of a door in front of the router, judged by a real API server: strictly, and applied twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from services.router.core.gateways import objects
from services.runtime_deployer.core.plan import Apply
from services.runtime_deployer.shell.connections import APPLY, Reply
from services.runtime_deployer.shell.kubernetes import KubernetesClusters
from tests.integration.kube.crds import gateway_definitions, installed
from tests.integration.kube.deployer import ANY, Deployer
from tests.integration.kube.running import Kube
from tests.unit.router.test_gateways import BRIDGE, SHARED, TENANT
from tests.unit.runtime_deployer.tiers import rendered, tiers

pytestmark = [pytest.mark.kube, pytest.mark.xdist_group("kube")]

PLURALS: Final = {
    "Service": "services",
    "EndpointSlice": "endpointslices",
    "Certificate": "certificates",
    "ListenerSet": "listenersets",
    "Gateway": "gateways",
    "HTTPRoute": "httproutes",
}
DOORS: Final = {"tenant": TENANT, "shared": SHARED, "bridge": BRIDGE}


@pytest.fixture(scope="module")
def operator(kube: Kube) -> Iterator[Deployer]:
    """An operator of a cluster that has Gateway API's kinds."""
    one = Deployer(kube)
    with installed(one, gateway_definitions()):
        KubernetesClusters(one.connections).apply(Apply(ANY, rendered(tiers()["h100-dedicated"], "vllm@1")[0]))
        home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": BRIDGE.home}}
        assert one.ask("PATCH", f"/api/v1/namespaces/{BRIDGE.home}", home, APPLY, fieldManager="operator").is_ok
        yield one
    one.connections.close()


def apply(one: Deployer, body: Any, **query: str) -> Reply:
    group = body["apiVersion"]
    place = f"/{'api' if '/' not in group else 'apis'}/{group}/namespaces/{body['metadata']['namespace']}"
    path = f"{place}/{PLURALS[body['kind']]}/{body['metadata']['name']}"
    return one.ask("PATCH", path, body, APPLY, fieldManager="millrace", fieldValidation="Strict", **query)


@pytest.mark.parametrize("name", sorted(DOORS))
def test_every_object_of_a_door_passes_a_strict_dry_run_and_one_field_too_many_does_not(
    operator: Deployer, name: str
) -> None:
    for body in objects(DOORS[name]):
        answer = apply(operator, body, dryRun="All")
        assert answer.is_ok, answer
        spec = body.get("spec")
        refused = apply(
            operator,
            {**body, "spec": {**spec, "noSuchField": 1}} if isinstance(spec, dict) else {**body, "noSuchField": 1},
            dryRun="All",
        )
        assert not refused.is_ok, body["kind"]
        assert "noSuchField" in str(refused.body), refused


@pytest.mark.parametrize("name", ["tenant", "bridge"])
def test_a_door_that_is_applied_again_changes_nothing_and_without_routers_has_no_address(
    operator: Deployer, name: str
) -> None:
    door = DOORS[name]
    first = [apply(operator, body).body for body in objects(door)]
    again = [apply(operator, body).body for body in objects(door)]
    shut = [apply(operator, body).body for body in objects(replace(door, routers=()))]

    versions = [each["metadata"]["resourceVersion"] for each in first]
    assert versions == [each["metadata"]["resourceVersion"] for each in again]
    assert [len(each.get("endpoints") or ()) for each in (first[1], shut[1])] == [2, 0]
