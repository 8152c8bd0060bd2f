"""How replicas are replaced: the new one first where there is room, else the old one first while requests are held."""

from __future__ import annotations

from pydantic import JsonValue

from libs.common.events.runtime import ReplicasChanged, RuntimeFailed
from services.runtime_deployer.core.lifecycle import Stage
from services.runtime_deployer.core.manifests import render
from services.runtime_deployer.core.observed import ContainerSeen, PodSeen
from services.runtime_deployer.core.trouble import UPDATE_PATIENCE_MS
from tests.unit.runtime_deployer.a_runtime import (
    VLLM,
    Scene,
    a_serving_scene,
    gpu_ready,
    requested,
    scale_decided,
    warm,
)
from tests.unit.runtime_deployer.test_desire import OTHER_RECIPE, another_model, of_the_other, paused

SURGE = {"maxSurge": 1, "maxUnavailable": 0}
SWAP = {"maxSurge": 0, "maxUnavailable": 1}


def steps_of(scene: Scene) -> JsonValue:
    strategy = deployment_of(scene)["strategy"]
    assert isinstance(strategy, dict)
    return strategy["rollingUpdate"]


def deployment_of(scene: Scene) -> dict[str, JsonValue]:
    spec = dict(render(scene.runtime, VLLM)[-1].body)["spec"]
    assert isinstance(spec, dict)
    return spec


def without_room() -> PodSeen:
    return of_the_other(ready=False, warmed=False).model_copy(update={"unschedulable": "Unschedulable", "ip": ""})


def that_cannot_pull() -> PodSeen:
    stuck = ContainerSeen(name="engine-image", image="wrong:1", waiting="ImagePullBackOff")
    return of_the_other(ready=False, warmed=False).model_copy(update={"init": (stuck,)})


def last_told(scene: Scene) -> ReplicasChanged:
    changed = scene.last(ReplicasChanged)
    assert isinstance(changed, ReplicasChanged)
    return changed


def test_a_new_replica_comes_before_an_old_one_goes() -> None:
    scene = a_serving_scene(warm("o1")).hear(another_model())

    assert steps_of(scene) == SURGE


def test_where_the_new_one_finds_no_room_the_old_one_goes_first() -> None:
    scene = a_serving_scene(warm("o1")).hear(another_model()).see(warm("o1"), without_room())

    assert scene.runtime.no_room_for == OTHER_RECIPE
    assert steps_of(scene) == SWAP


def test_the_next_rollout_looks_for_room_again() -> None:
    scene = a_serving_scene(warm("o1")).hear(another_model()).see(warm("o1"), without_room())

    scene.hear(requested(generation=3, sequence=11))

    assert steps_of(scene) == SURGE


def test_a_pod_without_room_where_nothing_old_stays_changes_nothing() -> None:
    scene = a_serving_scene(warm("o1")).hear(another_model()).see(without_room())

    assert steps_of(scene) == SURGE


def test_requests_are_held_from_the_first_word_of_a_rollout_until_the_new_one_is_warm() -> None:
    scene = a_serving_scene(warm("o1"))
    assert not last_told(scene).replacing

    scene.hear(another_model())
    assert (last_told(scene).replacing, last_told(scene).ready) == (True, 1)
    scene.see(without_room())
    assert (last_told(scene).replacing, last_told(scene).ready) == (True, 0)
    scene.see(of_the_other())

    assert (last_told(scene).replacing, last_told(scene).ready) == (False, 1)


def test_nothing_is_held_after_a_pause_because_nobody_knows_when_there_are_machines_again() -> None:
    scene = a_serving_scene(warm("o1")).hear(paused(), requested(generation=3, sequence=11), gpu_ready(generation=3))

    assert not scene.runtime.is_replacing
    assert not last_told(scene).replacing


def test_requests_are_held_on_while_a_failed_update_is_rolled_back() -> None:
    scene = a_serving_scene(warm("o1")).hear(another_model()).see(that_cannot_pull()).wake()
    assert scene.stage is Stage.FAILED
    assert last_told(scene).replacing

    scene.hear(requested(generation=3, sequence=11)).see(warm("o2"))

    assert not last_told(scene).replacing


def test_an_update_has_less_patience_than_a_first_start_because_there_is_something_to_go_back_to() -> None:
    scene = a_serving_scene(warm("o1")).hear(another_model()).see(that_cannot_pull())

    began_ms = scene.now_ms
    scene.wake()

    assert scene.now_ms - began_ms == UPDATE_PATIENCE_MS
    failed = scene.last(RuntimeFailed)
    assert isinstance(failed, RuntimeFailed)
    assert failed.reason == "ImagePullBackOff"


def test_a_rollout_is_held_by_its_deployment_and_is_the_same_run_when_it_goes_on() -> None:
    scene = a_serving_scene(warm("o1")).hear(another_model()).see(warm("o1"))
    begun, recipe = scene.runtime.begun, scene.runtime.recipe

    scene.hear(another_model(generation=3, sequence=11, rollout_paused=True)).see(warm("o1"))
    held = deployment_of(scene)
    scene.hear(another_model(generation=4, sequence=12)).see(warm("o1"))

    assert (held.get("paused"), deployment_of(scene).get("paused")) == (True, None)
    assert (scene.runtime.begun, scene.runtime.recipe) == (begun, recipe)
    assert last_told(scene).replacing


def test_replicas_may_be_added_while_a_rollout_is_held() -> None:
    scene = a_serving_scene(warm("o1")).hear(
        another_model(), another_model(generation=3, sequence=11, rollout_paused=True)
    )

    scene.hear(scale_decided(2, generation=3))

    assert (deployment_of(scene)["replicas"], deployment_of(scene)["paused"]) == (2, True)
