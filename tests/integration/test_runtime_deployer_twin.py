"""The runtime-deployer, its real adapter and the real Kubernetes client, against the twin."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest

from libs.common.events.runtime import CacheWarmed, ReplicasChanged, RuntimeDegraded, RuntimeFailed
from libs.common.units import GIB, MINUTE_MS, SECOND_MS
from libs.twin.options import TwinOptions
from services.runtime_deployer.core.lifecycle import Stage
from services.runtime_deployer.core.manifests import DIGEST, GENERATION
from services.runtime_deployer.service import LIVE
from services.runtime_deployer.shell.kubernetes import FIELD_MANAGER
from tests.integration.runtime_bench import DEPLOYMENT, INFERENCE, INSTANCES, STEP_MS, STEPS, Bench, CrashAt
from tests.unit.runtime_deployer.a_runtime import (
    ENDPOINT,
    a_placement,
    cluster_ready,
    deletion_requested,
    gpu_ready,
    requested,
    scale_decided,
    withdrawn,
)


def a_serving_bench() -> Bench:
    bench = Bench(step_ms=2 * SECOND_MS)  # Until it serves: minutes in which little happens.
    bench.hear(requested(), cluster_ready(), gpu_ready())
    bench.until_stage(Stage.SERVING)
    bench.step_ms = STEP_MS
    return bench


def test_an_endpoint_is_installed_step_by_step_and_answers_before_it_is_told_warm() -> None:
    bench = a_serving_bench()

    assert [each for each in bench.kinds if each in STEPS] == list(STEPS)
    warmed = next(each.data for each in bench.told if isinstance(each.data, CacheWarmed))
    (pod,) = bench.pods
    assert [each.url for each in warmed.replicas] == [f"http://{pod['status']['podIP']}:8000"]
    assert warmed.replicas[0].name == pod["metadata"]["name"]
    times = [each.time_ms for each in bench.told if each.data.kind in STEPS]
    assert times == sorted(times)
    assert times[1] - times[0] > 60 * SECOND_MS, "40 GiB are not downloaded in a moment"
    assert times[2] - times[1] > 30 * SECOND_MS, "nor loaded"


def test_at_rest_nothing_is_written_to_the_cluster_or_to_the_store() -> None:
    bench = a_serving_bench()
    for _ in range(20):
        bench.step()
    rows = len(bench.store.rows)
    version = bench.ask("GET", DEPLOYMENT)["metadata"]["resourceVersion"]
    bench.crash.count = 0

    for _ in range(240):
        bench.step()

    assert len(bench.store.rows) == rows
    assert bench.ask("GET", DEPLOYMENT)["metadata"]["resourceVersion"] == version
    assert bench.crash.count == 0


def test_replicas_go_up_and_down_again_as_decided() -> None:
    bench = a_serving_bench()

    bench.hear(scale_decided(2, sequence=1))
    bench.until(lambda: bench.replicas == 2)
    bench.hear(scale_decided(1, sequence=2))
    bench.until(lambda: bench.replicas == 1 and len(bench.pods) == 1)

    told = [(each.data.desired, each.data.ready) for each in bench.told if isinstance(each.data, ReplicasChanged)]
    assert told == [(1, 0), (1, 1), (2, 1), (2, 2), (1, 2), (1, 1)]
    assert "runtime.degraded" not in bench.kinds


def test_a_killed_pod_is_replaced_and_the_outage_is_told_with_its_end() -> None:
    bench = a_serving_bench()
    (pod,) = bench.pods

    bench.ask("DELETE", f"{INFERENCE}/pods/{pod['metadata']['name']}", gracePeriodSeconds="0")
    bench.until_stage(Stage.DEGRADED)
    bench.until_stage(Stage.SERVING)

    assert bench.kinds.count("runtime.degraded") == 1
    assert bench.kinds[-1] == "runtime.recovered"
    assert bench.runtime.replicas_told.replicas[0].name != pod["metadata"]["name"]
    assert bench.kinds.count("runtime.cache_warmed") == 1


def test_a_crashed_engine_degrades_and_is_warmed_up_again_before_it_serves() -> None:
    bench = a_serving_bench()
    warm = bench.runtime.warmed

    bench.engines.crash(bench.pods[0]["status"]["podIP"], bench.clock.now_ms())
    bench.until_stage(Stage.DEGRADED)
    bench.until_stage(Stage.SERVING)

    degraded = next(each.data for each in bench.told if isinstance(each.data, RuntimeDegraded))
    assert degraded.reason == "NoReplicaReady"
    assert bench.runtime.warmed != warm
    assert "runtime.failed" not in bench.kinds


def test_after_removal_nothing_is_left_but_the_shared_namespace() -> None:
    bench = a_serving_bench()
    assert len(bench.objects()) == 6

    bench.hear(deletion_requested())
    for _ in range(20):
        bench.step()
    assert len(bench.objects()) == 6, "nothing goes while streams drain"
    bench.hear(withdrawn())
    bench.until_stage(Stage.REMOVED)

    assert bench.objects() == set()
    assert bench.engines.running() == ()
    assert bench.kinds.count("runtime.removed") == 1
    assert list(bench.service.runners[0].every(scope=LIVE)) == []


def test_removal_in_the_middle_of_an_installation_leaves_nothing() -> None:
    for stage in (Stage.INSTALLING, Stage.PULLING, Stage.DOWNLOADING, Stage.LOADING):
        bench = Bench()
        bench.hear(requested(), gpu_ready())
        bench.until_stage(stage)
        bench.hear(deletion_requested(), withdrawn())
        bench.until_stage(Stage.REMOVED)

        assert bench.objects() == set(), stage
        assert "runtime.cache_warmed" not in bench.kinds


def test_an_end_that_comes_in_the_middle_of_applying_leaves_nothing() -> None:
    moments = _applies()
    assert moments >= 6

    for place in range(1, moments + 1):
        bench = Bench()
        bench.crash = EndAt(place, bench=bench)
        bench.start()
        bench.hear(requested(), gpu_ready())
        bench.until_stage(Stage.REMOVED)
        bench.clock.advance(MINUTE_MS)

        assert bench.objects() == set(), place


@dataclass(slots=True)
class EndAt(CrashAt):
    """Has the end of the endpoint arrive, as another thread of the process would, just before the n-th write."""

    bench: Bench = field(kw_only=True)
    writes: int = 0

    def before(self, method: str, path: str) -> None:
        self.writes += 1
        if self.writes == self.place:
            self.bench.service.handle(deletion_requested())
            self.bench.service.handle(withdrawn())

    def after(self, method: str, path: str, status: int) -> None:
        """Nothing happens here."""

    def pass_by(self, _moment: str = "") -> None:
        """Nothing dies here."""


def _applies() -> int:
    bench = Bench()
    counting = EndAt(0, bench=bench)
    bench.crash = counting
    bench.start()
    bench.hear(requested(), gpu_ready())
    bench.until_stage(Stage.PULLING)
    return counting.writes


def test_removal_is_answered_when_the_cluster_is_already_gone() -> None:
    bench = a_serving_bench()
    bench.ask("DELETE", f"{INSTANCES}/{ENDPOINT}")
    bench.clock.advance(10 * MINUTE_MS)
    assert bench.ask("GET", DEPLOYMENT)["code"] == 404

    bench.hear(deletion_requested(), withdrawn())
    bench.until_stage(Stage.REMOVED)

    assert bench.kinds[-1] == "runtime.removed"


def test_removal_waits_while_the_cluster_does_not_answer() -> None:
    bench = a_serving_bench()
    bench.hear(deletion_requested(), withdrawn())
    bench.world.set_faults({"unavailable_calls": 10})

    for _ in range(20):
        bench.step()
    assert bench.stage is Stage.REMOVING
    assert bench.runtime.delay.startswith("http_503")

    bench.until_stage(Stage.REMOVED)
    assert bench.objects() == set()


def test_an_image_that_cannot_be_pulled_fails_with_that_reason() -> None:
    bench = Bench()
    bench.world.set_faults({"failing_pulls": True})
    bench.hear(requested(), gpu_ready())

    bench.until_stage(Stage.FAILED)

    (failure,) = [each.data for each in bench.told if isinstance(each.data, RuntimeFailed)]
    assert failure.reason == "ImagePullBackOff"
    assert not set(bench.kinds) & set(STEPS)


def test_a_registry_that_refuses_us_is_told_apart_from_an_image_that_is_not_there() -> None:
    bench = Bench()
    bench.world.set_faults({"unauthorized_pulls": True})
    bench.hear(requested(), gpu_ready())

    bench.until_stage(Stage.FAILED)

    (failure,) = [each.data for each in bench.told if isinstance(each.data, RuntimeFailed)]
    assert failure.reason == "ImageUnauthorized"


def test_a_model_with_a_wrong_digest_fails_with_that_reason() -> None:
    bench = Bench()
    bench.world.set_faults({"digest_mismatch": True})
    bench.hear(requested(), gpu_ready())

    bench.until_stage(Stage.FAILED)

    (failure,) = [each.data for each in bench.told if isinstance(each.data, RuntimeFailed)]
    assert failure.reason == "DigestMismatch"


def test_an_engine_that_crashes_at_once_fails_after_its_third_crash() -> None:
    bench = Bench()
    bench.engines.exit_on_start = 3
    bench.hear(requested(), gpu_ready())

    bench.until_stage(Stage.FAILED)

    (failure,) = [each.data for each in bench.told if isinstance(each.data, RuntimeFailed)]
    assert failure.reason == "CrashLoopBackOff"
    assert "exit code 3" in failure.message


def test_a_foreign_field_manager_is_left_alone_and_the_reason_is_kept() -> None:
    bench = a_serving_bench()
    bench.ask(
        "PATCH",
        DEPLOYMENT,
        {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 2}},
        fieldManager="kubectl",
        force="true",
        content="application/apply-patch+yaml",
    )

    for _ in range(40):
        bench.step()

    assert bench.ask("GET", DEPLOYMENT)["spec"]["replicas"] == 2
    assert 'conflict with "kubectl"' in bench.runtime.delay
    assert "runtime.failed" not in bench.kinds


def test_a_newer_generation_in_the_cluster_is_not_overwritten() -> None:
    bench = a_serving_bench()
    body = {"metadata": {"annotations": {GENERATION: "5", DIGEST: "newer"}}}
    bench.ask("PATCH", DEPLOYMENT, body, content="application/merge-patch+json")

    bench.hear(scale_decided(3))
    for _ in range(40):
        bench.step()

    there = bench.ask("GET", DEPLOYMENT)
    assert there["spec"]["replicas"] == 1
    assert there["metadata"]["annotations"][DIGEST] == "newer"


def test_every_field_that_is_written_belongs_to_our_manager() -> None:
    bench = a_serving_bench()

    managers = {
        (each["manager"], each["operation"]) for each in bench.ask("GET", DEPLOYMENT)["metadata"]["managedFields"]
    }

    assert (FIELD_MANAGER, "Apply") in managers


def test_a_small_model_on_one_gpu_runs_a_command_of_its_tier() -> None:
    bench = Bench()
    placement = a_placement(gpus_per_replica=1, command=("serve", "--host", "{host}", "--port", "{port}"))
    small = placement.model_copy(update={"model_size_bytes": GIB})
    bench.hear(requested(placement=small), gpu_ready())
    bench.until_stage(Stage.SERVING)

    (pod,) = bench.pods
    assert pod["spec"]["containers"][0]["command"][-1] == "8000"


QUICK = TwinOptions(image_pull_ms=2000, model_load_ms=2000)  # Fewer rounds in which nothing happens.


def _life(place: int) -> Bench:
    """A whole life: up, two replicas, one, gone. The cluster is there before the first crash may come."""
    bench = Bench(options=QUICK, step_ms=2 * SECOND_MS)
    bench.crash = CrashAt(place)
    bench.start()
    small = a_placement(gpus_per_replica=1).model_copy(update={"model_size_bytes": GIB})
    bench.hear(requested(placement=small), gpu_ready())
    bench.until_stage(Stage.SERVING)
    bench.hear(scale_decided(2, sequence=1))
    bench.until(lambda: bench.replicas == 2)
    bench.hear(scale_decided(1, sequence=2))
    bench.until(lambda: bench.replicas == 1)
    bench.hear(deletion_requested(), withdrawn())
    bench.until_stage(Stage.REMOVED)
    bench.step()
    return bench


@pytest.mark.chaos
def test_a_crash_at_any_moment_of_a_life_ends_the_same() -> None:
    moments = _life(0).crash.count
    assert moments > 60

    for place in range(1, moments + 1):
        bench = _life(place)

        assert bench.crashes == 1, place
        assert bench.objects() == set(), place
        assert bench.engines.running() == (), place
        once = Counter(each for each in bench.kinds if each in STEPS or each == "runtime.removed")
        assert once == dict.fromkeys((*STEPS, "runtime.removed"), 1), place
        assert [each for each in bench.kinds if each in STEPS] == list(STEPS), place
        assert "runtime.failed" not in bench.kinds, place
