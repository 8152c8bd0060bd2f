"""Pods from Pending to Ready and back: scheduling, pulling, fetching, crashing, and ending with grace."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.twin.scene import MINUTE, SECOND, TENANT, Json, Scene, a_deployment, condition, is_true

GIB = 1024**3
PODS = f"{TENANT}/api/v1/namespaces/inference/pods"


def deployed(**changes: Any) -> Scene:
    scene = Scene()
    scene.ready_cluster()
    scene.namespace()
    scene.deploy(a_deployment(**changes))
    return scene


def state_of(pod: Json, part: str = "containerStatuses") -> str:
    state = pod["status"][part][0]["state"]
    (kind,) = state
    return str(state[kind].get("reason", kind))


def reasons(scene: Scene) -> set[str]:
    return {each["reason"] for each in scene.items(f"{TENANT}/api/v1/namespaces/inference/events")}


def test_a_pod_passes_through_the_states_of_a_real_one() -> None:
    scene = deployed(size_bytes=100 * GIB)
    seen: list[tuple[str, str, bool]] = []

    for _ in range(400):
        scene.later(SECOND)
        (pod,) = scene.pods()
        now = (state_of(pod, "initContainerStatuses"), state_of(pod), is_true(pod, "Ready"))
        if not seen or seen[-1] != now:
            seen.append(now)

    assert seen == [
        ("ContainerCreating", "PodInitializing", False),
        ("running", "PodInitializing", False),
        ("Completed", "ContainerCreating", False),
        ("Completed", "running", False),
        ("Completed", "running", True),
    ]
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"].startswith("127.")
    assert pod["status"]["containerStatuses"][0]["imageID"]
    assert {"Scheduled", "Pulling", "Pulled", "Started"} <= reasons(scene)


def test_fetching_takes_as_long_as_the_model_is_large() -> None:
    scene = deployed(size_bytes=100 * 500 * 1024 * 1024)
    scene.later(4 * SECOND)
    assert state_of(scene.pods()[0], "initContainerStatuses") == "running"

    scene.later(95 * SECOND)
    assert state_of(scene.pods()[0], "initContainerStatuses") == "running"
    scene.later(5 * SECOND)
    assert state_of(scene.pods()[0], "initContainerStatuses") == "Completed"


def test_a_second_pod_on_the_node_does_not_pull_again() -> None:
    scene = Scene()
    scene.serving()

    scene.deploy(a_deployment(replicas=2))
    scene.later(2 * SECOND)

    assert [state_of(each) for each in scene.pods()] == ["running", "running"]


def test_a_pod_that_no_node_has_gpus_for_says_so_as_kubernetes_does() -> None:
    scene = deployed(replicas=3)
    scene.later(MINUTE)

    (waiting,) = [each for each in scene.pods() if not each["spec"].get("nodeName")]

    assert condition(waiting, "PodScheduled")["reason"] == "Unschedulable"
    assert condition(waiting, "PodScheduled")["message"].startswith(
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption:"
    )
    assert "FailedScheduling" in reasons(scene)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"tolerations": []}, "1 node(s) had untolerated taint {nvidia.com/gpu: present}"),
        ({"nodeSelector": {"nvidia.com/gpu.product": "other"}}, "1 node(s) didn't match Pod's node affinity/selector"),
    ],
)
def test_a_pod_goes_only_where_it_may(spec: Json, why: str) -> None:
    scene = deployed(**spec)
    scene.later(MINUTE)

    assert why in condition(scene.pods()[0], "PodScheduled")["message"]


def test_a_pod_without_nodes_waits_for_one() -> None:
    scene = Scene()
    scene.project()
    scene.instance()
    scene.later(90 * SECOND)
    scene.namespace()
    scene.deploy(a_deployment())
    scene.later(SECOND)
    assert condition(scene.pods()[0], "PodScheduled")["message"] == "no nodes available to schedule pods"

    scene.later(15 * MINUTE)

    assert is_true(scene.pods()[0], "Ready")


def test_an_image_that_is_not_there_is_tried_again_and_again() -> None:
    scene = deployed(image="millrace/no-such:1")
    seen: set[str] = set()
    for _ in range(300):
        scene.later(SECOND)
        seen.add(state_of(scene.pods()[0]))

    assert {"ErrImagePull", "ImagePullBackOff"} <= seen
    assert not is_true(scene.pods()[0], "Ready")
    assert scene.engines.running() == ()


@pytest.mark.parametrize("digest", ["md5:aa", ""])
def test_a_model_without_a_good_digest_is_never_loaded(digest: str) -> None:
    scene = deployed(digest=digest)
    scene.later(5 * MINUTE)

    (pod,) = scene.pods()

    status = pod["status"]["initContainerStatuses"][0]
    assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert status["lastState"]["terminated"]["exitCode"] == 1
    assert status["restartCount"] >= 2
    assert scene.engines.running() == ()


def test_a_wrong_digest_on_order_can_be_put_right() -> None:
    scene = deployed()
    scene.ask("POST", "/twin/v1/faults", {"digest_mismatch": True})
    scene.later(MINUTE)
    assert state_of(scene.pods()[0], "initContainerStatuses") == "CrashLoopBackOff"

    scene.ask("POST", "/twin/v1/faults", {"digest_mismatch": False})
    scene.later(10 * MINUTE)

    assert is_true(scene.pods()[0], "Ready")


def test_an_engine_that_crashes_is_started_again_in_the_same_pod() -> None:
    scene = Scene()
    scene.serving()
    (before,) = scene.pods()

    scene.engines.crash(before["status"]["podIP"], scene.clock.now_ms(), code=139)
    (broken,) = scene.pods()
    scene.later(2 * MINUTE)
    (after,) = scene.pods()

    assert not is_true(broken, "Ready")
    assert broken["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 139
    assert is_true(after, "Ready")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["podIP"] == before["status"]["podIP"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 1


def test_an_engine_that_always_crashes_is_started_less_and_less_often() -> None:
    scene = Scene()
    scene.engines.exit_on_start = 1
    scene.serving()

    status = scene.pods()[0]["status"]["containerStatuses"][0]

    assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert 4 <= status["restartCount"] <= 8
    assert scene.deployment()["status"].get("readyReplicas") is None


def test_an_engine_that_never_gets_healthy_is_killed_by_its_startup_probe() -> None:
    scene = Scene(model_load_ms=60 * MINUTE)
    body = a_deployment()
    probe = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 10, "failureThreshold": 6}
    body["spec"]["template"]["spec"]["containers"][0]["startupProbe"] = probe
    scene.ready_cluster()
    scene.namespace()
    scene.deploy(body)
    scene.later(4 * MINUTE)

    assert scene.pods()[0]["status"]["containerStatuses"][0]["restartCount"] >= 1


def test_a_pod_ends_with_grace_and_is_replaced() -> None:
    scene = Scene()
    scene.engines.stop_ms = 20 * SECOND
    scene.serving()
    (before,) = scene.pods()

    marked = scene.ask("DELETE", f"{PODS}/{before['metadata']['name']}").json()
    scene.later(10 * SECOND)
    names = [each["metadata"]["name"] for each in scene.pods()]
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    assert before["metadata"]["name"] in names
    assert len(names) == 2

    scene.later(5 * MINUTE)
    (after,) = scene.pods()
    assert after["metadata"]["name"] != before["metadata"]["name"]
    assert is_true(after, "Ready")


def test_an_engine_that_does_not_end_is_killed_after_its_grace() -> None:
    scene = Scene()
    scene.engines.stop_ms = 60 * MINUTE
    scene.serving(terminationGracePeriodSeconds=60)
    scene.deploy(a_deployment(replicas=0, terminationGracePeriodSeconds=60))

    scene.later(59 * SECOND)
    assert len(scene.pods()) == 1
    scene.later(3 * SECOND)

    assert scene.pods() == []


def test_a_pod_deleted_by_force_takes_its_engine_along() -> None:
    scene = Scene()
    scene.engines.stop_ms = 60 * MINUTE
    scene.serving()
    (pod,) = scene.pods()

    scene.ask("DELETE", f"{PODS}/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})
    scene.later(SECOND)

    assert pod["metadata"]["name"] not in [each["metadata"]["name"] for each in scene.pods()]
    assert pod["status"]["podIP"] not in [each.address for each in scene.engines.running()]


def test_a_new_template_replaces_pods_one_at_a_time() -> None:
    scene = Scene()
    scene.serving(replicas=2)
    changed = a_deployment(replicas=2)
    changed["spec"]["template"]["metadata"]["labels"]["generation"] = "2"
    fewest = 2

    scene.deploy(changed)
    for _ in range(300):
        scene.later(SECOND)
        assert len([each for each in scene.pods() if "deletionTimestamp" not in each["metadata"]]) <= 2
        fewest = min(fewest, scene.deployment()["status"].get("readyReplicas", 0))

    assert fewest == 1
    assert scene.deployment()["status"]["updatedReplicas"] == 2
    assert scene.deployment()["status"]["observedGeneration"] == 2
    assert all(each["metadata"]["labels"]["generation"] == "2" for each in scene.pods())


def test_pod_names_tell_their_deployment_and_template() -> None:
    scene = Scene()
    scene.serving(replicas=2)

    for pod in scene.pods():
        tag = pod["metadata"]["labels"]["pod-template-hash"]
        assert pod["metadata"]["name"].startswith(f"ep-1-{tag}-")
        assert pod["metadata"]["ownerReferences"][0]["kind"] == "Deployment"


def test_the_engine_is_started_with_its_address_filled_in() -> None:
    scene = Scene()
    scene.serving()
    (pod,) = scene.pods()

    (engine,) = scene.engines.launches()

    assert engine.args[engine.args.index("--host") + 1] == pod["status"]["podIP"]
    assert engine.env["POD_IP"] == pod["status"]["podIP"]
    assert engine.port == 8000


def test_the_pod_proxy_reaches_the_engine_once_it_runs() -> None:
    scene = deployed()
    scene.later(SECOND)
    (pod,) = scene.pods()
    name = pod["metadata"]["name"]

    assert scene.ask("GET", f"{PODS}/{name}:8000/proxy/health").status == 503
    scene.later(5 * MINUTE)
    assert scene.ask("GET", f"{PODS}/http:{name}:8000/proxy/health").status == 200
    chat = scene.ask("POST", f"{PODS}/{name}/proxy/v1/chat/completions", {"model": "m", "messages": []}).json()
    assert chat["usage"]["completion_tokens"] > 0
    assert scene.ask("GET", f"{PODS}/nobody:8000/proxy/health").status == 404


def test_two_pods_never_share_an_address() -> None:
    scene = Scene()
    scene.serving(nodes=4, replicas=8)

    addresses = [each["status"]["podIP"] for each in scene.pods()]

    assert len(set(addresses)) == 8
