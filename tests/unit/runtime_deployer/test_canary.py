"""New replicas that fail what they are asked, where old ones don't, go back; and success needs somebody answered."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from libs.common.events.envelope import Envelope
from libs.common.events.facts import Fact
from libs.common.events.route import EndpointLoad, ReplicaOutcomes, TrafficObserved
from libs.common.events.runtime import CacheWarmed, RuntimeFailed
from services.runtime_deployer.core import canary
from services.runtime_deployer.core.canary import FAILED_MIN, SILENT_MS
from tests.unit.runtime_deployer.a_runtime import ENDPOINT, NOW_MS, Scene, a_serving_scene, told, warm
from tests.unit.runtime_deployer.test_desire import another_model, of_the_other

OLD, NEW = "o1", of_the_other().name


def report(counts: Mapping[str, tuple[int, int]], *, instance: str = "router-0") -> Envelope:
    """What a router says of replicas: answered and failed of each."""
    replicas = tuple(
        ReplicaOutcomes(replica=name, answered=answered, failed=failed) for name, (answered, failed) in counts.items()
    )
    return told(canary.Answered(instance=instance, replicas=replicas), sequence=0)


def rolling() -> Scene:
    """One old replica serves, and one new one beside it."""
    return a_serving_scene(warm("o1")).hear(another_model()).see(warm("o1"), of_the_other())


def failures(scene: Scene) -> list[RuntimeFailed]:
    return [each for each in scene.events if isinstance(each, RuntimeFailed)]


def test_new_replicas_that_fail_where_old_ones_answer_fail_the_rollout() -> None:
    scene = rolling().hear(report({OLD: (40, 0), NEW: (0, FAILED_MIN)}))

    (failed,) = failures(scene)
    assert failed.reason == "ErrorRate"
    assert failed.message == "new replicas failed 3 of 3 requests (100 %), old ones 0 of 40"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((40, 0), (0, FAILED_MIN - 1)),  # An accident.
        ((40, 0), (20, FAILED_MIN)),  # One in eight: retries hide it, and a page says it.
        ((20, 20), (20, 20)),  # It fails everywhere: not the rollout's fault.
    ],
)
def test_too_few_failures_and_those_that_old_ones_have_too_fail_nothing(
    old: tuple[int, int], new: tuple[int, int]
) -> None:
    scene = rolling().hear(report({OLD: old, NEW: new}))

    assert failures(scene) == []


def test_reports_of_several_routers_add_up_and_a_repeat_changes_nothing() -> None:
    scene = rolling().hear(report({NEW: (0, 2)}), report({NEW: (0, 2)}))
    assert failures(scene) == []

    scene.hear(report({NEW: (0, 1)}, instance="router-1"))

    assert len(failures(scene)) == 1


def test_a_rollout_of_what_is_asked_all_the_time_succeeds_when_a_new_replica_has_answered_somebody() -> None:
    scene = rolling().hear(report({OLD: (4, 0)})).see(of_the_other())
    assert Fact.CACHE_WARMED not in scene.runtime.told_facts

    scene.hear(report({OLD: (4, 0), NEW: (1, 0)}))

    warmed = scene.last(CacheWarmed)
    assert isinstance(warmed, CacheWarmed)
    assert [each.name for each in warmed.replicas] == [NEW]


def test_where_routers_fall_silent_nobody_is_waited_for() -> None:
    scene = rolling().hear(report({OLD: (4, 0)})).see(of_the_other())
    assert Fact.CACHE_WARMED not in scene.runtime.told_facts

    scene.wake()
    assert scene.now_ms == NOW_MS + SILENT_MS

    assert Fact.CACHE_WARMED in scene.runtime.told_facts


def test_what_was_said_of_one_rollout_says_nothing_of_the_next() -> None:
    scene = rolling().hear(report({NEW: (0, 2)}))

    scene.hear(another_model(generation=3, sequence=12), report({NEW: (0, 2)}))

    assert failures(scene) == []


def test_only_endpoints_that_are_being_rolled_out_are_told_of() -> None:
    load = EndpointLoad(endpoint_id="ep-calm", requests=4, concurrency_max=1, concurrency_avg_milli=500)
    outcomes = (ReplicaOutcomes(replica="p", answered=3, failed=0),)
    rolled = load.model_copy(update={"endpoint_id": ENDPOINT, "replicas": outcomes})
    news = TrafficObserved(instance="router-0", from_ms=0, to_ms=2_000, endpoints=(load, rolled))

    assert canary.answered(told(news)) == {ENDPOINT: canary.Answered(instance="router-0", replicas=outcomes)}
