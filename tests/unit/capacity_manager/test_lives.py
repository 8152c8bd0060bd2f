"""A claim over pauses, repairs and changes: each life tells its facts once, and nothing is left of the one before."""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest
from hypothesis import given, settings

from libs.common.events.capacity import CapacityReleased, NodeJoined, NodeReleased
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.reconciler import Refused
from services.capacity_manager.core.lifecycle import Stage, stage_of
from services.capacity_manager.core.observed import GpuNode
from services.capacity_manager.core.placement import wanted_by
from services.capacity_manager.core.plan import DeleteCluster, EnsureCluster, ResizeCluster, plan
from services.capacity_manager.core.question import question_of
from tests.unit.capacity_manager.builders import (
    PLACEMENT,
    REMOVED,
    Bench,
    a_cluster,
    a_node,
    an_envelope,
    deletion,
    failure,
    held,
    pause,
    requested,
    runs,
    scaled,
)
from tests.unit.capacity_manager.test_disorder import shuffled

THE_WAY: Final = [
    "capacity.queued",
    "capacity.reserved",
    "capacity.cluster_ready",
    "capacity.nodes_joined",
    "capacity.gpu_ready",
]


def given_back(bench: Bench) -> Bench:
    """The bench after two looks that found nothing."""
    bench.see()
    bench.wake()
    bench.see()
    return bench


def paused(bench: Bench, *, generation: int = 2) -> Bench:
    """The bench of a held claim that gave everything back for a pause."""
    bench.hear(pause(), generation=generation, sequence=10 * generation)
    bench.hear(REMOVED, generation=generation, sequence=10 * generation)
    return given_back(bench)


def with_everything(bench: Bench, *names: str, generation: int = 1) -> None:
    """Two looks at a cluster that has these nodes and their GPUs."""
    nodes = [a_node(name) for name in names]
    gpus = tuple(GpuNode(name=name, gpus=8) for name in names)
    for _ in range(2):
        bench.see(cluster=a_cluster(len(names), generation=generation), nodes=nodes, gpu_nodes=gpus)


def facts_told(bench: Bench) -> list[str]:
    return [kind for kind in bench.kinds() if kind.startswith("capacity.") and kind != "capacity.waiting"]


def test_a_pause_gives_everything_back_and_says_so_for_its_generation() -> None:
    bench = held(Bench())
    bench.hear(pause(), generation=2, sequence=2)
    assert stage_of(bench.claim) is Stage.RELEASING
    bench.hear(REMOVED, generation=2)
    bench.see()
    bench.wake()

    decision = bench.see()

    assert CapacityReleased() in decision.events
    assert decision.generation == 2
    assert (bench.gpus, bench.claim.reservation, stage_of(bench.claim)) == (0, None, Stage.RELEASED)
    assert len(bench.of(NodeReleased)) == 1


def test_a_resume_claims_anew_and_tells_every_fact_once_more() -> None:
    bench = paused(held(Bench()))
    bench.told.clear()

    bench.hear(requested(), generation=3, sequence=30)
    bench.see()
    with_everything(bench, "n7", generation=3)

    assert facts_told(bench) == THE_WAY
    assert bench.gpus == 8
    assert [each.claim for each in bench.of(NodeJoined)] == ["n7"]  # type: ignore[attr-defined]  # Of the kind asked for.


def test_a_resume_while_the_cluster_is_still_deleted_waits_for_it_and_makes_another() -> None:
    bench = held(Bench())
    bench.hear(pause(), generation=2, sequence=2)
    bench.hear(REMOVED, generation=2)
    bench.see(cluster=a_cluster(deleting=True), nodes=[a_node("n0")])
    bench.told.clear()

    bench.hear(requested(), generation=3, sequence=3)
    seen = bench.see(cluster=a_cluster(deleting=True), nodes=[a_node("n0")])
    assert [each.kind for each in seen.events] == ["capacity.reserved"]
    assert bench.gpus == 8
    bench.see()
    bench.wake()
    bench.see()
    with_everything(bench, "n1", generation=3)

    assert facts_told(bench) == THE_WAY
    assert "capacity.released" not in bench.kinds()
    assert bench.gpus == 8


def test_what_is_on_its_way_out_is_not_touched_and_then_made_anew() -> None:
    bench = held(Bench())
    bench.hear(pause(), generation=2, sequence=2)
    bench.hear(REMOVED, generation=2)
    bench.see(cluster=a_cluster(), nodes=[a_node("n0")])
    actions = []
    for cluster in (a_cluster(), a_cluster(deleting=True), None):
        seen = bench.see(cluster=cluster, nodes=[a_node("n0")] if cluster else [])
        actions.append([type(each) for each in plan(seen.state, bench.last_seen, bench.now_ms)])
        bench.hear(requested(), generation=3, sequence=3)

    assert actions == [[DeleteCluster], [], [EnsureCluster]]


def test_a_resume_before_anything_is_given_back_keeps_it_and_tells_anew() -> None:
    bench = held(Bench())
    bench.hear(pause(), generation=2, sequence=2)
    bench.told.clear()

    bench.hear(requested(), generation=3, sequence=3)
    with_everything(bench, "n0")

    assert facts_told(bench) == THE_WAY
    assert not bench.of(NodeJoined)
    assert not bench.of(NodeReleased)
    assert bench.gpus == 8


def test_a_pause_that_comes_after_the_resume_that_followed_it_still_asks_for_all_facts_anew() -> None:
    bench = held(Bench())
    bench.hear(requested(), generation=3, sequence=3)
    with_everything(bench, "n0")
    bench.told.clear()

    bench.hear(pause(), generation=2, sequence=2)
    with_everything(bench, "n0")

    assert not bench.claim.is_unwanted
    assert facts_told(bench) == THE_WAY


@pytest.mark.parametrize(
    "news",
    [
        [(pause(), 2), (requested(), 3)],
        [(requested(), 3), (pause(), 2)],
        [(failure(), 1), (requested(), 2)],
    ],
)
def test_what_begins_a_life_asks_for_another_look_though_nothing_changed_there(news: list[tuple[Event, int]]) -> None:
    bench = held(Bench())
    before = question_of(bench.claim)

    for event, generation in news:
        bench.hear(event, generation=generation, sequence=10 + generation)

    assert question_of(bench.claim) != before


def test_a_mere_update_tells_nothing_anew() -> None:
    bench = held(Bench())
    bench.told.clear()

    bench.hear(requested(), generation=2, sequence=2)
    with_everything(bench, "n0")

    assert bench.told == []


def test_a_repair_after_a_refusal_tries_again_with_all_facts() -> None:
    bench = Bench()
    bench.hear(requested())
    bench.take(an_envelope(Refused(action="", code="TemplateUnknown", message="as it is")))
    assert bench.kinds() == ["capacity.queued", "capacity.failed"]
    bench.hear(failure(), generation=1, sequence=2)
    bench.told.clear()

    bench.hear(requested(), generation=2, sequence=3)
    bench.see()
    with_everything(bench, "n0", generation=2)

    assert facts_told(bench) == THE_WAY


def test_a_repair_that_fails_again_says_so_again() -> None:
    bench = Bench()
    bench.hear(requested())
    bench.take(an_envelope(Refused(action="", code="TemplateUnknown", message="as it is")))
    bench.hear(failure(), generation=1, sequence=2)
    bench.hear(requested(), generation=2, sequence=3)

    decision = bench.take(an_envelope(Refused(action="", code="TemplateUnknown", message="as it is")))

    assert [each.kind for each in decision.events] == ["capacity.failed"]
    assert decision.generation == 2


def test_a_raised_least_is_honoured_above_what_was_decided() -> None:
    bench = held(Bench())
    bench.hear(scaled(1))

    bench.hear(requested(fewest=3), generation=2, sequence=2)
    bench.see(cluster=a_cluster(), nodes=[a_node("n0")])

    assert wanted_by(bench.claim) == 3
    assert bench.gpus == 24


def test_a_lowered_most_gives_nodes_back_once_the_runtime_needs_them_no_more() -> None:
    bench = held(Bench(), fewest=3)
    bench.hear(runs(3))
    bench.hear(requested(fewest=1, most=1), generation=2, sequence=2)
    nodes = [a_node(f"n{each}") for each in range(3)]
    assert wanted_by(bench.claim) == 3

    bench.hear(runs(1), generation=2, sequence=2)
    seen = bench.see(cluster=a_cluster(3), nodes=nodes)
    assert [type(each) for each in plan(seen.state, bench.last_seen, bench.now_ms)] == [ResizeCluster]
    bench.see(cluster=a_cluster(1), nodes=nodes[:1])
    bench.wake()
    bench.see(cluster=a_cluster(1), nodes=nodes[:1])

    assert bench.gpus == 8


def test_what_was_decided_and_ran_before_a_pause_says_nothing_of_the_next_life() -> None:
    bench = held(Bench(), fewest=1)
    bench.hear(scaled(4))
    bench.hear(runs(4))
    paused(bench)

    bench.hear(requested(), generation=3, sequence=30)
    bench.hear(scaled(5), generation=1, sequence=5)
    bench.hear(runs(5), generation=1, sequence=5)
    assert wanted_by(bench.claim) == 1

    bench.hear(scaled(2), generation=3, sequence=6)
    assert wanted_by(bench.claim) == 2


def test_quota_is_held_of_the_machines_it_was_taken_of_until_all_is_given_back() -> None:
    other = requested().model_copy(
        update={"placement": PLACEMENT.model_copy(update={"node_type": "metal3.gpu-l40s", "gpus_per_node": 4})}
    )
    bench = held(Bench())

    bench.hear(other, generation=2, sequence=2)
    assert bench.claim.placement is not None
    assert bench.claim.placement.node_type == PLACEMENT.node_type
    paused(bench, generation=3)
    bench.hear(other, generation=4, sequence=40)

    assert bench.claim.placement.node_type == "metal3.gpu-l40s"


@pytest.mark.parametrize("end", [pause(), failure()])
def test_a_deletion_ends_a_claim_from_every_end(end: Event) -> None:
    bench = held(Bench())
    bench.hear(end, generation=2, sequence=2)
    bench.hear(REMOVED, generation=2)
    given_back(bench)

    decision = bench.hear(deletion(), generation=3, sequence=3)

    assert [type(each) for each in decision.events] == [CapacityReleased]
    assert decision.generation == 3


def test_a_node_that_joins_again_under_its_old_name_is_told_again() -> None:
    bench = paused(held(Bench()))
    bench.hear(requested(), generation=3, sequence=30)
    bench.see()
    bench.now_ms += 60_000

    bench.see(cluster=a_cluster(), nodes=[a_node("n0", joined_at_ms=bench.now_ms - 1_000)])

    assert [type(each) for each in bench.told if isinstance(each, NodeJoined | NodeReleased)] == [
        NodeJoined,
        NodeReleased,
        NodeJoined,
    ]


HISTORY: Final = (
    an_envelope(requested(), generation=1, sequence=1),
    an_envelope(pause(), generation=2, sequence=2),
    an_envelope(requested(), generation=3, sequence=3),
    an_envelope(failure(), generation=3, sequence=4),
    an_envelope(requested(fewest=2), generation=4, sequence=5),
    an_envelope(requested(fewest=2, most=4), generation=5, sequence=6),
    an_envelope(REMOVED, generation=2, sequence=1),
    an_envelope(REMOVED, generation=3, sequence=2),
)


@settings(max_examples=80, deadline=None)
@given(shuffled(HISTORY))
def test_whatever_order_a_history_comes_in_the_last_life_is_lived_whole(events: list[Envelope]) -> None:
    bench = Bench()
    told_by_generation: Counter[tuple[int, str]] = Counter()
    for step in events:
        decision = bench.take(step)
        told_by_generation.update((decision.generation, each.kind) for each in decision.events)
        if not bench.claim.is_unwanted and bench.claim.spec is not None:
            wanted = wanted_by(bench.claim)
            nodes = [a_node(f"n{each}") for each in range(wanted)]
            gpus = tuple(GpuNode(name=node.name, gpus=8) for node in nodes)
            for _ in range(3):
                seen = bench.see(cluster=a_cluster(wanted), nodes=nodes, gpu_nodes=gpus)
                told_by_generation.update((seen.generation, each.kind) for each in seen.events)

    assert not bench.claim.is_unwanted
    assert bench.gpus == 16
    last = {kind: max(gen for gen, each in told_by_generation if each == kind) for kind in THE_WAY}
    assert all(generation >= 4 for generation in last.values()), last
