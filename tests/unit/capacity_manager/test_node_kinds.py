"""Three kinds of nodes, one model: what we may remove of each, and what of our own machines is there to be had."""

from __future__ import annotations

from typing import Any, Final

import pytest

from libs.common.clock import ManualClock
from libs.common.events.capacity import CapacityWaiting
from libs.common.units import MINUTE_MS
from libs.twin.fake_engines import FakeEngines
from libs.twin.options import DEFAULT_KEY, NODE_TYPES, TwinOptions
from libs.twin.world import World
from services.capacity_manager.core.node_kinds import (
    HANDLING,
    Afterwards,
    Hardware,
    Host,
    HostState,
    NodeKind,
    TenantNode,
    hardware,
    joined_by_hand,
    kind_of,
)
from services.capacity_manager.core.observed import HandNode, NodeTypeSeen
from services.capacity_manager.core.plan import DeleteCluster, LetNodeGo, plan
from services.capacity_manager.shell.platform import fleet, readings
from tests.unit.capacity_manager.builders import REMOVED, Bench, a_cluster, a_node, deletion, held, requested

HOSTS: Final = "/kubernetes/cluster/loft-cluster/apis/metal3.io/v1alpha1/namespaces/metal3-system/baremetalhosts"
ROOT: Final = "/kubernetes/management/apis/management.loft.sh/v1"
KEY: Final = {"authorization": f"Bearer {DEFAULT_KEY}", "content-type": "application/json"}


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        ("metal3", NodeKind.OWNED_METAL),
        ("bcm", NodeKind.OWNED_METAL),
        ("terraform", NodeKind.CLOUD),
        ("kubeVirt", NodeKind.CLOUD),
        ("clusterAPI", NodeKind.CLOUD),
        ("something", None),
    ],
)
def test_the_block_of_a_provider_says_which_kind_its_nodes_are(block: str, kind: NodeKind | None) -> None:
    assert kind_of({"displayName": "x", block: {}, "properties": None}) is kind
    assert kind_of({"displayName": "x", block: None}) is None


def test_no_claim_and_no_machine_is_ever_ours_to_delete_and_only_a_node_joined_by_hand_goes_by_its_node() -> None:
    assert not any(each.may_delete_claim or each.may_delete_machine for each in HANDLING.values())
    assert [kind for kind, each in HANDLING.items() if each.gives_back == "node"] == [NodeKind.BY_HAND]
    assert [kind for kind, each in HANDLING.items() if not each.is_replaced] == [NodeKind.BY_HAND]
    assert [kind for kind, each in HANDLING.items() if each.may_resize_pool] == [NodeKind.OWNED_METAL, NodeKind.CLOUD]
    assert [each.afterwards for each in HANDLING.values()] == [
        Afterwards.AVAILABLE,
        Afterwards.DESTROYED,
        Afterwards.KEPT,
    ]


def test_a_node_is_joined_by_hand_only_if_nothing_says_that_a_claim_stands_for_it() -> None:
    nodes = [
        TenantNode("box-1", "u1"),
        TenantNode("ep-abc-x1", "u2"),
        TenantNode("odd", "u3", claim="pool"),
        TenantNode("typed", "u4", node_type="metal3.gpu-h100"),
    ]

    assert [each.name for each in joined_by_hand(nodes, ["ep-abc-x1"])] == ["box-1"]


def test_a_node_joined_by_hand_is_left_alone_while_its_cluster_is_wanted_and_let_go_before_it_is_deleted() -> None:
    bench = held(Bench())
    by_hand = (HandNode(name="box-1", uid="u1"),)
    bench.see(cluster=a_cluster(), nodes=[a_node("n0")])
    wanted = bench.last_seen.model_copy(update={"by_hand": by_hand})
    assert plan(bench.claim, wanted, bench.now_ms) == ()
    bench.hear(deletion(), generation=2, sequence=2)
    bench.hear(REMOVED, generation=2)
    bench.see(cluster=a_cluster(), nodes=[a_node("n0")])

    given_back = plan(bench.claim, bench.last_seen.model_copy(update={"by_hand": by_hand}), bench.now_ms)

    assert given_back == (
        LetNodeGo("mr-acme-prod", "ep-abc", "box-1", "u1"),
        DeleteCluster("mr-acme-prod", "ep-abc", "uid-1"),
    )


@pytest.mark.parametrize(
    ("provisioning", "operational", "state"),
    [
        ("registering", "OK", HostState.COMING),
        ("inspecting", "OK", HostState.COMING),
        ("preparing", "OK", HostState.COMING),
        ("available", "OK", HostState.AVAILABLE),
        ("available", "error", HostState.BROKEN),
        ("available", "detached", HostState.BROKEN),
        ("provisioning", "OK", HostState.IN_USE),
        ("provisioned", "error", HostState.IN_USE),
        ("deprovisioning", "OK", HostState.COMING),
        ("unheard-of", "OK", HostState.BROKEN),
    ],
)
def test_what_a_host_can_do_follows_from_what_it_says(provisioning: str, operational: str, state: HostState) -> None:
    assert Host("h", {}, provisioning, operational, is_on=True).state is state


def test_only_hosts_that_a_node_type_selects_stand_behind_it_and_the_ones_that_are_off_are_counted_as_such() -> None:
    mine = {"gpu-model": "h100", "gpu-count": "8"}
    hosts = [
        Host("a", {**mine, "rack": "r2"}, "available", "OK", is_on=False),
        Host("b", {**mine, "rack": "r1"}, "available", "OK", is_on=True),
        Host("c", {**mine, "rack": "r1"}, "provisioned", "OK", is_on=True),
        Host("d", {"gpu-model": "h100"}, "available", "OK", is_on=False),
    ]

    assert hardware(hosts, mine) == Hardware(available=2, off=1, in_use=1, racks=("r1", "r2"))


def test_who_waits_is_told_what_it_waits_for_with_provider_rack_reservation_and_cost() -> None:
    bench = Bench()
    bench.hear(requested())
    sight = NodeTypeSeen(
        is_known=True, free=0, gpus=8, cost=82_496, provider="metal3", rack="r1", reservation="cr-7"
    )  # fmt: skip
    bench.see(node_type=sight)

    (waiting,) = [each for each in bench.told if isinstance(each, CapacityWaiting)]
    assert "metal3.gpu-h100 (of metal3, rack r1, reservation cr-7, cost 82,496 a node) wanted" in waiting.message
    bench.see(node_type=sight.model_copy(update={"free": 1}))
    assert bench.claim.chosen == "of metal3, rack r1, reservation cr-7, cost 82,496 a node"


class Rig:
    """The twin with two machines of our own, asked as over HTTP."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        h100 = NODE_TYPES[0].model_copy(update={"capacity": 2, "properties": {"rack": "r1", "reservation": "cr-7"}})
        self.world = World(self.clock, TwinOptions(time_scale=0.01, node_types=(h100, NODE_TYPES[1])), FakeEngines())

    def ask(self, method: str, path: str, body: bytes = b"{}") -> Any:
        return self.world.request(method, path, {}, KEY, body).json()

    def hosts(self) -> list[str]:
        return [fleet.host_of(each).provisioning for each in self.ask("GET", HOSTS)["items"]]

    def a_cluster(self) -> None:
        self.ask("POST", f"{ROOT}/projects", b'{"metadata": {"name": "p"}, "spec": {}}')
        self.clock.advance(MINUTE_MS)
        body = (
            b'{"metadata": {"name": "c"}, "spec": {"templateRef": {"name": "inference-h100", "version": "1.0.0"}, '
            b'"clusterRef": {"cluster": "eu-1"}, "parameters": "gpuQuantity: 1\\nnodeType: metal3.gpu-h100\\n"}}'
        )
        self.ask("POST", f"{ROOT}/namespaces/p-p/virtualclusterinstances", body)

    def until(self, *states: str) -> None:
        for _ in range(200):
            if self.hosts() == list(states):
                return
            self.clock.advance(100)
        raise AssertionError(f"{self.hosts()} never are {states}")


def test_a_machine_of_our_own_goes_through_the_documented_states_behind_its_claim_and_is_available_again() -> None:
    rig = Rig()
    assert rig.hosts() == ["available", "available"]
    assert not fleet.host_of(rig.ask("GET", HOSTS)["items"][0]).is_on

    rig.a_cluster()
    rig.until("provisioning", "available")
    rig.until("provisioned", "available")
    used = rig.ask("GET", HOSTS)["items"][0]
    assert (used["spec"]["consumerRef"]["kind"], used["status"]["poweredOn"]) == ("NodeClaim", True)
    rig.ask("DELETE", f"{ROOT}/namespaces/p-p/virtualclusterinstances/c")
    rig.until("deprovisioning", "available")
    rig.until("available", "available")


def test_a_machine_that_nobody_let_go_dials_a_control_plane_that_is_gone() -> None:
    rig = Rig()
    rig.a_cluster()
    rig.until("provisioned", "available")
    script = rig.ask("POST", f"{ROOT}/namespaces/p-p/virtualclusterinstances/c/joinscript", b'{"spec": {}}')
    assert script["status"]["joinCommand"].startswith("curl -fsSLk ")
    rig.world.machines.join(("p", "c"), "box-1", gpus=4, profile="gpu")

    nodes = rig.ask("GET", "/kubernetes/project/p/virtualcluster/c/api/v1/nodes")["items"]
    known = [each["metadata"]["name"] for each in rig.ask("GET", f"{ROOT}/namespaces/p-p/nodeclaims")["items"]]
    assert [each.name for each in joined_by_hand(readings.tenant_nodes(nodes), known)] == ["box-1"]
    rig.ask("DELETE", f"{ROOT}/namespaces/p-p/virtualclusterinstances/c")

    assert rig.world.machines.dialing == {"box-1"}
