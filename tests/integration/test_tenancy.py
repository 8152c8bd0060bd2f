"""The four tenancy models on the twin, with our own cluster templates: who shares what with whom, and who sees what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from libs.common.events.capacity import CapacityFailed, ClusterReady, NodeJoined, PoolDrawn
from libs.common.events.endpoint import EndpointDeletionRequested, EndpointRequested, EndpointSpec, NodeChoice, Scaling
from libs.common.service import Service
from libs.common.units import MINUTE_MS
from libs.twin.inprocess import WorldTransport
from libs.twin.options import DEFAULT_KEY, FEATURES
from services.capacity_manager.core.decide import Rules
from services.capacity_manager.core.lifecycle import Stage
from services.capacity_manager.core.pools import PoolRules
from services.capacity_manager.core.warmth import Warm
from services.capacity_manager.service import build
from services.capacity_manager.shell.platform import Platform, PlatformClient
from services.capacity_manager.shell.ports import Ports
from services.capacity_manager.shell.templates import read_templates
from services.endpoint_api.shell.catalogue import read_catalogue
from tests.integration.test_capacity_manager_twin import NOTHING, OPTIONS, Rig
from tests.unit.capacity_manager.builders import REMOVED

CATALOGUE: Final = read_catalogue(Path(__file__).parents[2] / "deploy" / "catalogue")
TEMPLATES: Final = read_templates()
RULES: Final = Rules(gpus_per_tenant_max=32, confirm_gone_ms=1_000, quota_retry_ms=400)
ROOT: Final = "/kubernetes/management/apis/management.loft.sh/v1"
COUNTER: Final = "gpus/{}/terraform.gpu-l40s"


@dataclass
class Provider(Rig):
    """The rig of one claim, with our templates, and endpoints of several tenants in any tier of the catalogue."""

    rules: Rules = RULES
    pools: PoolRules = PoolRules(confirm_gone_ms=1_000, grace_ms=4_000)  # noqa: RUF009  # Frozen.

    def start(self) -> Service:
        client = PlatformClient(
            url="http://twin", key_file=self.key_file, transport=WorldTransport(self.world, self.crash)
        )
        platform = Platform(client, templates=TEMPLATES)
        return build(Ports(self.store, self.clock, platform, self.rules, pools=self.pools, resync_ms=1_000))

    def request(self, endpoint: str, tier: str, tenant: str, *, replicas: int = 1, generation: int = 1) -> None:
        spec = EndpointSpec(
            model="millrace/ngram-1", tier=tier, region="eu-1", scaling=Scaling(min=replicas, max=replicas)
        )
        wanted = EndpointRequested(
            tenant_id=tenant, project_id="prod", name=endpoint, spec=spec, placement=CATALOGUE.resolve(spec)
        )
        self.hear(wanted, generation=generation, sequence=generation, subject=endpoint)

    def delete(self, endpoint: str, tenant: str, *, generation: int = 2) -> None:
        gone = EndpointDeletionRequested(tenant_id=tenant, project_id="prod", drain_deadline_ms=0)
        self.hear(gone, generation=generation, sequence=generation, subject=endpoint)
        self.hear(REMOVED, generation=generation, subject=endpoint)

    def held(self, *endpoints: str) -> None:
        self.until(lambda: all(self.stage(each) is Stage.HELD for each in endpoints))

    def released(self, *endpoints: str) -> None:
        self.until(lambda: all(self.stage(each) is Stage.RELEASED for each in endpoints))

    def clusters(self) -> list[tuple[str, str]]:
        return sorted((each["project"], each["name"]) for each in self.inventory()["clusters"])

    def nodes(self) -> list[str]:
        return sorted(each["cluster"] for each in self.inventory()["nodes"])

    def quota(self, tenant: str) -> int:
        return self.store.counter(COUNTER.format(tenant))

    def home(self, endpoint: str) -> tuple[str, str]:
        """What runtime-deployer is told."""
        (found,) = {
            (each.data.platform_project, each.data.cluster)
            for each in self.told()
            if isinstance(each.data, ClusterReady) and each.subject == endpoint
        }
        return found

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        client = httpx.Client(base_url="http://twin", transport=WorldTransport(self.world))
        return client.request(method, path, json=body, headers={"authorization": f"Bearer {DEFAULT_KEY}"})


@pytest.fixture
def provider(tmp_path: Path) -> Provider:
    return Provider(tmp_path / "key")


def test_with_private_nodes_each_endpoint_has_a_cluster_and_nodes_of_its_own(provider: Provider) -> None:
    provider.request("ep-a", "h100-private", "acme")
    provider.request("ep-b", "h100-private", "acme")
    provider.held("ep-a", "ep-b")

    assert provider.clusters() == [("mr-acme-prod", "ep-a"), ("mr-acme-prod", "ep-b")]
    assert provider.nodes() == ["mr-acme-prod/ep-a", "mr-acme-prod/ep-b"]


def test_a_tenant_s_cluster_is_shared_by_its_endpoints_and_by_nobody_else_s(provider: Provider) -> None:
    for endpoint, tenant in (("ep-a", "acme"), ("ep-b", "acme"), ("ep-c", "globex")):
        provider.request(endpoint, "l40s-tenant", tenant)
    provider.held("ep-a", "ep-b", "ep-c")

    assert provider.clusters() == [("mr-acme-prod", "sc-l40s-tenant-eu-1"), ("mr-globex-prod", "sc-l40s-tenant-eu-1")]
    assert provider.nodes() == [*["mr-acme-prod/sc-l40s-tenant-eu-1"] * 2, "mr-globex-prod/sc-l40s-tenant-eu-1"]
    assert provider.home("ep-a") == provider.home("ep-b") != provider.home("ep-c")


def test_the_shared_pool_is_one_cluster_for_all_and_each_tenant_pays_quota_for_its_own_replicas(
    provider: Provider,
) -> None:
    provider.request("ep-a", "l40s-shared", "acme", replicas=2)
    provider.request("ep-b", "l40s-shared", "globex")
    provider.held("ep-a", "ep-b")

    assert provider.clusters() == [("mr-pool", "sc-l40s-shared-eu-1")]
    assert len(provider.nodes()) == 3
    assert (provider.quota("acme"), provider.quota("globex")) == (2, 1)
    starts = {each.subject for each in provider.told() if isinstance(each.data, NodeJoined)}
    assert starts == {"sc-l40s-shared-eu-1"}, "the time of nodes of all is their pool's"


def test_the_pool_follows_the_shares_and_the_last_one_out_turns_off_the_light(provider: Provider) -> None:
    provider.request("ep-a", "l40s-shared", "acme", replicas=2)
    provider.request("ep-b", "l40s-shared", "globex")
    provider.held("ep-a", "ep-b")

    provider.request("ep-a", "l40s-shared", "acme", replicas=1, generation=2)
    provider.until(lambda: len(provider.nodes()) == 2)
    provider.delete("ep-b", "globex")
    provider.released("ep-b")
    assert provider.clusters() == [("mr-pool", "sc-l40s-shared-eu-1")], "ep-a is still in it"
    assert (provider.quota("acme"), provider.quota("globex")) == (1, 0)
    provider.until(lambda: len(provider.nodes()) == 1)

    provider.delete("ep-a", "acme", generation=3)
    provider.released("ep-a")
    assert provider.clusters() == [("mr-pool", "sc-l40s-shared-eu-1")], "it waits a while for whoever comes next"
    assert provider.quota("acme") == 0
    provider.until(lambda: provider.inventory() == NOTHING)


def test_all_that_leave_at_once_leave_nothing_and_who_comes_meanwhile_is_served(provider: Provider) -> None:
    endpoints = [f"ep-{letter}" for letter in "abcd"]
    for each in endpoints:
        provider.request(each, "l40s-shared", "acme")
    provider.held(*endpoints)

    for each in endpoints:
        provider.delete(each, "acme")
    provider.step()
    provider.request("ep-late", "l40s-shared", "globex")
    provider.released(*endpoints)
    provider.held("ep-late")
    assert len(provider.nodes()) == 1
    provider.delete("ep-late", "globex")
    provider.released("ep-late")

    provider.until(lambda: provider.inventory() == NOTHING)


def test_a_class_without_room_is_passed_over_for_the_next_of_its_tier(provider: Provider) -> None:
    cloud = NodeChoice(node_type="terraform.gpu-l40s", gpus_per_node=1, cluster_template="inference-l40s@1.0.0")
    spec = EndpointSpec(model="millrace/ngram-1", tier="h100-private", region="eu-1")
    placement = CATALOGUE.resolve(spec).model_copy(update={"gpus_per_replica": 1, "fallbacks": (cloud,)})
    provider.world.set_faults({"capacity": {"metal3.gpu-h100": 0}})
    wanted = EndpointRequested(tenant_id="acme", project_id="prod", name="ep-a", spec=spec, placement=placement)

    provider.hear(wanted, subject="ep-a")
    provider.held("ep-a")

    assert [each["gpus"] for each in provider.inventory()["nodes"]] == [1]
    assert provider.quota("acme") == 1
    provider.delete("ep-a", "acme")
    provider.until(lambda: provider.inventory() == NOTHING)


def test_warm_nodes_stand_ready_and_whoever_comes_needs_no_new_one(tmp_path: Path) -> None:
    pools = PoolRules(confirm_gone_ms=1_000, grace_ms=4_000, warm={"l40s-shared": Warm(1)})
    provider = Provider(tmp_path / "key", pools=pools)
    provider.request("ep-a", "l40s-shared", "acme")
    provider.held("ep-a")
    provider.until(lambda: sum(each["ready"] for each in provider.inventory()["nodes"]) == 2)
    provider.step()
    provider.world.set_faults({"no_capacity": True})

    provider.request("ep-b", "l40s-shared", "globex")
    provider.held("ep-b")

    def drawn() -> list[tuple[int, int]]:
        return [(each.data.nodes, each.data.warm) for each in provider.told() if isinstance(each.data, PoolDrawn)]

    provider.until(lambda: drawn() == [(1, 0), (1, 1)])
    provider.delete("ep-a", "acme")
    provider.delete("ep-b", "globex")
    provider.until(lambda: provider.inventory() == NOTHING)


@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.chaos)])
def test_a_crash_at_any_moment_of_two_that_share_leaves_nothing(tmp_path: Path, stride: int) -> None:
    def live(rig: Provider) -> None:
        rig.request("ep-a", "l40s-tenant", "acme")
        rig.request("ep-b", "l40s-tenant", "acme")
        rig.held("ep-a", "ep-b")
        rig.delete("ep-a", "acme")
        rig.delete("ep-b", "acme")
        rig.released("ep-a", "ep-b")
        rig.until(lambda: rig.inventory() == NOTHING)

    whole = Provider(tmp_path / "key")
    live(whole)
    moments = whole.crash.count
    assert moments > 40, "a life without moments would prove nothing"

    for place in range(1, moments + 1, stride):
        rig = Provider(tmp_path / "key")
        rig.crash.place = rig.crash.count + place
        live(rig)
        assert rig.inventory() == NOTHING, f"crash at moment {place}"
        assert rig.quota("acme") == 0


def test_vnode_runs_each_pod_in_a_sandbox_and_needs_a_licence(tmp_path: Path) -> None:
    licensed = Provider(tmp_path / "key")
    licensed.request("ep-a", "l40s-sandboxed", "acme")
    licensed.held("ep-a")
    project, cluster = licensed.home("ep-a")
    proxy = f"/kubernetes/project/{project}/virtualcluster/{cluster}"
    (runtime,) = licensed.ask("GET", f"{proxy}/apis/node.k8s.io/v1/runtimeclasses").json()["items"]
    assert (runtime["metadata"]["name"], runtime["handler"]) == ("vnode", "vnode")

    features = tuple(each for each in FEATURES if each != "vnode-runtime")
    without = Provider(tmp_path / "key", options=OPTIONS.model_copy(update={"features": features}))
    without.request("ep-a", "l40s-sandboxed", "acme")
    without.until(lambda: without.stage("ep-a") is Stage.FAILED)

    (failed,) = [each.data for each in without.told() if isinstance(each.data, CapacityFailed)]
    assert failed.reason == "LicenceMissing"
    assert "vnode-runtime" in failed.message


def test_every_cluster_denies_by_default_and_none_takes_anything_from_its_host(provider: Provider) -> None:
    tiers = ("h100-private", "l40s-tenant", "l40s-shared", "l40s-sandboxed")
    for tier in tiers:
        provider.request(f"ep-{tier}", tier, "acme")
    provider.held(*(f"ep-{tier}" for tier in tiers))

    for tier in tiers:
        project, cluster = provider.home(f"ep-{tier}")
        proxy = f"/kubernetes/project/{project}/virtualcluster/{cluster}"
        policies = provider.ask("GET", f"{proxy}/apis/networking.k8s.io/v1/namespaces/inference/networkpolicies")
        assert [each["metadata"]["name"] for each in policies.json()["items"]] == ["deny-by-default"]
        rendered = provider.ask("GET", f"{ROOT}/namespaces/p-{project}/virtualclusterinstances/{cluster}").json()
        assert "sync:" not in rendered["status"]["virtualCluster"]["helmRelease"]["values"]


def refusals(provider: Provider, attempts: Sequence[tuple[str, str, dict[str, Any] | None]]) -> list[int]:
    return [provider.ask(method, path, body).status_code for method, path, body in attempts]


def test_what_a_tenant_s_project_must_not_have_is_tried_and_refused(provider: Provider) -> None:
    provider.request("ep-a", "l40s-tenant", "acme")
    provider.request("ep-c", "l40s-tenant", "globex")
    provider.held("ep-a", "ep-c")
    mine = f"{ROOT}/namespaces/p-mr-acme-prod"

    def instance(**spec: Any) -> dict[str, Any]:
        return {"metadata": {"name": "more"}, "spec": {"parameters": "", **spec}}

    other_template = instance(templateRef={"name": "millrace-private-h100", "version": "1.0.0"})
    no_template = {"metadata": {"name": "claim"}, "spec": {"providerRef": "metal3", "typeRef": "metal3.gpu-h100"}}

    assert refusals(
        provider,
        [
            ("POST", f"{mine}/virtualclusterinstances", other_template),  # A template of another tier.
            ("POST", f"{mine}/nodeclaims", no_template),  # A node type of another tier.
            ("GET", "/kubernetes/project/mr-acme-prod/virtualcluster/ep-c/api/v1/nodes", None),  # Somebody's cluster.
            ("GET", "/kubernetes/project/mr-nobody/virtualcluster/ep-a/api/v1/nodes", None),  # Nobody's project.
            ("GET", "/kubernetes/cluster/loft-cluster/api/v1/nodes", None),  # The cluster underneath.
        ],
    ) == [403, 403, 404, 404, 404]
    types = provider.ask("GET", f"{ROOT}/projects/mr-acme-prod/nodetypes").json()["nodeTypes"]
    templates = provider.ask("GET", f"{ROOT}/projects/mr-acme-prod/templates").json()["virtualClusterTemplates"]
    assert [each["metadata"]["name"] for each in types] == ["terraform.gpu-l40s"]
    assert [each["metadata"]["name"] for each in templates] == ["millrace-tenant-l40s"]


def test_a_shared_cluster_under_a_foreign_hand_is_left_alone(provider: Provider) -> None:
    provider.request("ep-first", "l40s-tenant", "acme")
    provider.held("ep-first")
    foreign = {"metadata": {"name": "mr-pool", "labels": {"team": "them"}}, "spec": {}}
    assert provider.ask("POST", f"{ROOT}/projects", foreign).status_code == 201

    provider.request("ep-a", "l40s-shared", "acme")
    provider.until(lambda: provider.stage("ep-a") is Stage.FAILED, within_ms=MINUTE_MS)

    assert [each.data.reason for each in provider.told() if isinstance(each.data, CapacityFailed)] == ["NameTaken"]
    assert ("mr-pool", "sc-l40s-shared-eu-1") not in provider.clusters()
