"""What a runtime tells, of what it hears and sees."""

from __future__ import annotations

from libs.common.events.catalog import heard_by
from libs.common.events.event import Owner
from libs.common.events.runtime import (
    CacheWarmed,
    Replica,
    ReplicasChanged,
    RuntimeDegraded,
    RuntimeFailed,
)
from libs.common.reconciler import Delayed, Refused
from services.runtime_deployer.core.lifecycle import Stage
from services.runtime_deployer.core.observed import Observed
from services.runtime_deployer.service import HEARS
from tests.unit.runtime_deployer.a_runtime import (
    FETCHED,
    TERMINATED,
    Scene,
    a_fetch,
    a_placement,
    a_pod,
    a_serving_scene,
    a_spec,
    an_engine,
    an_image,
    cluster_ready,
    deletion_requested,
    downloading,
    failed,
    gpu_ready,
    loaded,
    loading,
    pulling,
    requested,
    scale_decided,
    told,
    warm,
    withdrawn,
)

STEPS = ["runtime.image_pulled", "runtime.model_downloaded", "runtime.model_loaded", "runtime.cache_warmed"]


def steps_in(scene: Scene) -> list[str]:
    return [each for each in scene.kinds if each in STEPS]


def test_the_service_hears_every_event_that_the_contract_sends_it() -> None:
    assert set(HEARS) == set(heard_by(Owner.RUNTIME_DEPLOYER))


def test_nothing_is_installed_before_both_the_request_and_the_gpus_are_there() -> None:
    assert Scene().hear(requested()).stage is Stage.WAITING_FOR_GPU
    assert Scene().hear(gpu_ready(), cluster_ready()).stage is Stage.WAITING_FOR_REQUEST

    scene = Scene().hear(gpu_ready(), requested())

    assert scene.stage is Stage.INSTALLING
    assert scene.runtime.intended


def test_each_step_is_told_once_as_the_first_replica_goes_through_it() -> None:
    scene = Scene().hear(requested(), gpu_ready())

    stages = [
        scene.see(each).stage for each in (pulling(), downloading(), loading(), loading(), loaded(), warm(), warm())
    ]

    assert stages == [
        Stage.PULLING,
        Stage.DOWNLOADING,
        Stage.LOADING,
        Stage.LOADING,
        Stage.WARMING,
        Stage.SERVING,
        Stage.SERVING,
    ]
    assert steps_in(scene) == STEPS


def test_a_replica_that_was_not_looked_at_in_between_tells_all_its_steps_in_order() -> None:
    scene = Scene().hear(requested(), gpu_ready()).see(warm())

    assert steps_in(scene) == STEPS
    replica = Replica(name="p1", url="http://127.64.0.9:8000", model="millrace/ngram-1")
    assert scene.last(CacheWarmed) == CacheWarmed(replicas=(replica,))


def test_a_replica_that_runs_is_not_ready_until_it_answered_a_request() -> None:
    scene = Scene().hear(requested(), gpu_ready()).see(loaded())

    assert "runtime.cache_warmed" not in scene.kinds
    assert scene.runtime.replicas_told.replicas == ()


def test_a_warm_up_is_remembered_when_the_adapter_forgot_it() -> None:
    scene = a_serving_scene(warm())

    scene.see(loaded())

    assert scene.stage is Stage.SERVING


def test_a_restarted_engine_is_cold_again() -> None:
    scene = a_serving_scene(warm())

    scene.see(loaded().model_copy(update={"containers": (an_engine(restarts=1),)}))

    assert scene.stage is Stage.DEGRADED


def test_progress_is_not_taken_back_when_the_furthest_replica_is_lost() -> None:
    scene = Scene().hear(requested(), gpu_ready()).see(loading()).see(pulling("p2")).see(downloading("p2"))

    assert steps_in(scene) == STEPS[:2]


def test_pods_of_another_recipe_prove_nothing_for_this_one() -> None:
    scene = Scene().hear(requested(generation=2), gpu_ready())

    scene.see(warm().model_copy(update={"recipe": "another"}))

    assert steps_in(scene) == []


def test_every_change_of_the_ready_replicas_is_told_once() -> None:
    scene = a_serving_scene(warm("p1")).hear(scale_decided(2))
    scene.events.clear()

    scene.see(warm("p1"), loading("p2"))
    scene.see(warm("p1"), warm("p2", ip="127.64.0.10"))
    scene.see(warm("p1"), warm("p2", ip="127.64.0.10"))
    scene.see(warm("p2", ip="127.64.0.10"))

    told_ready = [(each.desired, each.ready) for each in scene.events if isinstance(each, ReplicasChanged)]
    assert told_ready == [(2, 2), (2, 1)]
    assert scene.kinds == ["runtime.replicas_changed"] * 2


def test_a_terminating_pod_takes_no_traffic_though_it_is_still_ready() -> None:
    scene = a_serving_scene(warm("p1"), warm("p2", ip="127.64.0.10"))

    scene.see(warm("p1").model_copy(update={"terminating": True}), warm("p2", ip="127.64.0.10"))

    assert [each.name for each in scene.runtime.replicas_told.replicas] == ["p2"]


def test_the_highest_sequence_decides_the_number_of_replicas() -> None:
    scene = a_serving_scene().hear(scale_decided(3, sequence=7), scale_decided(2, sequence=6))

    assert scene.runtime.replicas_wanted == 3
    changed = scene.last(ReplicasChanged)
    assert isinstance(changed, ReplicasChanged)
    assert changed.desired == 3


def test_a_decision_outside_the_limits_of_the_tenant_is_cut_to_them() -> None:
    scene = Scene().hear(requested(spec=a_spec(low=2, high=3)), gpu_ready())

    assert scene.hear(scale_decided(9, sequence=1)).runtime.replicas_wanted == 3
    assert scene.hear(scale_decided(0, sequence=2)).runtime.replicas_wanted == 2


def test_losing_the_last_replica_degrades_and_getting_one_back_recovers() -> None:
    scene = a_serving_scene()
    scene.events.clear()

    scene.see(pulling("p2"))
    scene.see(loading("p2"))
    scene.see(warm("p2"))

    assert scene.kinds == [
        "runtime.replicas_changed",
        "runtime.degraded",
        "runtime.replicas_changed",
        "runtime.recovered",
    ]
    assert scene.stage is Stage.SERVING


def test_trouble_after_serving_degrades_with_its_reason_and_never_fails() -> None:
    scene = a_serving_scene()

    scene.see(a_pod(init=FETCHED, engine=an_engine(restarts=5, exit_code=137, reason="OOMKilled")))
    scene.hear(told(Refused(action="Apply", code="field_conflict", message="kubectl")))

    degraded = scene.last(RuntimeDegraded)
    assert isinstance(degraded, RuntimeDegraded)
    assert degraded.reason == "OOMKilled"
    assert "runtime.failed" not in scene.kinds
    assert scene.wake_at_ms is None


def test_an_image_that_cannot_be_pulled_fails_after_its_patience_and_once() -> None:
    stuck = a_pod(init=(an_image(), a_fetch(waiting="ImagePullBackOff")))
    scene = Scene().hear(requested(), gpu_ready()).see(stuck)
    assert "runtime.failed" not in scene.kinds

    scene.wake().hear(told(Delayed(code="x", message="y")))

    failure = scene.last(RuntimeFailed)
    assert isinstance(failure, RuntimeFailed)
    assert failure.reason == "ImagePullBackOff"
    assert "millrace/model-fetch:1" in failure.message
    assert scene.kinds.count("runtime.failed") == 1
    assert scene.stage is Stage.FAILED
    assert scene.wake_at_ms is None


def test_an_image_that_comes_in_time_fails_nothing() -> None:
    stuck = a_pod(init=(an_image(), a_fetch(waiting="ImagePullBackOff")))
    scene = Scene().hear(requested(), gpu_ready()).see(stuck)

    scene.now_ms += 60_000
    scene.see(downloading())
    scene.now_ms += 600_000
    scene.see(warm())

    assert "runtime.failed" not in scene.kinds
    assert scene.stage is Stage.SERVING


def test_a_wrong_digest_fails_at_once_with_its_own_reason() -> None:
    wrong = a_fetch(TERMINATED, 1, message="DigestMismatch: expected sha256:aa, got sha256:bb")
    scene = Scene().hear(requested(), gpu_ready()).see(a_pod(init=(an_image(TERMINATED, 0), wrong)))

    failure = scene.last(RuntimeFailed)
    assert isinstance(failure, RuntimeFailed)
    assert failure.reason == "DigestMismatch"
    assert "got sha256:bb" in failure.message


def test_one_healthy_pod_keeps_the_others_trouble_from_failing_the_endpoint() -> None:
    stuck = a_pod("p2", init=(an_image(), a_fetch(waiting="InvalidImageName")))

    scene = Scene().hear(requested(), gpu_ready()).see(stuck, downloading("p1"))

    assert "runtime.failed" not in scene.kinds


def test_a_crash_loop_before_serving_fails_after_three_crashes() -> None:
    def crashed(restarts: int) -> Scene:
        engine = an_engine(restarts=restarts, exit_code=1, waiting="CrashLoopBackOff")
        return Scene().hear(requested(), gpu_ready()).see(a_pod(init=FETCHED, engine=engine))

    assert "runtime.failed" not in crashed(2).kinds
    assert "runtime.failed" in crashed(3).kinds


def test_an_unknown_template_fails_at_once_and_says_which() -> None:
    scene = Scene().hear(requested(placement=a_placement(template="triton@9")))

    failure = scene.last(RuntimeFailed)
    assert isinstance(failure, RuntimeFailed)
    assert failure.reason == "TemplateUnknown"
    assert "triton@9" in failure.message


def test_editing_a_template_file_changes_nothing_that_was_created_before() -> None:
    scene = Scene().hear(requested())
    pinned = scene.runtime.template

    scene.templates = {}
    scene.hear(gpu_ready()).see(warm())

    assert scene.runtime.template == pinned
    assert scene.stage is Stage.SERVING


def test_an_object_that_is_refused_fails_with_the_reason_of_the_refusal() -> None:
    scene = Scene().hear(requested(), gpu_ready())

    scene.hear(told(Refused(action="Apply", code="invalid_object", message="spec.replicas: must be positive")))

    failure = scene.last(RuntimeFailed)
    assert failure == RuntimeFailed(reason="InvalidObject", message="spec.replicas: must be positive")


def test_a_cluster_that_does_not_answer_changes_nothing_but_the_reason_kept() -> None:
    scene = a_serving_scene()
    before = len(scene.events)

    scene.hear(told(Delayed(code="http_503", message="asleep")))

    assert len(scene.events) == before
    assert scene.runtime.delay == "http_503: asleep"


def test_nothing_is_removed_before_the_route_is_withdrawn() -> None:
    scene = a_serving_scene().hear(deletion_requested())
    stages = [scene.stage]
    assert "runtime.removed" not in scene.see(warm()).kinds

    stages.append(scene.hear(withdrawn()).stage)
    assert "runtime.removed" not in scene.see(warm()).kinds

    stages.append(scene.see_nothing().stage)
    assert stages == [Stage.DRAINING, Stage.REMOVING, Stage.REMOVED]
    assert scene.generations[-1] == 2
    assert scene.kinds[-1] == "runtime.removed"


def test_a_withdrawn_route_alone_removes_nothing() -> None:
    scene = a_serving_scene().hear(withdrawn(generation=1))

    assert scene.stage is Stage.SERVING


def test_replicas_are_told_to_be_none_when_removal_begins() -> None:
    scene = a_serving_scene().hear(deletion_requested(), withdrawn()).see_nothing()

    assert scene.last(ReplicasChanged) == ReplicasChanged(desired=0, ready=0, replicas=(), warmed_generation=1)


def test_a_look_from_before_the_removal_proves_nothing() -> None:
    scene = Scene().hear(requested(), gpu_ready()).hear(told(Observed(removing=False)))

    scene.hear(deletion_requested(), withdrawn())

    assert scene.stage is Stage.REMOVING
    assert "runtime.removed" not in scene.kinds


def test_an_endpoint_without_gpus_or_without_any_request_is_removed_as_soon_as_the_route_is_gone() -> None:
    never_placed = Scene().hear(requested(), deletion_requested(), withdrawn())
    never_heard_of = Scene().hear(withdrawn(), deletion_requested())
    placed_too_late = Scene().hear(requested(), deletion_requested(), gpu_ready(), withdrawn())

    for scene in (never_placed, never_heard_of, placed_too_late):
        assert scene.kinds == ["runtime.removed"]
        assert scene.stage is Stage.REMOVED


def test_even_an_endpoint_that_holds_nothing_waits_for_its_route_to_be_withdrawn() -> None:
    scene = Scene().hear(requested(), deletion_requested())

    assert scene.stage is Stage.DRAINING
    assert scene.kinds == []


def test_a_withdrawal_from_before_the_last_request_does_not_count() -> None:
    scene = Scene().hear(withdrawn(generation=1), requested(generation=2), deletion_requested(generation=3))

    assert scene.stage is Stage.DRAINING


def test_a_failed_endpoint_gives_back_and_a_later_delete_is_answered_again() -> None:
    scene = a_serving_scene().hear(failed(), withdrawn(generation=1)).see_nothing()
    assert scene.kinds.count("runtime.removed") == 1

    scene.hear(deletion_requested())

    assert scene.kinds.count("runtime.removed") == 2
    assert scene.generations[-1] == 2


def test_a_request_that_comes_after_its_own_deletion_installs_nothing() -> None:
    scene = Scene().hear(deletion_requested(), gpu_ready(), requested(), withdrawn())

    assert scene.stage is Stage.REMOVED
    assert not scene.runtime.intended


def test_what_is_asked_for_again_does_not_count_as_removed_by_the_look_before() -> None:
    scene = a_serving_scene().hear(failed(), withdrawn(generation=1)).see_nothing()

    asked_again = scene.hear(requested(generation=2, sequence=20), gpu_ready(generation=2, sequence=21)).stage
    scene.hear(deletion_requested(generation=3, sequence=21), withdrawn(generation=3, sequence=9))

    assert asked_again is Stage.INSTALLING
    assert scene.stage is Stage.REMOVING


def test_nothing_is_told_of_progress_once_the_end_was_asked_for() -> None:
    scene = Scene().hear(requested(), gpu_ready(), deletion_requested())
    scene.see(warm())

    assert steps_in(scene) == []
