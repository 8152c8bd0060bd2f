"""What is done in the tenant cluster, for what is wanted and what is there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime_deployer.core.manifests import NAMESPACE, render
from services.runtime_deployer.core.observed import OWNED, Kind, ObjectSeen, Observed, PodSeen
from services.runtime_deployer.core.plan import (
    FORCE_AFTER_MS,
    Action,
    Apply,
    Check,
    Delete,
    ForceDeletePod,
    WarmUp,
    looks_at,
    plan,
)
from services.runtime_deployer.core.state import Cluster, Runtime
from services.runtime_deployer.core.templates import VolumeClaim
from tests.unit.runtime_deployer.a_runtime import (
    ENDPOINT,
    NOW_MS,
    PROJECT,
    TEMPLATES,
    VLLM,
    Scene,
    a_placement,
    a_serving_scene,
    deletion_requested,
    downloading,
    gpu_ready,
    loaded,
    loading,
    pulling,
    requested,
    scale_decided,
    warm,
    withdrawn,
)

CLUSTER = Cluster(PROJECT, ENDPOINT)


def planned(scene: Scene, observed: Observed) -> tuple[Action, ...]:
    return plan(scene.runtime, observed, scene.now_ms)


def test_an_empty_cluster_gets_everything_with_the_deployment_last() -> None:
    scene = Scene().hear(requested(), gpu_ready())

    actions = planned(scene, Observed(removing=False))

    kinds = [each.manifest.kind for each in actions if isinstance(each, Apply)]
    assert kinds == [Kind.NAMESPACE, *OWNED]
    assert kinds[-1] is Kind.DEPLOYMENT


def test_what_nobody_has_tried_yet_is_judged_whole_before_the_first_of_it_is_applied() -> None:
    scene = Scene().hear(requested(), gpu_ready())

    shared, check, first, *_ = planned(scene, Observed(removing=False))

    assert isinstance(shared, Apply)
    assert isinstance(check, Check)
    assert [each.kind for each in check.manifests] == list(OWNED)
    assert isinstance(first, Apply)

    again = planned(scene, Observed(removing=False, pods=(loading(),)))
    assert not any(isinstance(each, Check) for each in again), "its pods run: it was judged before"


def test_what_a_template_before_made_and_this_one_does_not_goes() -> None:
    templates = {"vllm@1": replace(VLLM, metrics_path="/metrics", claim=VolumeClaim(100))}
    scene = Scene(templates={**TEMPLATES, **templates}).hear(requested(), gpu_ready())
    before = [each for each in render(scene.runtime, templates["vllm@1"]) if each.kind is not Kind.NAMESPACE]
    there = tuple(ObjectSeen(kind=each.kind, generation=1, digest=each.digest) for each in before)

    scene.hear(requested(generation=2, sequence=10, placement=a_placement(template="vllm@2")))
    actions = planned(scene, Observed(removing=False, objects=there))

    assert set(looks_at(scene.runtime)) >= {Kind.MONITOR, Kind.VOLUME_CLAIM}, "looked for until it is gone"
    assert [each.kind for each in actions if isinstance(each, Delete)] == [Kind.MONITOR, Kind.VOLUME_CLAIM]


def test_nothing_is_done_where_everything_is_as_wanted() -> None:
    scene = a_serving_scene()

    assert planned(scene, scene.look(warm())) == ()


def test_only_what_differs_is_applied_again_and_its_namespace() -> None:
    scene = a_serving_scene()
    look = scene.look(warm())
    without_service = look.model_copy(
        update={"objects": tuple(each for each in look.objects if each.kind is not Kind.SERVICE)}
    )

    actions = planned(scene, without_service)

    assert [each.manifest.kind for each in actions if isinstance(each, Apply)] == [Kind.NAMESPACE, Kind.SERVICE]


def test_another_number_of_replicas_is_applied_to_the_deployment_alone() -> None:
    scene = a_serving_scene()
    look = scene.look(warm())
    scene.hear(scale_decided(3))

    actions = planned(scene, look)

    deployments = [each.manifest for each in actions if isinstance(each, Apply)][1:]
    assert [each.kind for each in deployments] == [Kind.DEPLOYMENT]
    spec = deployments[0].body["spec"]
    assert isinstance(spec, dict)
    assert spec["replicas"] == 3


def test_replicas_changed_by_hand_are_set_back() -> None:
    scene = a_serving_scene()
    look = scene.look(warm())
    scaled = tuple(
        each.model_copy(update={"replicas": 7}) if each.kind is Kind.DEPLOYMENT else each for each in look.objects
    )

    actions = planned(scene, look.model_copy(update={"objects": scaled}))

    assert [each.manifest.kind for each in actions if isinstance(each, Apply)] == [Kind.NAMESPACE, Kind.DEPLOYMENT]


def test_only_ready_and_cold_pods_are_warmed_up() -> None:
    scene = a_serving_scene(warm("p1"))
    going = loaded("p4").model_copy(update={"terminating": True})
    look = scene.look(warm("p1"), loading("p2"), loaded("p3"), going)

    assert planned(scene, look) == (WarmUp(CLUSTER, "p3", 8000, "millrace/ngram-1", "uid-p3/0"),)


@pytest.mark.parametrize("stage", ["serving", "removing"])
def test_where_a_newer_generation_was_at_work_nothing_is_done(stage: str) -> None:
    scene = a_serving_scene()
    if stage == "removing":
        scene.hear(deletion_requested(), withdrawn())
    newer = (ObjectSeen(kind=Kind.DEPLOYMENT, generation=scene.runtime.generation + 1, digest="other"),)

    assert planned(scene, Observed(removing=stage == "removing", objects=newer)) == ()


def test_nothing_is_touched_while_streams_drain() -> None:
    scene = a_serving_scene().hear(deletion_requested())

    assert planned(scene, Observed(removing=False)) == ()


def test_removal_deletes_what_is_there_once_the_deployment_first_and_never_the_namespace() -> None:
    scene = a_serving_scene()
    look = scene.look(warm())
    scene.hear(deletion_requested(), withdrawn())

    actions = planned(scene, look)

    assert [each.kind for each in actions if isinstance(each, Delete)] == list(reversed(OWNED))
    assert all(isinstance(each, Delete) and each.name == ENDPOINT for each in actions)
    leaving = tuple(each.model_copy(update={"deleting": True}) for each in look.objects)
    assert planned(scene, look.model_copy(update={"objects": leaving})) == ()


def test_pods_of_a_dead_node_are_forgotten_in_the_end() -> None:
    scene = a_serving_scene()
    scene.hear(deletion_requested(), withdrawn())
    stuck = Observed(removing=True, pods=(warm("p1"),))

    assert planned(scene, stuck) == ()
    scene.now_ms += FORCE_AFTER_MS

    assert planned(scene, stuck) == (ForceDeletePod(CLUSTER, "p1"),)


def test_of_what_was_not_looked_at_nothing_is_concluded() -> None:
    scene = a_serving_scene()
    deployment = scene.look().has(Kind.DEPLOYMENT)
    assert deployment is not None
    look = Observed(removing=False, looked=(Kind.DEPLOYMENT,), objects=(deployment,), pods=(warm(),))

    assert planned(scene, look) == ()


def test_everything_is_looked_at_but_while_only_pods_move() -> None:
    scene = Scene().hear(requested(), gpu_ready())
    assert looks_at(scene.runtime) == OWNED
    for pod in (pulling(), downloading(), loading(), loaded()):
        assert looks_at(scene.see(pod).runtime) == (Kind.DEPLOYMENT,)

    assert looks_at(scene.see(warm()).runtime) == OWNED
    assert looks_at(scene.hear(deletion_requested(), withdrawn()).runtime) == OWNED


OBJECTS = st.lists(
    st.builds(
        ObjectSeen,
        kind=st.sampled_from(OWNED),
        generation=st.integers(0, 4),
        digest=st.sampled_from(["", "x"]),
        replicas=st.sampled_from([None, 0, 1, 5]),
        deleting=st.booleans(),
    ),
    max_size=5,
    unique_by=lambda each: each.kind,
)


@given(
    generation=st.integers(1, 3),
    objects=OBJECTS,
    pods=st.lists(st.sampled_from([loading(), loaded(), warm()]), max_size=1),
    ended=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_no_plan_ever_applies_an_older_generation_over_a_newer_one(
    generation: int, objects: list[ObjectSeen], pods: list[PodSeen], ended: bool
) -> None:
    scene = Scene().hear(requested(generation=generation), gpu_ready())
    if ended:
        scene.hear(deletion_requested(generation=generation), withdrawn(generation=generation))
    observed = Observed(removing=ended, objects=tuple(objects), pods=tuple(pods))

    actions = planned(scene, observed)

    newest = max((each.generation for each in objects), default=0)
    if newest > generation:
        assert actions == ()
    for each in actions:
        assert not isinstance(each, Apply) or each.manifest.generation in (0, generation)
        assert not isinstance(each, Delete) or ended


@given(objects=OBJECTS)
def test_a_plan_carried_out_leaves_nothing_to_plan(objects: list[ObjectSeen]) -> None:
    scene = Scene().hear(requested(generation=4), gpu_ready())
    there = {each.kind: each for each in objects}

    for action in planned(scene, Observed(removing=False, objects=tuple(objects))):
        if isinstance(action, Check):
            continue
        assert isinstance(action, Apply)
        there[action.manifest.kind] = _applied(action, scene.runtime)
    there.pop(Kind.NAMESPACE, None)

    assert planned(scene, Observed(removing=False, objects=tuple(there.values()))) == ()


def _applied(action: Apply, runtime: Runtime) -> ObjectSeen:
    manifest = action.manifest
    replicas = runtime.replicas_wanted if manifest.kind is Kind.DEPLOYMENT else None
    return ObjectSeen(kind=manifest.kind, generation=manifest.generation, digest=manifest.digest, replicas=replicas)


def test_the_same_runtime_renders_the_same_objects_and_a_scale_changes_only_the_deployment() -> None:
    scene = a_serving_scene()
    before = render(scene.runtime, VLLM)
    assert render(replace(scene.runtime), VLLM) == before

    scene.hear(scale_decided(2))
    after = render(scene.runtime, VLLM)

    assert [old.kind for old, new in zip(before, after, strict=True) if old != new] == [Kind.DEPLOYMENT]
    assert before[0].name == NAMESPACE
    assert scene.now_ms == NOW_MS
