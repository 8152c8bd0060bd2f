"""Rollouts as Kubernetes does them: how many pods of which template, on a node that is full."""

from __future__ import annotations

import json

from tests.unit.twin.scene import TENANT, Json, Scene, a_deployment

SECOND = 1000


def another(*, replicas: int = 2, min_ready_s: int = 0) -> Json:
    changed = a_deployment(replicas=replicas)
    changed["spec"]["template"]["metadata"]["labels"]["generation"] = "2"
    changed["spec"]["minReadySeconds"] = min_ready_s
    return changed


def generations(scene: Scene) -> list[str]:
    """The generations of the pods that stay, sorted."""
    staying = (each for each in scene.pods() if "deletionTimestamp" not in each["metadata"])
    return sorted(each["metadata"]["labels"].get("generation", "1") for each in staying)


def test_a_pod_counts_as_available_only_when_it_was_ready_for_long_enough() -> None:
    scene = Scene()
    scene.serving(replicas=2)
    scene.deploy(another(min_ready_s=30))
    while scene.deployment()["status"].get("readyReplicas", 0) == 2 and generations(scene) == ["1", "2"]:
        scene.later(SECOND)
    while scene.deployment()["status"].get("readyReplicas", 0) < 2:
        scene.later(SECOND)

    assert scene.deployment()["status"]["availableReplicas"] == 1
    scene.later(28 * SECOND)
    assert generations(scene) == ["1", "2"], "the next old pod waits for the new one to have been ready for a while"
    scene.later(4 * SECOND)

    assert generations(scene) == ["2", "2"]


def test_a_rollout_whose_pods_never_get_ready_stops_at_the_first() -> None:
    scene = Scene()
    scene.serving(replicas=2)
    scene.engines.exit_on_start = 1

    scene.deploy(another())
    for _ in range(120):
        scene.later(10 * SECOND)

    assert generations(scene) == ["1", "2"]
    assert scene.deployment()["status"]["readyReplicas"] == 1


def test_going_back_to_the_template_before_keeps_its_pods_and_ends_the_broken_one() -> None:
    scene = Scene()
    scene.serving(replicas=2)
    before = {each["metadata"]["uid"] for each in scene.pods()}
    scene.engines.exit_on_start = 1
    scene.deploy(another())
    scene.later(60 * SECOND)
    scene.engines.exit_on_start = None

    scene.deploy(a_deployment(replicas=2))
    scene.later(2 * SECOND)

    assert generations(scene) == ["1", "1"]
    assert len(before & {each["metadata"]["uid"] for each in scene.pods()}) == 1


def test_an_engine_answers_to_the_one_name_that_it_serves() -> None:
    scene = Scene()
    scene.serving()
    (pod,) = scene.pods()
    args = pod["spec"]["containers"][0]["args"]
    name = args[args.index("--served-model-name") + 1]
    path = f"{TENANT}/api/v1/namespaces/inference/pods/http:{pod['metadata']['name']}:8000/proxy/v1/chat/completions"

    answers = [scene.ask("POST", path, {"model": each, "messages": []}) for each in (name, "another")]

    assert [each.status for each in answers] == [200, 404]
    assert json.loads(answers[1].body)["error"]["param"] == "model"


def test_a_rollout_that_is_paused_replaces_nothing_and_goes_on_when_it_is_not() -> None:
    scene = Scene()
    scene.serving(replicas=2)
    paused = another()
    paused["spec"]["paused"] = True

    scene.deploy(paused)
    for _ in range(60):
        scene.later(10 * SECOND)
    still = generations(scene)
    scene.deploy(another())
    while scene.deployment()["status"].get("readyReplicas", 0) < 2 or generations(scene) != ["2", "2"]:
        scene.later(SECOND)

    assert still == ["1", "1"]
