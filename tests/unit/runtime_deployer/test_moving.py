"""Pods leave a node that is to go: a rollout of the same recipe under another name, and no other pod moves."""

from __future__ import annotations

import pytest

from libs.common.events.capacity import NodeDraining
from libs.common.events.envelope import Envelope
from libs.common.events.runtime import ReplicasChanged, RuntimeDegraded
from libs.common.ids import EventId
from services.runtime_deployer.core.manifests import render
from services.runtime_deployer.core.observed import PodSeen
from services.runtime_deployer.service import HEARS
from tests.unit.runtime_deployer.a_runtime import VLLM, Scene, a_recipe, a_serving_scene, told, warm
from tests.unit.runtime_deployer.test_rollout import SWAP, last_told, steps_of


def draining(node: str = "n0") -> NodeDraining:
    return NodeDraining(claim=node, node=node, reason="driver 570", surges=True, deadline_ms=1)


def on(node: str, name: str = "o1", *, recipe: str = "") -> PodSeen:
    return warm(name).model_copy(update={"node": node, **({"recipe": recipe} if recipe else {})})


def a_scene() -> Scene:
    return a_serving_scene(on("n0"))


def test_a_node_that_drains_gives_its_pods_another_recipe_that_is_the_same_but_for_its_name() -> None:
    scene = a_scene()
    before = dict(render(scene.runtime, VLLM)[-1].body)["spec"]

    scene.hear(told(draining()))

    after = dict(render(scene.runtime, VLLM)[-1].body)["spec"]
    assert scene.runtime.recipe != a_recipe()
    assert str(after).replace(scene.runtime.recipe, a_recipe()) == str(before)
    assert last_told(scene).replacing


def test_nothing_moves_for_a_node_that_none_of_its_pods_is_on() -> None:
    scene = a_scene().hear(told(draining("n7")))

    assert scene.runtime.recipe == a_recipe()
    assert not last_told(scene).replacing


def test_a_pod_that_is_seen_late_on_a_draining_node_moves_as_well() -> None:
    scene = a_serving_scene(warm("o1")).hear(told(draining()))

    scene.see(on("n0"))

    assert scene.runtime.moved == "n0"


def test_it_is_over_when_all_pods_are_of_the_new_name_and_serve() -> None:
    scene = a_scene().hear(told(draining()))
    moved = scene.runtime.recipe

    scene.see(on("n0"), on("n1", "o2", recipe=moved))
    assert last_told(scene).replacing, "the old one still serves there"
    scene.see(on("n1", "o2", recipe=moved))

    assert not last_told(scene).replacing
    assert scene.runtime.recipe == moved


def test_where_no_other_machine_is_free_the_old_one_goes_first_and_requests_are_held() -> None:
    scene = a_scene().hear(told(draining()))
    waiting = on("", "o2", recipe=scene.runtime.recipe).model_copy(
        update={"unschedulable": "Unschedulable", "ready": False, "warmed": False, "ip": ""}
    )

    scene.see(on("n0"), waiting)
    assert steps_of(scene) == SWAP
    scene.see(waiting)

    changed = scene.last(ReplicasChanged)
    assert isinstance(changed, ReplicasChanged)
    assert (changed.replicas, changed.replacing) == ((), True)
    degraded = scene.last(RuntimeDegraded)
    assert isinstance(degraded, RuntimeDegraded)
    assert degraded.reason == "NodeReplacing"


@pytest.mark.parametrize(
    ("subject", "endpoints", "told_to"),
    [("ep-a", None, ("ep-a",)), ("sc-a", ("ep-a", "ep-b"), ("ep-a", "ep-b")), ("sc-a", (), ())],
)
def test_a_node_of_a_shared_cluster_is_the_business_of_those_who_are_named_and_its_pool_has_no_runtime(
    subject: str, endpoints: tuple[str, ...] | None, told_to: tuple[str, ...]
) -> None:
    news = draining().model_copy(update={"endpoints": endpoints})

    assert HEARS[NodeDraining](Envelope(EventId("e"), news, subject, time_ms=1)) == told_to
