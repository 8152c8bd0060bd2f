"""Nodes that vanish behind our back are told of once, from when they stopped, and another one comes."""

from __future__ import annotations

from dataclasses import dataclass

from libs.common.events.capacity import CapacityDrifted, CapacityWaiting, NodeDrifted, NodeLost, NodeReleased, NodeUsed
from libs.common.units import MINUTE_MS, SECOND_MS
from services.capacity_manager.core.node_actions import RetireNode
from services.capacity_manager.core.node_loss import SILENT_MS, Loss
from services.capacity_manager.core.observed import MachineSeen, NodeSeen
from services.capacity_manager.core.plan import plan
from tests.unit.capacity_manager.builders import NOW, Bench, a_cluster, a_machine, a_node, deletion, held

FAILED = a_node("n0", joined=False, phase="Failed")


@dataclass
class Watched:
    """A claim that has its one node, seen Ready inside its cluster."""

    bench: Bench

    def look(self, nodes: tuple[NodeSeen, ...], machines: tuple[MachineSeen, ...] | None, after_ms: int = 0) -> None:
        self.bench.now_ms += after_ms
        self.bench.see(cluster=a_cluster(), nodes=nodes, machines=machines)

    @property
    def losses(self) -> list[tuple[str, str, int]]:
        found = [each for each in self.bench.told if isinstance(each, NodeLost)]
        return [(each.claim, each.reason, each.at_ms) for each in found]


def a_watched() -> Watched:
    watched = Watched(held(Bench()))
    watched.look((a_node("n0"),), (a_machine("n0"),))
    return watched


def test_a_claim_that_failed_after_it_joined_is_lost_since_the_platform_says_so() -> None:
    watched = a_watched()

    watched.look((FAILED.model_copy(update={"since_ms": NOW + 1_000}),), (), after_ms=4 * SECOND_MS)
    watched.look((FAILED,), (), after_ms=SECOND_MS)

    assert watched.losses == [("n0", Loss.CLAIM_FAILED, NOW + 1_000)]


def test_what_the_platform_says_of_before_it_joined_or_of_the_future_is_not_believed() -> None:
    early, late = a_watched(), a_watched()

    early.look((FAILED.model_copy(update={"since_ms": NOW - MINUTE_MS}),), ())
    late.look((FAILED.model_copy(update={"since_ms": NOW + MINUTE_MS}),), ())

    assert early.losses == [("n0", Loss.CLAIM_FAILED, NOW)]
    assert late.losses == [("n0", Loss.CLAIM_FAILED, NOW)]


def test_a_node_that_is_not_ready_for_long_is_lost_since_it_was_not() -> None:
    watched = a_watched()
    silent = a_machine("n0", ready=False, since_ms=NOW + 1_000)

    watched.look((a_node("n0"),), (silent,), after_ms=2 * SECOND_MS)
    assert watched.losses == []
    assert watched.bench.wake_at_ms == NOW + 1_000 + SILENT_MS
    watched.bench.wake()
    watched.look((a_node("n0"),), (silent,))

    assert watched.losses == [("n0", Loss.NODE_SILENT, NOW + 1_000)]
    waits = [each.reason for each in watched.bench.told if isinstance(each, CapacityWaiting)]
    assert waits == ["NodeLost"]
    actions = plan(watched.bench.claim, watched.bench.last_seen, watched.bench.now_ms)
    assert [(each.name, each.uid) for each in actions if isinstance(each, RetireNode)] == [("n0", "uid-n0")]


def test_a_node_that_blinks_is_not_lost() -> None:
    watched = a_watched()

    watched.look((a_node("n0"),), (a_machine("n0", ready=False, since_ms=NOW),))
    watched.look((a_node("n0"),), (a_machine("n0"),), after_ms=SILENT_MS - 1)
    watched.look((a_node("n0"),), None, after_ms=MINUTE_MS)

    assert watched.losses == []


def test_a_node_that_left_its_cluster_is_lost_at_the_second_look() -> None:
    watched = a_watched()

    watched.look((a_node("n0"),), ())
    assert watched.losses == []
    watched.bench.wake()
    watched.look((a_node("n0"),), ())

    assert watched.losses == [("n0", Loss.NODE_GONE, NOW)]


def test_a_cluster_that_does_not_answer_loses_nothing() -> None:
    watched = a_watched()

    for _ in range(3):
        watched.look((a_node("n0"),), None, after_ms=MINUTE_MS)

    assert watched.losses == []


def test_a_claim_that_went_unasked_is_lost_and_one_that_we_gave_back_is_not() -> None:
    unasked, asked = a_watched(), a_watched()

    unasked.look((), ())
    unasked.bench.wake()
    unasked.look((), ())
    asked.bench.hear(deletion(), generation=2, sequence=2)
    asked.look((), ())
    asked.bench.wake()
    asked.look((), ())

    assert unasked.losses == [("n0", Loss.CLAIM_GONE, NOW)]
    assert asked.losses == []
    assert [each.at_ms for each in asked.bench.told if isinstance(each, NodeReleased)] == [NOW]


def test_a_node_that_comes_back_is_paid_for_again() -> None:
    watched = a_watched()

    watched.look((a_node("n0"),), (a_machine("n0", ready=False, since_ms=NOW),), after_ms=SILENT_MS)
    watched.look((a_node("n0"),), (a_machine("n0"),), after_ms=SECOND_MS)

    assert watched.losses == [("n0", Loss.NODE_SILENT, NOW)]
    assert [each.at_ms for each in watched.bench.told if isinstance(each, NodeUsed)] == [NOW + SILENT_MS + SECOND_MS]


def test_a_node_behind_its_pool_is_told_of_once() -> None:
    watched = a_watched()
    behind = a_node("n0").model_copy(update={"drift": "another OS image"})

    watched.look((behind,), (a_machine("n0"),))
    watched.look((behind,), (a_machine("n0"),), after_ms=SECOND_MS)

    found = [each for each in watched.bench.told if isinstance(each, NodeDrifted)]
    assert [(each.claim, each.message, each.waiting_on) for each in found] == [("n0", "another OS image", "operator")]


def test_a_pool_that_somebody_else_resized_is_told_of_and_put_right() -> None:
    bench = held(Bench())

    bench.see(cluster=a_cluster(3), nodes=(a_node("n0"),), machines=(a_machine("n0"),))

    (told,) = [each for each in bench.told if isinstance(each, CapacityDrifted)]
    assert (told.what, told.wanted, told.found) == ("gpuQuantity", "1", "3")
    assert [type(each).__name__ for each in plan(bench.claim, bench.last_seen, NOW)] == ["ResizeCluster"]
