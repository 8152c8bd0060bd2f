"""Desire by generation: updates, rollbacks, pauses, repairs and deletions, in any order and at any moment."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from libs.common.events.endpoint import EndpointPauseRequested, Limits
from libs.common.events.envelope import Envelope
from libs.common.events.runtime import CacheWarmed, ReplicasChanged, RuntimeFailed
from libs.common.store.port import Attention
from services.runtime_deployer.core.lifecycle import Stage, attention_of
from services.runtime_deployer.core.manifests import render
from services.runtime_deployer.core.observed import Kind, ObjectSeen, Observed, PodSeen
from services.runtime_deployer.core.plan import Apply, WarmUp, plan
from tests.unit.runtime_deployer.a_runtime import (
    VLLM,
    Scene,
    a_placement,
    a_pod,
    a_serving_scene,
    a_spec,
    an_engine,
    deletion_requested,
    failed,
    gpu_ready,
    requested,
    scale_decided,
    told,
    warm,
    withdrawn,
)

OTHER = "millrace/ngram-2"
STEPS = ["runtime.image_pulled", "runtime.model_downloaded", "runtime.model_loaded", "runtime.cache_warmed"]


def another_model(*, generation: int = 2, sequence: int = 10, rollout_paused: bool = False) -> Envelope:
    spec = a_spec(model=OTHER)
    return requested(generation=generation, sequence=sequence, spec=spec, rollout_paused=rollout_paused)


def paused(*, generation: int = 2, sequence: int = 10) -> Envelope:
    data = EndpointPauseRequested(tenant_id="acme", project_id="default", drain_deadline_ms=1000)
    return told(data, generation=generation, sequence=sequence)


def of_the_other(name: str = "n1", *, ready: bool = True, warmed: bool = True) -> PodSeen:
    return warm(name).model_copy(update={"recipe": OTHER_RECIPE, "model": OTHER, "ready": ready, "warmed": warmed})


OTHER_RECIPE = Scene().hear(another_model()).runtime.recipe


def facts_in(scene: Scene, generation: int) -> list[str]:
    """The steps that were told for a generation, in order."""
    told_for = zip(scene.kinds, scene.generations, strict=True)
    return [kind for kind, of in told_for if of == generation and kind in STEPS]


def is_at(scene: Scene, stage: Stage) -> bool:
    """Whether the runtime stands there."""
    return scene.stage is stage


def test_an_update_is_told_from_the_new_pods_alone_and_last_when_no_old_one_stays() -> None:
    scene = a_serving_scene(warm("o1"), warm("o2")).hear(another_model())

    scene.see(warm("o1"), warm("o2"))
    assert facts_in(scene, 2) == []
    scene.see(warm("o1"), of_the_other(warmed=False))
    assert facts_in(scene, 2) == STEPS[:3]
    scene.see(warm("o1"), of_the_other())
    assert facts_in(scene, 2) == STEPS[:3]
    scene.see(of_the_other("n1"), of_the_other("n2"))

    assert facts_in(scene, 2) == STEPS
    warmed = scene.last(CacheWarmed)
    assert isinstance(warmed, CacheWarmed)
    assert {each.model for each in warmed.replicas} == {OTHER}


def test_replicas_name_old_and_new_while_it_rolls_each_with_the_model_it_serves() -> None:
    scene = a_serving_scene(warm("o1"), warm("o2")).hear(another_model()).see(warm("o1"), of_the_other())

    changed = scene.last(ReplicasChanged)
    assert isinstance(changed, ReplicasChanged)
    assert {each.name: each.model for each in changed.replicas} == {"o1": "millrace/ngram-1", "n1": OTHER}
    assert changed.warmed_generation == 1


def test_a_replica_of_the_new_recipe_counts_only_when_it_answered_a_request() -> None:
    scene = a_serving_scene(warm("o1")).hear(another_model()).see(of_the_other(warmed=False))

    assert scene.runtime.replicas_told.replicas == ()
    assert "runtime.cache_warmed" not in facts_in(scene, 2)


def test_an_update_rolls_the_deployment_and_says_so_in_the_pods_of_it_alone() -> None:
    scene = a_serving_scene()
    before = dict(render(scene.runtime, VLLM)[-1].body)["spec"]

    scene.hear(another_model())

    after = dict(render(scene.runtime, VLLM)[-1].body)["spec"]
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert before["template"] != after["template"]
    assert before["selector"] == after["selector"]


@pytest.mark.parametrize("change", [{"scaling": a_spec(high=2).scaling}, {"limits": Limits(requests_per_minute=5)}])
def test_a_change_of_scaling_or_limits_restarts_no_pod_and_tells_no_step_again(change: dict[str, object]) -> None:
    scene = a_serving_scene()
    before = dict(render(scene.runtime, VLLM)[-1].body)["spec"]
    spec = a_spec().model_copy(update=change)

    scene.hear(requested(generation=2, sequence=10, spec=spec)).see(warm())

    after = dict(render(scene.runtime, VLLM)[-1].body)["spec"]
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert before["template"] == after["template"]
    assert facts_in(scene, 2) == []
    assert is_at(scene, Stage.SERVING)


def test_a_change_of_limits_is_answered_with_the_generation_that_is_warm() -> None:
    scene = a_serving_scene()

    scene.hear(requested(generation=2, sequence=10, spec=a_spec().model_copy(update={"limits": LIMITED})))

    changed = scene.last(ReplicasChanged)
    assert isinstance(changed, ReplicasChanged)
    assert (changed.warmed_generation, changed.ready) == (2, 1)


LIMITED = Limits(tokens_per_minute=1000)


def test_an_outage_goes_on_over_a_change_of_scaling_and_ends_with_its_recovery() -> None:
    scene = a_serving_scene().see(a_pod())
    scene.hear(requested(generation=2, sequence=10, spec=a_spec(high=2))).see(a_pod())
    crashing = a_pod(engine=an_engine(restarts=5, exit_code=3, waiting="CrashLoopBackOff"))
    scene.see(crashing).see(warm())

    assert scene.kinds.count("runtime.degraded") == 1
    assert scene.kinds[-1] == "runtime.recovered"
    assert "runtime.failed" not in scene.kinds


def test_progress_goes_on_over_a_change_of_scaling_in_the_middle() -> None:
    fetched = warm().model_copy(update={"ready": False, "warmed": False})
    scene = Scene().hear(requested(), gpu_ready()).see(fetched)

    scene.hear(requested(generation=2, sequence=10, spec=a_spec(high=2))).see(warm())

    assert facts_in(scene, 1) == STEPS[:2]
    assert facts_in(scene, 2) == STEPS[2:]


def test_facts_are_told_anew_after_a_generation_that_was_never_heard() -> None:
    """The others may have forgotten the facts because of it, even if nothing differs to us."""
    scene = a_serving_scene().hear(requested(generation=3, sequence=10)).see(warm())

    assert facts_in(scene, 3) == STEPS


def test_a_failing_update_is_told_with_its_generation_while_the_old_pods_serve_on() -> None:
    scene = a_serving_scene(warm("o1"), warm("o2")).hear(another_model())
    broken = of_the_other(ready=False, warmed=False).model_copy(
        update={"containers": (an_engine(restarts=3, exit_code=3, waiting="CrashLoopBackOff"),)}
    )

    scene.see(warm("o1"), broken)

    failure = [
        (each, of) for each, of in zip(scene.events, scene.generations, strict=True) if isinstance(each, RuntimeFailed)
    ]
    assert [(each.reason, of) for each, of in failure] == [("CrashLoopBackOff", 2)]
    assert is_at(scene, Stage.FAILED)
    assert [each.name for each in scene.runtime.replicas_told.replicas] == ["o1"]
    assert attention_of(scene.runtime) is Attention.WATCH


def test_a_failed_update_still_says_when_an_old_replica_is_lost() -> None:
    scene = a_serving_scene(warm("o1")).hear(
        requested(generation=2, sequence=10, placement=a_placement(template="no@1"))
    )

    scene.hear(told(Observed(removing=False)))

    assert is_at(scene, Stage.FAILED)
    assert scene.runtime.replicas_told.replicas == ()


def test_a_rollback_converges_at_once_where_the_old_pods_still_run() -> None:
    scene = a_serving_scene(warm("o1"), warm("o2")).hear(another_model()).see(warm("o1"), of_the_other(ready=False))
    scene.hear(requested(generation=3, sequence=11))

    scene.see(warm("o1"), of_the_other(ready=False, warmed=False))
    assert "runtime.cache_warmed" not in facts_in(scene, 3), "the pod of the broken recipe is still there"
    scene.see(warm("o1"))

    assert facts_in(scene, 3) == STEPS
    assert is_at(scene, Stage.SERVING)


def test_a_rollback_is_not_said_to_be_done_before_the_cluster_was_told_of_it() -> None:
    scene = a_serving_scene(warm("o1")).hear(another_model()).see(warm("o1"))
    stale = scene.look(warm("o1"))

    scene.hear(requested(generation=3, sequence=11), told(stale))

    assert facts_in(scene, 3) == []
    assert is_at(scene.see(warm("o1")), Stage.SERVING)


def test_an_unknown_template_fails_the_update_and_a_known_one_repairs_it() -> None:
    scene = a_serving_scene().hear(requested(generation=2, sequence=10, placement=a_placement(template="no@1")))
    assert is_at(scene, Stage.FAILED)
    assert scene.generations[-1] == 2

    scene.hear(requested(generation=3, sequence=11)).see(warm())

    assert is_at(scene, Stage.SERVING)
    assert facts_in(scene, 3) == STEPS


def test_an_old_pod_that_restarts_while_it_rolls_is_warmed_up_with_its_own_model_on_its_own_port() -> None:
    scene = a_serving_scene(warm("o1")).hear(another_model())
    cold = warm("o1", restarts=1).model_copy(update={"warmed": False, "port": 9000})
    look = scene.look(cold)
    scene.hear(told(look))

    (asked,) = [each for each in plan(scene.runtime, look, scene.now_ms) if isinstance(each, WarmUp)]

    assert (asked.model, asked.port) == ("millrace/ngram-1", 9000)


def test_while_it_rolls_it_is_followed_closely_although_all_replicas_are_there() -> None:
    scene = a_serving_scene().hear(scale_decided(2)).see(warm("p1"), warm("p2"))
    assert attention_of(scene.runtime) is Attention.WATCH

    scene.hear(another_model()).see(warm("p1"), of_the_other())

    assert attention_of(scene.runtime) is Attention.NOW


def test_a_pause_waits_for_the_route_removes_and_says_so_with_its_generation() -> None:
    scene = a_serving_scene().hear(paused())
    assert is_at(scene, Stage.DRAINING)

    scene.hear(withdrawn(generation=2))
    assert is_at(scene, Stage.REMOVING)
    scene.see_nothing()

    assert is_at(scene, Stage.REMOVED)
    assert (scene.kinds[-1], scene.generations[-1]) == ("runtime.removed", 2)


def test_what_was_paused_is_installed_anew_when_its_gpus_are_back_and_tells_everything_again() -> None:
    scene = a_serving_scene().hear(paused(), withdrawn(generation=2)).see_nothing()

    scene.hear(requested(generation=3, sequence=11))
    assert is_at(scene, Stage.WAITING_FOR_GPU), "the GPUs from before the pause were given back"
    scene.hear(gpu_ready(generation=3, sequence=12))
    assert is_at(scene, Stage.INSTALLING)
    scene.see(warm("p2"))

    assert facts_in(scene, 3) == STEPS
    assert is_at(scene, Stage.SERVING)


def test_a_number_of_replicas_that_was_decided_before_a_pause_says_nothing_after_it() -> None:
    """GPUs are asked for anew, and only for the fewest."""
    scene = a_serving_scene().hear(scale_decided(3)).hear(paused(), withdrawn(generation=2)).see_nothing()

    scene.hear(requested(generation=3, sequence=11), gpu_ready(generation=3, sequence=12))
    assert scene.runtime.replicas_wanted == 1
    scene.hear(scale_decided(2, sequence=2, generation=3))
    assert scene.runtime.replicas_wanted == 2


def test_a_number_of_replicas_that_was_decided_holds_over_an_update() -> None:
    assert a_serving_scene().hear(scale_decided(3), another_model()).runtime.replicas_wanted == 3


def test_a_resume_before_the_route_was_withdrawn_finds_its_pods_and_tells_everything_again() -> None:
    scene = a_serving_scene().hear(paused(), requested(generation=3, sequence=11), gpu_ready(generation=3, sequence=12))

    scene.see(warm())

    assert facts_in(scene, 3) == STEPS
    assert "runtime.removed" not in scene.kinds


def test_a_resume_in_the_middle_of_a_removal_waits_for_what_is_going_and_makes_it_anew() -> None:
    scene = a_serving_scene().hear(paused(), withdrawn(generation=2))
    going = tuple(each.model_copy(update={"deleting": each.kind is Kind.DEPLOYMENT}) for each in scene.look().objects)
    scene.hear(requested(generation=3, sequence=11), gpu_ready(generation=3, sequence=12))

    wanted = [each.manifest.kind for each in planned(scene, Observed(removing=False, objects=going))]
    assert Kind.DEPLOYMENT not in wanted
    wanted = [each.manifest.kind for each in planned(scene, Observed(removing=False))]
    assert wanted[-1] is Kind.DEPLOYMENT


def planned(scene: Scene, look: Observed) -> list[Apply]:
    scene.hear(told(look))
    return [each for each in plan(scene.runtime, look, scene.now_ms) if isinstance(each, Apply)]


def test_a_pause_after_a_pause_that_is_done_is_answered_at_once() -> None:
    scene = a_serving_scene().hear(paused(), withdrawn(generation=2)).see_nothing()

    scene.hear(deletion_requested(generation=3, sequence=11))

    assert (scene.kinds[-1], scene.generations[-1]) == ("runtime.removed", 3)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_resume_that_overtakes_its_pause_is_what_holds(order: tuple[int, ...]) -> None:
    news = [paused(), requested(generation=3, sequence=11), gpu_ready(generation=3, sequence=12)]
    scene = a_serving_scene().hear(*(news[each] for each in order)).see(warm())

    assert is_at(scene, Stage.SERVING)
    assert facts_in(scene, 3) == STEPS
    assert "runtime.removed" not in scene.kinds


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_repair_tells_everything_again_even_where_the_failure_is_heard_last(order: tuple[int, ...]) -> None:
    """The failure has the generation before: without it the repair looks like a mere change of scaling."""
    news = [failed(), requested(generation=2, sequence=10, spec=a_spec(high=2)), gpu_ready(generation=2, sequence=12)]
    scene = a_serving_scene().hear(*(news[each] for each in order)).see(warm())

    assert is_at(scene, Stage.SERVING)
    assert facts_in(scene, 2) == STEPS


def test_a_deletion_is_for_ever() -> None:
    scene = a_serving_scene().hear(deletion_requested(generation=2), requested(generation=3, sequence=20))

    assert scene.runtime.is_unwanted
    assert is_at(scene, Stage.DRAINING)


@pytest.mark.parametrize("before", range(5))
def test_a_deletion_at_any_time_in_between_ends_with_nothing(before: int) -> None:
    life = (
        another_model(),
        paused(generation=3, sequence=11),
        withdrawn(generation=3),
        requested(generation=4, sequence=12),
        gpu_ready(generation=4, sequence=13),
    )
    scene = a_serving_scene().hear(*life[:before])

    scene.hear(deletion_requested(generation=9, sequence=20), withdrawn(generation=9, sequence=20))
    if scene.stage is not Stage.REMOVED:
        scene.see_nothing()

    assert is_at(scene, Stage.REMOVED)
    assert (scene.kinds[-1], scene.generations[-1]) == ("runtime.removed", 9)


def test_the_text_of_a_template_stays_pinned_over_a_change_of_scaling() -> None:
    scene = a_serving_scene()
    scene.templates["vllm@1"] = replace(VLLM, drain_s=999)

    scene.hear(requested(generation=2, sequence=10, spec=a_spec(high=2)))

    assert scene.runtime.template == VLLM


def test_another_version_of_the_template_is_another_recipe() -> None:
    scene = a_serving_scene()
    before = scene.runtime.recipe

    scene.hear(requested(generation=2, sequence=10, placement=a_placement(template="vllm@2")))

    assert scene.runtime.recipe not in ("", before)


def test_what_is_being_deleted_does_not_count_as_installed() -> None:
    scene = Scene().hear(requested(), gpu_ready())
    going = ObjectSeen(kind=Kind.DEPLOYMENT, generation=1, digest="x", deleting=True)

    scene.hear(told(Observed(removing=False, objects=(going,), pods=(warm(),))))

    assert is_at(scene, Stage.INSTALLING)
    assert facts_in(scene, 1) == []
