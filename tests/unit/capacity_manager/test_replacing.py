"""A node is replaced: another comes first where there is one, what runs on it moves, and only then it goes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from libs.common.errors import Rejected
from libs.common.events.capacity import (
    CapacityDrifted,
    NodeDraining,
    NodeLost,
    NodeReleased,
    NodeReplaced,
    NodeReplacementRequested,
    NodeUsed,
)
from services.capacity_manager.core.lifecycle import attention_of
from services.capacity_manager.core.node_actions import CordonNode, RetireNode, RollTemplate
from services.capacity_manager.core.node_list import node_rows
from services.capacity_manager.core.observed import GpuNode, MachineSeen, NodeSeen, NodeTypeSeen, Observed
from services.capacity_manager.core.plan import ResizeCluster, plan
from services.capacity_manager.core.question import question_of
from services.capacity_manager.core.replacing import DRAIN_MS, REPLACEMENTS_MAX, SURGE_MS, ReplaceNode
from services.capacity_manager.core.rolling import RollCluster
from services.capacity_manager.core.state import Claim
from tests.unit.capacity_manager.builders import (
    READY_PROJECT,
    RULES,
    Bench,
    a_cluster,
    a_machine,
    a_node,
    an_envelope,
    deletion,
    held,
)

ORDER = ReplaceNode(node="n0", reason="driver 570", actor="operator:jane")


@dataclass
class World:
    """A cluster as its Platform shows it, and a claim that has it."""

    bench: Bench = field(default_factory=lambda: held(Bench()))
    free: int = 1
    quantity: int = 1
    nodes: list[NodeSeen] = field(default_factory=lambda: [a_node("n0")])
    machines: list[MachineSeen] = field(default_factory=lambda: [a_machine("n0")])
    pods: int = 1
    template: str = "inference-h100@1.0.0"
    refusal: str = ""

    def look(self) -> list[object]:
        """A look, and what is done because of it."""
        bench = self.bench
        question = question_of(bench.claim)
        bench.last_seen = Observed(
            question=question,
            project=READY_PROJECT,
            cluster=a_cluster(self.quantity, refusal=self.refusal).model_copy(update={"template": self.template}),
            nodes=tuple(self.nodes),
            node_type=NodeTypeSeen(is_known=True, free=self.free) if question.room else None,
            gpu_nodes=tuple(GpuNode(name=each.name, gpus=8) for each in self.machines if each.is_ready),
            machines=tuple(self.machines),
            pods=self.pods if question.node else None,
        )
        bench.take(an_envelope(bench.last_seen))
        return list(plan(bench.claim, bench.last_seen, bench.now_ms))

    def join(self, name: str) -> None:
        self.nodes.append(a_node(name))
        self.machines.append(a_machine(name))

    def leave(self, name: str) -> None:
        self.nodes = [each for each in self.nodes if each.name != name]
        self.machines = [each for each in self.machines if each.name != name]

    def cordon(self, name: str) -> None:
        self.machines = [a_machine(each.name, cordoned=each.name == name) for each in self.machines]

    def told(self, *kinds: type[object]) -> list[object]:
        return [each for each in self.bench.told if isinstance(each, kinds)]


def asked(world: World, order: ReplaceNode = ORDER) -> World:
    world.look()
    world.bench.take(an_envelope(order))
    return world


def gone(world: World) -> None:
    """Two looks that do not find it."""
    world.look()
    world.bench.now_ms += RULES.confirm_gone_ms
    world.bench.wake()
    world.look()


def test_with_a_spare_machine_another_node_stands_ready_before_the_old_one_drains() -> None:
    world = asked(World())

    (grow,) = world.look()
    assert isinstance(grow, ResizeCluster)
    assert grow.nodes == 2
    world.quantity = 2
    assert world.look() == [], "the new one has not joined"
    world.join("n1")
    (cordon,) = world.look()
    assert isinstance(cordon, CordonNode)
    assert cordon.name == "n0"
    world.cordon("n0")
    assert world.look() == [], "something still runs on it"
    world.pods = 0
    (shrink,) = world.look()
    assert isinstance(shrink, ResizeCluster)
    assert shrink.nodes == 1
    world.quantity = 1
    world.leave("n0")
    gone(world)

    (draining,) = world.told(NodeDraining)
    (ended,) = world.told(NodeReplaced)
    assert isinstance(draining, NodeDraining)
    assert isinstance(ended, NodeReplaced)
    assert (draining.node, draining.surges) == ("n0", True)
    assert (ended.outcome, ended.actor) == ("replaced", "operator:jane")
    assert world.told(NodeLost, CapacityDrifted) == []
    assert [type(each) for each in world.told(NodeUsed, NodeReleased)] == [NodeUsed, NodeReleased]
    assert world.bench.gpus == 8, "the tenant's quota is not what an operator's replacement takes"


def test_a_pool_that_gave_back_another_node_has_the_old_one_retired() -> None:
    world = asked(World())
    world.look()
    world.quantity = 2
    world.join("n1")
    world.look()
    world.cordon("n0")
    world.pods = 0
    world.look()
    world.quantity = 1
    world.leave("n1")

    actions = world.look()

    assert [type(each) for each in actions] == [RetireNode]


def test_without_a_spare_machine_the_old_one_drains_first_and_goes_when_it_is_empty() -> None:
    world = asked(World(free=0))

    (cordon,) = world.look()
    assert isinstance(cordon, CordonNode)
    world.cordon("n0")
    assert world.look() == []
    world.pods = 0
    (retire,) = world.look()
    assert isinstance(retire, RetireNode)
    assert (retire.name, retire.uid) == ("n0", "uid-n0")
    world.leave("n0")
    gone(world)
    assert world.told(NodeReplaced) == [], "no other one is there yet"
    world.join("n1")
    world.look()

    assert len(world.told(NodeReplaced)) == 1
    assert world.told(NodeLost) == [], "nobody lost it"


def test_a_spare_machine_that_does_not_come_in_time_is_not_waited_for() -> None:
    world = asked(World())
    world.look()
    world.quantity = 2

    world.bench.now_ms += SURGE_MS
    actions = world.look()

    assert {type(each) for each in actions} == {CordonNode, ResizeCluster}


def test_a_node_that_does_not_become_empty_goes_at_its_deadline_and_that_is_said() -> None:
    world = asked(World(free=0))
    world.look()
    world.cordon("n0")

    world.look()
    assert world.bench.wake_at_ms is not None
    world.bench.now_ms += DRAIN_MS
    (retire,) = world.look()
    assert isinstance(retire, RetireNode)
    world.leave("n0")
    gone(world)
    world.join("n1")
    world.look()

    (ended,) = world.told(NodeReplaced)
    assert isinstance(ended, NodeReplaced)
    assert ended.outcome == "drained_late"


def test_nodes_of_a_cluster_are_replaced_one_after_another() -> None:
    world = World(bench=held(Bench(), fewest=2), quantity=2, free=0)
    world.join("n1")
    asked(world)
    world.bench.take(an_envelope(ReplaceNode(node="n1", reason="driver 570", actor="operator:jane")))

    actions = world.look()

    assert [each.name for each in actions if isinstance(each, CordonNode)] == ["n0"]
    requests = [
        each.ahead for each in world.told(NodeReplacementRequested) if isinstance(each, NodeReplacementRequested)
    ]
    assert requests == [0, 1]
    states = {each.node: each.state for each in node_rows([world.bench.claim], [])}
    assert states == {"n0": "to be replaced: draining", "n1": "to be replaced: preparing"}


def test_an_endpoint_that_is_deleted_meanwhile_ends_its_replacements() -> None:
    world = asked(World(free=0))
    world.look()

    world.bench.hear(deletion(), generation=2, sequence=2)
    world.look()

    (ended,) = world.told(NodeReplaced)
    assert isinstance(ended, NodeReplaced)
    assert ended.outcome == "unwanted"
    assert world.bench.claim.replacements == ()


def test_what_can_not_be_replaced_is_refused_and_asked_twice_is_asked_once() -> None:
    world = asked(World())
    before = world.bench.claim

    world.bench.take(an_envelope(ORDER))
    assert world.bench.claim == before

    with pytest.raises(Rejected, match="has no node n7"):
        world.bench.take(an_envelope(ReplaceNode(node="n7", reason="x", actor="y")))
    with pytest.raises(Rejected, match="pool"):
        Bench(claim=Claim(world.bench.claim.id, found=world.bench.claim.machines)).take(an_envelope(ORDER))
    assert REPLACEMENTS_MAX > 1


def test_a_claim_with_a_replacement_under_way_is_followed_closely() -> None:
    world = World()
    world.look()
    at_rest = attention_of(world.bench.claim)

    world.bench.take(an_envelope(ORDER))

    assert attention_of(world.bench.claim) > at_rest


def test_a_cluster_is_rolled_to_another_version_and_then_its_nodes_one_by_one() -> None:
    world = World(bench=held(Bench(), fewest=2), quantity=2, free=0)
    world.join("n1")
    world.look()
    order = RollCluster(template="inference-h100@1.1.0", reason="template 1.1.0", actor="operator:jane")
    world.bench.take(an_envelope(order))

    (roll,) = world.look()
    assert isinstance(roll, RollTemplate)
    assert (roll.template, roll.version) == ("inference-h100", "1.1.0")
    world.template = "inference-h100@1.1.0"
    world.look()
    assert world.told(NodeReplacementRequested) == [], "the Platform may refuse it yet"
    world.look()

    requests = world.told(NodeReplacementRequested)
    assert [each.claim for each in requests if isinstance(each, NodeReplacementRequested)] == ["n0", "n1"]
    world.look()
    assert len(world.told(NodeReplacementRequested)) == 2


def test_a_version_that_the_platform_refuses_rolls_no_node() -> None:
    world = World()
    world.look()
    world.bench.take(an_envelope(RollCluster(template="inference-h100@9.9.9", reason="x", actor="y")))
    world.template, world.refusal = "inference-h100@9.9.9", "TemplateUnknown"

    for _ in range(4):
        world.look()

    assert world.told(NodeReplacementRequested) == []


def test_a_roll_to_another_template_or_to_no_version_is_refused() -> None:
    world = World()
    for template in ("inference-l40s@1.1.0", "inference-h100"):
        with pytest.raises(Rejected):
            world.bench.take(an_envelope(RollCluster(template=template, reason="x", actor="y")))
