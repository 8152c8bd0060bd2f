"""Changes of a living endpoint on the twin, with the real adapter: update, rollback, pause, resume, deletion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from libs.common.events.endpoint import Adapter, Limits, Placement
from libs.common.events.envelope import Envelope
from libs.common.events.runtime import ReplicasChanged, RuntimeFailed
from libs.common.units import GIB, MINUTE_MS, SECOND_MS
from libs.twin.options import TwinOptions
from services.runtime_deployer.core.lifecycle import Stage
from services.runtime_deployer.core.manifests import GENERATION, MODEL
from tests.integration.runtime_bench import DEPLOYMENT, STEPS, Bench, CrashAt
from tests.unit.runtime_deployer.a_runtime import (
    a_placement,
    a_spec,
    deletion_requested,
    gpu_ready,
    requested,
    withdrawn,
)
from tests.unit.runtime_deployer.test_desire import paused

OTHER = "millrace/ngram-2"
QUICK = TwinOptions(image_pull_ms=2000, model_load_ms=2000)


def small(*, template: str = "vllm@1") -> Placement:
    """Four of the node's eight GPUs: with two replicas none is spare."""
    return a_placement(template=template).model_copy(update={"model_size_bytes": GIB})


def asked(generation: int, **spec: Any) -> Envelope:
    template = spec.pop("template", "vllm@1")
    return requested(
        generation=generation, sequence=10 * generation, spec=a_spec(**spec), placement=small(template=template)
    )


def a_bench(*, replicas: int = 2) -> Bench:
    bench = Bench(options=QUICK)
    bench.hear(asked(1, low=replicas), gpu_ready())
    bench.until(lambda: bench.stage is Stage.SERVING and bench.replicas == replicas)
    return bench


def steps_of(bench: Bench, generation: int) -> list[str]:
    return [each.data.kind for each in bench.told if each.generation == generation and each.data.kind in STEPS]


def serves(bench: Bench, generation: int) -> Callable[[], bool]:
    return lambda: bench.stage is Stage.SERVING and bench.runtime.generation == generation and bench.is_at_rest


def fewest_while(bench: Bench, done: Callable[[], bool]) -> int:
    """The fewest replicas that were there for traffic until something held."""
    fewest = [bench.replicas]

    def look() -> bool:
        fewest.append(bench.replicas)
        return done()

    bench.until(look)
    return min(fewest)


def test_an_update_on_a_full_node_replaces_one_replica_at_a_time_and_never_leaves_none() -> None:
    bench = a_bench()

    bench.hear(asked(2, low=2, model=OTHER))
    fewest = fewest_while(bench, lambda: steps_of(bench, 2) == list(STEPS) and bench.replicas == 2)

    assert fewest == 1
    assert "runtime.degraded" not in bench.kinds
    assert {each["metadata"]["annotations"][MODEL] for each in bench.pods} == {OTHER}
    assert {each.model for each in bench.runtime.replicas_told.replicas} == {OTHER}


def test_replicas_are_named_with_their_own_model_while_an_update_rolls_and_no_generation_is_warm_too_early() -> None:
    bench = a_bench()

    bench.hear(asked(2, low=2, model=OTHER))
    bench.until(lambda: len(steps_of(bench, 2)) == len(STEPS))

    told = [each.data for each in bench.told if isinstance(each.data, ReplicasChanged)]
    mixed = [each for each in told if len({one.model for one in each.replicas}) == 2]
    assert mixed, "old and new served side by side"
    assert {each.warmed_generation for each in mixed} == {1}
    assert told[-1].warmed_generation == 2


def test_an_update_to_another_template_version_runs_its_text() -> None:
    bench = a_bench(replicas=1)

    bench.hear(asked(2, template="vllm@2"))
    bench.until(lambda: steps_of(bench, 2) == list(STEPS) and len(bench.pods) == 1)

    (pod,) = bench.pods
    assert "--enable-prefix-caching" in pod["spec"]["containers"][0]["args"]
    assert pod["spec"]["terminationGracePeriodSeconds"] == 6 + 240


def test_an_update_that_fails_keeps_an_old_replica_and_its_rollback_does_not_restart_it() -> None:
    bench = a_bench()
    before = {each["metadata"]["uid"] for each in bench.pods}
    bench.engines.exit_on_start = 3

    bench.hear(asked(2, low=2, model=OTHER))
    assert fewest_while(bench, lambda: bench.stage is Stage.FAILED) == 1
    failures = [each for each in bench.told if isinstance(each.data, RuntimeFailed)]
    assert [(each.generation, each.data.kind) for each in failures] == [(2, "runtime.failed")]

    bench.engines.exit_on_start = None
    began_ms = bench.clock.now_ms()
    bench.hear(asked(3, low=2))
    assert fewest_while(bench, lambda: steps_of(bench, 3) == list(STEPS)) == 1
    assert bench.clock.now_ms() - began_ms < 10 * SECOND_MS, "what runs already is found, not made anew"

    bench.until(lambda: bench.replicas == 2)
    assert len(before & {each["metadata"]["uid"] for each in bench.pods}) == 1


def test_a_failed_update_of_a_single_replica_is_rolled_back_by_starting_it_anew() -> None:
    bench = a_bench(replicas=1)
    bench.engines.exit_on_start = 3
    bench.hear(asked(2, model=OTHER))
    bench.until_stage(Stage.FAILED)

    bench.engines.exit_on_start = None
    bench.hear(asked(3))
    bench.until(lambda: steps_of(bench, 3) == list(STEPS))

    assert bench.replicas == 1
    assert {each.model for each in bench.runtime.replicas_told.replicas} == {"millrace/ngram-1"}


def test_a_change_of_limits_and_scaling_restarts_no_pod_and_is_written_to_the_cluster() -> None:
    bench = a_bench(replicas=1)
    before = [each["metadata"]["uid"] for each in bench.pods]
    spec = a_spec(high=2).model_copy(update={"limits": Limits(requests_per_minute=9)})

    bench.hear(requested(generation=2, sequence=20, spec=spec, placement=small()))
    bench.until(serves(bench, 2))

    assert [each["metadata"]["uid"] for each in bench.pods] == before
    assert bench.ask("GET", DEPLOYMENT)["metadata"]["annotations"][GENERATION] == "2"
    assert steps_of(bench, 2) == []
    assert bench.runtime.replicas_told.warmed_generation == 2


def test_a_paused_endpoint_leaves_nothing_and_its_resume_installs_it_anew() -> None:
    bench = a_bench(replicas=1)

    bench.hear(paused(generation=2, sequence=20))
    for _ in range(20):
        bench.step()
    assert bench.replicas == 1, "streams drain before anything goes"
    bench.hear(withdrawn(generation=2))
    bench.until_stage(Stage.REMOVED)
    assert bench.objects() == set()
    assert [each.generation for each in bench.told if each.data.kind == "runtime.removed"] == [2]

    bench.hear(asked(3), gpu_ready(generation=3, sequence=30))
    bench.until(lambda: steps_of(bench, 3) == list(STEPS))
    assert bench.replicas == 1


@pytest.mark.parametrize("rounds", [0, 1, 2, 4, 8, 16, 300])
def test_a_resume_at_any_time_of_a_removal_ends_in_serving(rounds: int) -> None:
    bench = a_bench(replicas=1)
    bench.hear(paused(generation=2, sequence=20), withdrawn(generation=2))
    for _ in range(rounds):
        bench.step()

    bench.hear(asked(3), gpu_ready(generation=3, sequence=30))
    bench.until(serves(bench, 3))
    bench.clock.advance(5 * MINUTE_MS)
    for _ in range(20):
        bench.step()

    assert bench.replicas == 1
    assert len(bench.objects()) == 6
    assert steps_of(bench, 3)[-1] == "runtime.cache_warmed"


@pytest.mark.parametrize("rounds", [0, 1, 5, 20, 60])
def test_a_deletion_at_any_time_of_an_update_leaves_nothing(rounds: int) -> None:
    bench = a_bench()
    bench.hear(asked(2, low=2, model=OTHER))
    for _ in range(rounds):
        bench.step()

    bench.hear(deletion_requested(generation=3, sequence=30), withdrawn(generation=3))
    bench.until_stage(Stage.REMOVED)

    assert bench.objects() == set()
    assert bench.engines.running() == ()


TONE = Adapter(name="tone", source="acme/tone-lora", rank=16)
NOWHERE = Adapter(name="lost", source="nowhere/at-all", rank=16)


def tuned(generation: int, *adapters: Adapter, low: int = 2) -> Envelope:
    spec = a_spec(low=low).model_copy(update={"adapters": adapters})
    return requested(generation=generation, sequence=10 * generation, spec=spec, placement=small())


def adapters_in(bench: Bench) -> list[tuple[str, ...]]:
    return [each.adapters for each in bench.runtime.replicas_told.replicas]


def test_adapters_are_loaded_into_what_runs_and_loaded_again_after_a_crash() -> None:
    bench = a_bench()
    before = {each["metadata"]["uid"] for each in bench.pods}

    bench.hear(tuned(2, TONE))
    bench.until(lambda: steps_of(bench, 2) == list(STEPS))
    assert adapters_in(bench) == [("tone",)] * 2
    bench.engines.crash(bench.pods[0]["status"]["podIP"], bench.clock.now_ms())
    bench.until(lambda: bench.replicas == 1)
    bench.until(lambda: bench.replicas == 2)

    told = [
        each.data for each in bench.told if isinstance(each.data, ReplicasChanged) and each.data.warmed_generation == 2
    ]
    assert {one.adapters for each in told for one in each.replicas} == {("tone",)}, "routed only where loaded"
    assert {each["metadata"]["uid"] for each in bench.pods} == before


def test_an_adapter_that_is_nowhere_fails_its_update_and_what_serves_goes_on() -> None:
    bench = a_bench()
    before = {each["metadata"]["uid"] for each in bench.pods}

    bench.hear(tuned(2, NOWHERE))
    assert fewest_while(bench, lambda: bench.stage is Stage.FAILED) == 2
    bench.hear(asked(3, low=2))
    bench.until(lambda: steps_of(bench, 3) == list(STEPS))

    (failure,) = [each.data for each in bench.told if isinstance(each.data, RuntimeFailed)]
    assert failure.reason == "AdapterRefused"
    assert "nowhere/at-all" in failure.message
    assert {each["metadata"]["uid"] for each in bench.pods} == before


def _life(place: int) -> Bench:
    """Up, updated, paused, resumed, gone."""
    bench = Bench(options=QUICK, step_ms=2 * SECOND_MS)
    bench.crash = CrashAt(place)
    bench.start()
    bench.hear(asked(1), gpu_ready())
    bench.until(lambda: steps_of(bench, 1) == list(STEPS))
    bench.hear(asked(2, model=OTHER))
    bench.until(lambda: steps_of(bench, 2) == list(STEPS))
    bench.hear(paused(generation=3, sequence=30), withdrawn(generation=3))
    bench.until_stage(Stage.REMOVED)
    bench.hear(asked(4), gpu_ready(generation=4, sequence=40))
    bench.until(lambda: steps_of(bench, 4) == list(STEPS))
    bench.hear(deletion_requested(generation=5, sequence=50), withdrawn(generation=5, sequence=50))
    bench.until_stage(Stage.REMOVED)
    bench.step()
    return bench


@pytest.mark.chaos
def test_a_crash_at_any_moment_of_a_changing_life_ends_the_same() -> None:
    moments = _life(0).crash.count
    assert moments > 100

    for place in range(1, moments + 1):
        bench = _life(place)

        assert bench.crashes == 1, place
        assert bench.objects() == set(), place
        assert bench.engines.running() == (), place
        assert [steps_of(bench, each) for each in (1, 2, 4)] == [list(STEPS)] * 3, place
        assert [each.generation for each in bench.told if each.data.kind == "runtime.removed"] == [3, 5], place
