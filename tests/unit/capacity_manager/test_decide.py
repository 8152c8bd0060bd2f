"""What events and looks mean for a claim."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.common.decision import Take
from libs.common.events.capacity import (
    CapacityFailed,
    CapacityReleased,
    CapacityReserved,
    CapacityWaiting,
    GpuReady,
    NodeJoined,
    NodeReleased,
)
from libs.common.events.event import Event
from libs.common.reconciler import Refused
from libs.common.store.port import Attention
from services.capacity_manager.core.lifecycle import Stage, attention_of, stage_of
from services.capacity_manager.core.observed import GpuNode, NodeTypeSeen, ProjectSeen
from services.capacity_manager.core.placement import wanted_by
from tests.unit.capacity_manager.builders import (
    NOW,
    REMOVED,
    RULES,
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

FULL = NodeTypeSeen(is_known=True, free=0)
CONFIRM_MS = RULES.confirm_gone_ms


def reasons(bench: Bench) -> list[str]:
    return [each.reason for each in bench.told if isinstance(each, CapacityWaiting)]


def is_released(bench: Bench) -> bool:
    return bool(bench.of(CapacityReleased))


def test_a_claim_is_told_step_by_step_as_it_is_seen() -> None:
    bench = Bench()

    bench.hear(requested(fewest=2))
    bench.see(project=None)
    bench.see()
    bench.see(cluster=a_cluster(2, phase="Pending"))
    bench.see(cluster=a_cluster(2), nodes=[a_node("n1"), a_node("n2", joined=False)])
    bench.see(cluster=a_cluster(2), nodes=[a_node("n1"), a_node("n2")])
    bench.see(cluster=a_cluster(2), nodes=[a_node("n1"), a_node("n2")], gpu_nodes=(GpuNode(name="n1", gpus=8),))
    both = (GpuNode(name="n1", gpus=8), GpuNode(name="n2", gpus=8))
    bench.see(cluster=a_cluster(2), nodes=[a_node("n1"), a_node("n2")], gpu_nodes=both)

    assert bench.kinds() == [
        "capacity.queued",
        "capacity.reserved",
        "node.joined",
        "capacity.cluster_ready",
        "node.joined",
        "capacity.nodes_joined",
        "capacity.gpu_ready",
    ]
    assert stage_of(bench.claim) is Stage.HELD
    assert bench.gpus == 16
    assert bench.of(GpuReady)[0] == GpuReady(platform_project="mr-acme-prod", cluster="ep-abc", gpus=16)


def test_quota_is_taken_in_the_decision_that_reserves() -> None:
    bench = Bench()
    bench.hear(requested())

    decision = bench.see()

    assert decision.counters == (Take("gpus/acme/metal3.gpu-h100", 8, 64),)
    assert [type(each) for each in decision.events] == [CapacityReserved]


def test_a_claim_waits_for_capacity_and_says_so_once() -> None:
    bench = Bench()
    bench.hear(requested())

    for _ in range(3):
        bench.see(node_type=FULL)
    bench.see()

    assert reasons(bench) == ["NoCapacity"]
    assert bench.kinds()[-1] == "capacity.reserved"


def test_a_claim_that_the_quota_refuses_waits_and_asks_again_when_the_clock_says() -> None:
    bench = Bench(gpus=64)
    bench.hear(requested())

    bench.see()
    assert (stage_of(bench.claim), reasons(bench)) == (Stage.REQUESTED, ["QuotaExceeded"])
    assert bench.wake_at_ms == NOW + RULES.quota_retry_ms
    before = bench.claim
    bench.gpus = 56
    bench.wake()
    assert bench.claim.look > before.look, "the same sight must count again"
    bench.see()

    assert stage_of(bench.claim) is Stage.RESERVED
    assert bench.gpus == 64


def test_a_scale_up_that_the_quota_refuses_keeps_what_is_held() -> None:
    bench = held(Bench(rules=replace(RULES, gpus_per_tenant_max=8)))

    bench.hear(scaled(3))
    bench.see(cluster=a_cluster(1), nodes=[a_node("n0")])

    assert stage_of(bench.claim) is Stage.HELD
    assert (bench.gpus, reasons(bench)) == (8, ["QuotaExceeded"])
    bench.hear(scaled(1), sequence=2)
    bench.see(cluster=a_cluster(1), nodes=[a_node("n0")])
    assert reasons(bench) == ["QuotaExceeded", ""]


def test_a_scale_up_takes_more_quota_before_more_nodes_are_asked_for() -> None:
    bench = held(Bench())

    bench.hear(scaled(3))
    decision = bench.see(cluster=a_cluster(1), nodes=[a_node("n0")])

    assert decision.counters == (Take("gpus/acme/metal3.gpu-h100", 16, 64),)
    assert bench.gpus == 24


def test_a_scale_down_gives_back_only_what_two_looks_saw_gone() -> None:
    bench = held(Bench(), fewest=1)
    three = [a_node(f"n{each}") for each in range(3)]
    bench.hear(scaled(3))
    bench.see(cluster=a_cluster(1), nodes=three[:1])
    bench.see(cluster=a_cluster(3), nodes=three)

    bench.hear(scaled(1), sequence=2)
    bench.see(cluster=a_cluster(1), nodes=three)
    assert bench.gpus == 24
    bench.see(cluster=a_cluster(1), nodes=three[:1])
    assert (bench.gpus, bench.wake_at_ms) == (24, NOW + CONFIRM_MS)
    bench.wake()
    bench.see(cluster=a_cluster(1), nodes=three[:1])

    assert bench.gpus == 8
    assert [each for each in bench.told if isinstance(each, NodeReleased)] == [
        NodeReleased(claim="n1", at_ms=NOW),
        NodeReleased(claim="n2", at_ms=NOW),
    ]
    assert attention_of(bench.claim) is Attention.WATCH


def test_nodes_that_linger_keep_their_quota_however_long_they_take_to_go() -> None:
    bench = held(Bench())
    three = [a_node(f"n{each}") for each in range(3)]
    bench.hear(scaled(3))
    bench.see(cluster=a_cluster(3), nodes=three)

    bench.hear(scaled(1), sequence=2)
    for left in (3, 3, 2, 2):
        bench.see(cluster=a_cluster(1), nodes=three[:left])
        bench.now_ms += 2 * CONFIRM_MS
        if bench.wake_at_ms is not None:
            bench.wake()
        assert bench.gpus >= 8 * left

    assert bench.gpus == 16


def test_nodes_stay_for_replicas_that_still_run() -> None:
    bench = held(Bench())
    three = [a_node(f"n{each}") for each in range(3)]
    bench.hear(scaled(3))
    bench.see(cluster=a_cluster(3), nodes=three)

    bench.hear(runs(3))
    bench.hear(scaled(1), sequence=2)
    assert wanted_by(bench.claim) == 3
    bench.hear(runs(1), sequence=2)
    assert wanted_by(bench.claim) == 1


def test_nothing_is_released_before_the_runtime_is_removed_however_often_one_looks() -> None:
    bench = held(Bench())
    bench.hear(deletion(), generation=2, sequence=2)

    for _ in range(5):
        bench.now_ms += 10 * CONFIRM_MS
        bench.see()
        if bench.wake_at_ms is not None:
            bench.wake()
    assert not is_released(bench)
    bench.hear(REMOVED, generation=2)
    bench.see()
    assert not is_released(bench)
    bench.wake()
    bench.see()

    assert is_released(bench)
    assert bench.gpus == 0
    assert stage_of(bench.claim) is Stage.RELEASED
    assert attention_of(bench.claim) is Attention.NONE


def test_two_reads_within_the_confirm_time_are_one_read() -> None:
    bench = held(Bench())
    bench.hear(deletion(), generation=2, sequence=2)
    bench.hear(REMOVED, generation=2)

    bench.see()
    bench.now_ms += CONFIRM_MS - 1
    bench.see()

    assert not is_released(bench)
    assert bench.gpus == 8


def test_a_late_repeat_of_the_first_read_does_not_confirm_it() -> None:
    bench = held(Bench())
    bench.hear(deletion(), generation=2, sequence=2)
    bench.hear(REMOVED, generation=2)

    first = bench.see()
    bench.now_ms += 10 * CONFIRM_MS
    bench.take(an_envelope(Refused(action="x", code="x", message="x")))
    bench.see()  # Begun before the clock asked for a second look: the state has not changed, so has not the question.

    assert first.state.gone is not None
    assert not is_released(bench)


def test_what_shows_up_again_was_never_gone() -> None:
    bench = held(Bench())
    bench.hear(deletion(), generation=2, sequence=2)
    bench.hear(REMOVED, generation=2)
    bench.see()
    bench.wake()

    bench.see(cluster=a_cluster(1, deleting=True), nodes=[a_node("n0")])
    assert bench.claim.gone is None
    bench.now_ms += 1000
    bench.see()
    assert not is_released(bench)
    bench.wake()
    bench.see()

    assert is_released(bench)
    assert bench.of(NodeReleased) == [NodeReleased(claim="n0", at_ms=bench.now_ms - CONFIRM_MS)]


def test_a_deletion_of_what_was_never_created_is_confirmed_and_answered() -> None:
    bench = Bench()

    bench.hear(deletion(), generation=2, sequence=2)
    bench.hear(REMOVED, generation=2)
    bench.see(project=None)
    bench.wake()
    bench.see(project=None)

    assert bench.kinds() == ["capacity.released"]
    bench.hear(requested())
    assert stage_of(bench.claim) is Stage.RELEASED


def test_a_failure_gives_back_everything_as_a_delete_does() -> None:
    bench = held(Bench())

    bench.hear(failure(), sequence=2)
    bench.hear(REMOVED)
    bench.see()
    bench.wake()
    bench.see()

    assert is_released(bench)
    assert bench.gpus == 0


def test_a_delete_after_a_released_failure_is_answered_again_at_once() -> None:
    bench = Bench()
    bench.hear(failure(), sequence=2)
    bench.hear(REMOVED)
    bench.see()
    bench.wake()
    bench.see()

    decision = bench.hear(deletion(), generation=2, sequence=3)

    assert [type(each) for each in decision.events] == [CapacityReleased]
    assert decision.generation == 2
    assert attention_of(bench.claim) is Attention.NONE


@pytest.mark.parametrize("end", [pause(), failure()])
def test_an_older_end_does_not_undo_a_newer_request(end: Event) -> None:
    bench = Bench()
    bench.hear(requested(), generation=3, sequence=3)

    bench.hear(end, generation=2, sequence=2)

    assert not bench.claim.is_unwanted
    assert bench.claim.generation == 3


def test_a_deletion_is_for_ever() -> None:
    bench = Bench()
    bench.hear(deletion(), generation=2, sequence=2)

    bench.hear(requested(), generation=3, sequence=3)

    assert bench.claim.is_unwanted


def test_a_removal_for_an_older_generation_does_not_free_the_cluster_of_a_newer_request() -> None:
    bench = Bench()
    bench.hear(REMOVED, generation=2)
    bench.hear(requested(), generation=3, sequence=3)
    bench.hear(deletion(), generation=4, sequence=4)

    assert bench.claim.is_unwanted
    assert not bench.claim.is_removable


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({"node_type": NodeTypeSeen(is_known=False, free=0)}, "NodeTypeUnknown"),
        ({"cluster": a_cluster(refusal="TemplateUnknown", phase="Pending")}, "TemplateUnknown"),
        ({"cluster": a_cluster(ours=False)}, "NameTaken"),
        ({"project": ProjectSeen(is_ours=False, is_as_wanted=False)}, "NameTaken"),
    ],
)
def test_what_no_waiting_helps_fails_once_with_its_reason(seen: dict[str, object], reason: str) -> None:
    bench = Bench()
    bench.hear(requested())

    bench.see(**seen)  # type: ignore[arg-type]  # One keyword of `see` at a time.
    bench.see(**seen)  # type: ignore[arg-type]  # One keyword of `see` at a time.

    assert [each.reason for each in bench.told if isinstance(each, CapacityFailed)] == [reason]
    assert stage_of(bench.claim) is Stage.FAILED


def test_a_refusal_fails_a_claim_on_its_way_but_not_one_that_serves() -> None:
    refusal: Event = Refused(action="ResizeCluster", code="TemplateInvalid", message="no")
    young, serving = Bench(), held(Bench())
    young.hear(requested())
    serving.hear(scaled(3))

    for bench in (young, serving):
        bench.take(an_envelope(refusal))

    assert stage_of(young.claim) is Stage.FAILED
    assert stage_of(serving.claim) is Stage.HELD
    assert reasons(serving) == ["TemplateInvalid"]


def test_a_platform_that_is_away_is_told_once_and_its_return_too() -> None:
    bench = Bench()
    bench.hear(requested())
    bench.see()

    bench.trouble("PlatformUnavailable")
    bench.trouble("PlatformUnavailable")
    bench.see(cluster=a_cluster(phase="Pending"))

    assert reasons(bench) == ["PlatformUnavailable", "ClusterPending"]


def test_a_platform_that_is_away_is_no_news_for_a_claim_that_has_what_it_wants() -> None:
    bench = held(Bench())

    bench.trouble("PlatformUnavailable")

    assert reasons(bench) == []


def test_node_time_begins_when_the_platform_says_but_never_before_the_reservation_nor_in_the_future() -> None:
    bench = Bench()
    bench.hear(requested(fewest=3))
    bench.see()
    bench.now_ms += 10_000
    nodes = [
        a_node("early", joined_at_ms=NOW - 5),
        a_node("late", joined_at_ms=NOW + 99_000),
        a_node("right", joined_at_ms=NOW + 4_000),
    ]

    bench.see(cluster=a_cluster(3), nodes=nodes)

    joined = {each.claim: each.at_ms for each in bench.told if isinstance(each, NodeJoined)}
    assert joined == {"early": NOW, "late": NOW + 10_000, "right": NOW + 4_000}


def test_a_node_that_flickers_is_one_interval() -> None:
    bench = held(Bench())

    bench.see(cluster=a_cluster(1), nodes=[])
    bench.wake()
    bench.see(cluster=a_cluster(1), nodes=[a_node("n0", joined=False)])
    bench.see(cluster=a_cluster(1), nodes=[a_node("n0")])

    assert len(bench.of(NodeJoined)) == 1
    assert bench.of(NodeReleased) == []


def test_a_lost_node_is_released_and_its_replacement_joins() -> None:
    bench = held(Bench())

    bench.see(cluster=a_cluster(1), nodes=[a_node("n9")])
    bench.wake()
    bench.see(cluster=a_cluster(1), nodes=[a_node("n9")])

    assert [each.claim for each in bench.told if isinstance(each, NodeJoined)] == ["n0", "n9"]
    assert bench.of(NodeReleased) == [NodeReleased(claim="n0", at_ms=NOW)]
    assert bench.gpus == 8


def test_two_nodes_that_go_at_different_times_are_each_confirmed() -> None:
    bench = held(Bench(), fewest=3)
    three = [a_node(f"n{each}") for each in range(3)]

    bench.see(cluster=a_cluster(3), nodes=three[1:])
    bench.now_ms += 10_000
    bench.see(cluster=a_cluster(3), nodes=three[2:])
    for _ in range(2):
        bench.wake()
        bench.see(cluster=a_cluster(3), nodes=three[2:])

    assert bench.of(NodeReleased) == [
        NodeReleased(claim="n0", at_ms=NOW),
        NodeReleased(claim="n1", at_ms=NOW + 10_000),
    ]
    assert bench.wake_at_ms is None


def test_a_claim_at_rest_decides_nothing_new() -> None:
    bench = held(Bench())
    before, told = bench.claim, len(bench.told)

    bench.see(cluster=a_cluster(1), nodes=[a_node("n0")], node_type=None)

    assert bench.claim == before
    assert len(bench.told) == told
    assert bench.wake_at_ms is None
