"""A node of a shared cluster is replaced: all who are in it move, sandboxes fit where they go, and a theft is told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import pytest

from libs.common.errors import Rejected
from libs.common.events.capacity import (
    CapacityDrifted,
    NodeDraining,
    NodeLost,
    NodeReleased,
    NodeReplaced,
    NodeReplacementRequested,
    NodeUse,
)
from libs.common.store.port import Attention
from libs.common.units import MINUTE_MS, SECOND_MS
from services.capacity_manager.core.node_actions import CordonNode, RetireNode, RollTemplate
from services.capacity_manager.core.observed import GpuNode, HandNode, MachineSeen, NodeSeen
from services.capacity_manager.core.plan import DeleteCluster, LetNodeGo, SetWarm
from services.capacity_manager.core.pools import PoolCluster, PoolRules, PoolSeen, attention_of
from services.capacity_manager.core.replacing import DRAIN_MS, SURGE_MS, ReplaceNode
from services.capacity_manager.core.rolling import RollCluster
from services.capacity_manager.core.state import Step
from services.capacity_manager.core.vnode import Image, Sandboxes
from tests.unit.capacity_manager.a_pool import EMPTY, POOL_RULES, PoolBench, a_pool_cluster
from tests.unit.capacity_manager.builders import a_machine, a_node

ORDER: Final = ReplaceNode(node="n0", reason="driver 570", actor="operator:jane")
COLD: Final = PoolRules(confirm_gone_ms=POOL_RULES.confirm_gone_ms, grace_ms=POOL_RULES.grace_ms)
TEMPLATE: Final = "sandbox@1.0.0"
FIT: Final = Image(kernel="6.8.0-49-generic", containerd="2.0.5")


def sandboxed(image: Image) -> PoolRules:
    return replace(COLD, sandboxes=Sandboxes(frozenset({"l40s-shared"}), {TEMPLATE: image}))


@dataclass
class World:
    """A shared cluster as its Platform shows it, two endpoints in it, and its pool."""

    bench: PoolBench = field(default_factory=lambda: PoolBench(rules=COLD))
    free: int | None = 1
    cluster: PoolCluster = field(
        default_factory=lambda: a_pool_cluster("ep-a", "ep-b", quantity=1).model_copy(update={"template": TEMPLATE})
    )
    nodes: list[NodeSeen] = field(default_factory=lambda: [a_node("n0")])
    machines: list[MachineSeen] = field(default_factory=lambda: [a_machine("n0")])
    pods: int = 2
    is_licensed: bool = True
    has_runtime_class: bool = True

    def look(self) -> list[object]:
        """A look, and what is done because of it."""
        job = self.bench.pool.replacement
        seen = PoolSeen(
            look=self.bench.pool.look,
            cluster=self.cluster,
            nodes=tuple(self.nodes),
            free=self.free,
            machines=tuple(self.machines) if job else None,
            gpu_nodes=tuple(GpuNode(name=each.name, gpus=1) for each in self.machines),
            node=job.node if job and job.step is Step.DRAINING else "",
            pods=self.pods if job and job.step is Step.DRAINING else None,
            is_licensed=self.is_licensed,
            has_runtime_class=self.has_runtime_class,
        )
        return list(self.bench.look(seen))

    def become(self, **changes: object) -> None:
        self.cluster = self.cluster.model_copy(update=changes)

    def join(self, name: str, image: Image = FIT) -> None:
        self.bench.now_ms += SECOND_MS
        self.nodes.append(a_node(name))
        named = {"kernel": image.kernel, "containerd": image.containerd}
        self.machines.append(a_machine(name).model_copy(update=named))

    def leave(self, name: str) -> None:
        self.nodes = [each for each in self.nodes if each.name != name]
        self.machines = [each for each in self.machines if each.name != name]

    def cordon(self, name: str) -> None:
        changed = [
            each.model_copy(update={"is_cordoned": True}) if each.name == name else each for each in self.machines
        ]
        self.machines = changed

    def gone(self) -> None:
        self.look()
        self.bench.wake()
        self.look()

    def ended(self) -> NodeReplaced:
        (ended,) = self.bench.of(NodeReplaced)
        assert isinstance(ended, NodeReplaced)
        return ended


def asked(world: World) -> World:
    world.look()
    world.bench.take(ORDER)
    return world


def test_with_a_free_machine_the_pool_grows_and_everybody_moves_before_the_old_node_goes() -> None:
    world = asked(World())
    assert attention_of(world.bench.pool) is Attention.NOW

    assert world.look() == [SetWarm("mr-pool", "sc-a", 1)]
    world.become(quantity=2, warm=1)
    assert world.look() == [], "the new one has not joined"
    world.join("n1")
    assert world.look() == [CordonNode("mr-pool", "sc-a", "n0")]
    world.cordon("n0")
    assert world.look() == [], "somebody still runs on it"
    world.pods = 0
    assert world.look() == [SetWarm("mr-pool", "sc-a", 0)]
    world.become(quantity=1, warm=0)
    world.leave("n0")
    world.gone()

    (draining,) = world.bench.of(NodeDraining)
    assert (draining.node, draining.surges, draining.endpoints) == ("n0", True, ("ep-a", "ep-b"))
    assert world.ended().outcome == "replaced"
    assert [each.claim for each in world.bench.of(NodeReleased)] == ["n0"]
    assert world.bench.of(NodeLost) == []
    assert world.bench.uses() == {"n0": NodeUse.DRAINING, "n1": NodeUse.SERVING}
    assert attention_of(world.bench.pool) is Attention.WATCH


def test_without_a_free_machine_the_old_node_drains_first_and_goes_when_it_is_empty() -> None:
    world = asked(World(free=0))

    assert world.look() == [CordonNode("mr-pool", "sc-a", "n0")]
    world.cordon("n0")
    assert world.look() == []
    world.pods = 0
    assert world.look() == [RetireNode("mr-pool", "sc-a", "n0", "uid-n0")]
    world.leave("n0")
    world.gone()
    assert world.bench.of(NodeReplaced) == [], "no other one is there yet"
    world.join("n1")
    world.look()

    assert world.ended().outcome == "replaced"
    assert world.bench.of(NodeLost) == [], "nobody lost it"


def test_a_node_that_stands_warm_takes_over_at_once_and_another_one_becomes_warm() -> None:
    world = World(bench=PoolBench(rules=POOL_RULES))
    world.become(quantity=3, warm=2)
    world.join("n1")
    world.join("n2")
    asked(world)

    assert [type(each) for each in world.look()] == [CordonNode, SetWarm]


def test_who_comes_while_a_node_drains_is_told_too_and_nobody_twice() -> None:
    world = asked(World(free=0))
    world.look()
    world.cordon("n0")

    world.become(sharers=("ep-a", "ep-b", "ep-c"), quantity=2)
    world.look()
    world.look()

    assert [each.endpoints for each in world.bench.of(NodeDraining)] == [("ep-a", "ep-b"), ("ep-c",)]


def test_a_machine_that_does_not_come_in_time_and_a_node_that_is_not_empty_in_time_hold_nobody_up() -> None:
    world = asked(World())
    world.look()
    world.become(quantity=2, warm=1)
    world.bench.now_ms += SURGE_MS
    assert world.look() == [CordonNode("mr-pool", "sc-a", "n0"), SetWarm("mr-pool", "sc-a", 0)]
    world.become(quantity=1, warm=0)
    world.cordon("n0")

    assert world.bench.wake_at_ms is not None
    world.bench.now_ms += DRAIN_MS
    assert world.look() == [RetireNode("mr-pool", "sc-a", "n0", "uid-n0")]
    world.leave("n0")
    world.gone()
    world.join("n1")
    world.look()

    assert world.ended().outcome == "drained_late"


def test_what_can_not_be_replaced_in_a_pool_is_refused_and_a_cluster_that_goes_ends_it() -> None:
    world = asked(World())
    with pytest.raises(Rejected, match="has no node n7"):
        world.bench.take(ORDER.model_copy(update={"node": "n7"}))
    world.bench.take(ORDER)
    assert len(world.bench.of(NodeReplacementRequested)) == 1, "asked twice is asked once"

    world.become(is_deleting=True)
    world.look()

    assert world.ended().outcome == "unwanted"


def test_a_shared_cluster_is_rolled_and_then_its_nodes_one_after_another() -> None:
    world = World(free=0)
    world.join("n1")
    world.become(quantity=2)
    world.look()
    world.bench.take(RollCluster(template="sandbox@1.1.0", reason="OS image", actor="operator:jane"))

    assert world.look() == [RollTemplate("mr-pool", "sc-a", "sandbox", "1.1.0")]
    world.become(template="sandbox@1.1.0")
    world.look()
    actions = world.look() + world.look()

    assert [each.claim for each in world.bench.of(NodeReplacementRequested)] == ["n0", "n1"]
    assert CordonNode("mr-pool", "sc-a", "n0") in actions
    assert CordonNode("mr-pool", "sc-a", "n1") not in actions
    with pytest.raises(Rejected, match="not of other"):
        world.bench.take(RollCluster(template="other@1.1.0", reason="x", actor="y"))


@pytest.mark.parametrize(
    ("image", "changes", "code"),
    [
        (Image(kernel="5.15.0", containerd="2.0"), {}, "VNodeKernelTooOld"),
        (Image(kernel="6.8", containerd="1.6"), {}, "VNodeContainerdUnsupported"),
        (Image(kernel="6.8", containerd="2.1"), {}, "VNodeContainerdUnsupported"),
        (Image(), {"free": 0}, "VNodeImageUnknown"),
        (FIT, {"is_licensed": False}, "VNodeUnlicensed"),
        (FIT, {"has_runtime_class": False}, "VNodeRuntimeClassMissing"),
    ],
)
def test_where_sandboxes_would_not_start_nothing_is_cordoned_and_the_reason_has_an_offer(
    image: Image, changes: dict[str, int], code: str
) -> None:
    world = asked(World(bench=PoolBench(rules=sandboxed(image)), **changes))  # type: ignore[arg-type]

    assert world.look() == []

    assert world.ended().outcome == "refused"
    reason, _, offer = world.ended().message.partition("; ")
    assert reason.startswith(f"{code}: ")
    assert offer
    assert world.bench.of(NodeDraining) == []
    assert world.bench.uses() == {"n0": NodeUse.SERVING}


def test_a_new_machine_that_sandboxes_can_t_run_on_is_given_back_and_the_old_node_stays() -> None:
    world = asked(World(bench=PoolBench(rules=sandboxed(Image()))))
    assert world.look() == [SetWarm("mr-pool", "sc-a", 1)], "nobody said what image it has: it can be looked at"
    world.become(quantity=2, warm=1)
    world.join("n1", Image(kernel="6.8.0", containerd="1.6.33"))

    assert world.look() == [SetWarm("mr-pool", "sc-a", 0)]

    assert world.ended().message.startswith("VNodeContainerdUnsupported: node n1 has containerd 1.6.33")


def test_an_old_kernel_is_no_hindrance_to_a_newer_one() -> None:
    world = World(bench=PoolBench(rules=sandboxed(Image())))
    world.machines = [a_machine("n0").model_copy(update={"kernel": "5.15.0", "containerd": "1.6"})]
    asked(world).look()
    world.become(quantity=2, warm=1)
    world.join("n1")

    assert world.look() == [CordonNode("mr-pool", "sc-a", "n0")]


def test_a_tier_without_sandboxes_is_not_asked_for_any() -> None:
    world = asked(World(free=0, is_licensed=False, has_runtime_class=False))

    assert world.look() == [CordonNode("mr-pool", "sc-a", "n0")]


def taken(bench: PoolBench) -> None:
    """A cluster with two nodes, one of them warm, that was there a minute ago and is not any more."""
    nodes = [a_node("n1"), a_node("n2")]
    bench.see(a_pool_cluster("ep-a", quantity=2, warm=1), nodes)
    bench.now_ms += MINUTE_MS
    bench.see(None)


def test_a_cluster_that_somebody_else_deleted_ends_its_nodes_time_when_it_is_missed_and_is_told() -> None:
    bench = PoolBench()
    taken(bench)
    missed_ms = bench.now_ms
    assert bench.of(CapacityDrifted) == [], "one look may be wrong"

    bench.wake()
    bench.see(None)

    assert [(each.claim, each.at_ms, each.reason) for each in bench.of(NodeLost)] == [
        ("n1", missed_ms, "ClaimGone"),
        ("n2", missed_ms, "ClaimGone"),
    ]
    assert [(each.claim, each.at_ms) for each in bench.of(NodeReleased)] == [("n1", missed_ms), ("n2", missed_ms)]
    (drift,) = bench.of(CapacityDrifted)
    assert (drift.cluster, drift.what, drift.wanted, drift.found) == ("sc-a", "cluster", "standing", "none")
    assert bench.pool.is_released


def test_a_cluster_that_is_made_anew_before_it_was_missed_is_another_and_the_nodes_of_the_first_are_lost() -> None:
    bench = PoolBench()
    bench.see(a_pool_cluster("ep-a", quantity=1), [a_node("n1")])
    again = a_pool_cluster("ep-a", quantity=1).model_copy(update={"uid": "uid-2"})

    bench.see(again, [a_node("n9")])
    bench.wake()
    bench.see(again, [a_node("n9")])

    assert [each.claim for each in bench.of(NodeLost)] == ["n1"]
    assert [each.claim for each in bench.of(NodeReleased)] == ["n1"]
    assert [each.found for each in bench.of(CapacityDrifted)] == ["another"]
    assert bench.uses()["n9"] is NodeUse.SERVING


def test_a_deletion_that_is_seen_under_way_is_told_once() -> None:
    bench = PoolBench()
    cluster = a_pool_cluster("ep-a", quantity=1)
    bench.see(cluster, [a_node("n1")])
    going = cluster.model_copy(update={"is_deleting": True})

    bench.see(going, [a_node("n1")])
    bench.see(going)
    bench.see(None)
    bench.wake()
    bench.see(None)

    assert [each.found for each in bench.of(CapacityDrifted)] == ["being deleted"]
    assert [each.claim for each in bench.of(NodeLost)] == ["n1"]


def test_a_cluster_that_we_end_is_neither_drifted_nor_are_its_nodes_lost() -> None:
    bench = PoolBench(rules=COLD)
    bench.see(a_pool_cluster("ep-a", quantity=1), [a_node("n1")])
    bench.see(EMPTY, [a_node("n1")])
    bench.now_ms += COLD.grace_ms
    assert bench.see(EMPTY, [a_node("n1")]) == (DeleteCluster("mr-pool", "sc-a", "uid-1", is_shared=True),)

    bench.see(None)
    bench.wake()
    bench.see(None)

    assert [each.claim for each in bench.of(NodeReleased)] == ["n1"]
    assert bench.of(CapacityDrifted) == []
    assert bench.of(NodeLost) == []


def test_nodes_that_people_joined_are_let_go_before_their_shared_cluster_and_not_while_somebody_is_in_it() -> None:
    bench = PoolBench(rules=COLD)
    hand = HandNode(name="desk-7", uid="uid-7")
    busy = a_pool_cluster("ep-a", quantity=0)
    assert bench.look(PoolSeen(look=1, cluster=busy, by_hand=(hand,))) == ()
    bench.see(EMPTY)
    bench.now_ms += COLD.grace_ms

    actions = bench.look(PoolSeen(look=1, cluster=EMPTY, by_hand=(hand,)))

    assert actions == (
        LetNodeGo("mr-pool", "sc-a", "desk-7", "uid-7", is_shared=True),
        DeleteCluster("mr-pool", "sc-a", "uid-1", is_shared=True),
    )
