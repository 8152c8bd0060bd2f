"""The adapter to tenant clusters: what is asked, and what each answer is taken for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import Rejected, Unavailable
from services.runtime_deployer.core.manifests import DIGEST, GENERATION, MANAGED_BY, MODEL, RECIPE, render
from services.runtime_deployer.core.manifests import ENDPOINT as ENDPOINT_LABEL
from services.runtime_deployer.core.observed import ContainerState, Kind
from services.runtime_deployer.core.plan import Apply, Check, Delete, ForceDeletePod, WarmUp
from services.runtime_deployer.core.state import Cluster, Runtime
from services.runtime_deployer.core.warming import surface_of
from services.runtime_deployer.shell.connections import access_key_from
from tests.unit.runtime_deployer.a_runtime import ENDPOINT, PROJECT, VLLM, Scene, gpu_ready, requested
from tests.unit.runtime_deployer.fake_api import PLATFORM, FakeApi, clusters, connected

CLUSTER = Cluster(PROJECT, ENDPOINT)
OURS = {MANAGED_BY: "millrace", ENDPOINT_LABEL: ENDPOINT}
BASE = f"{PLATFORM}/kubernetes/project/{PROJECT}/virtualcluster/{ENDPOINT}"
DEPLOYMENT = f"/apis/apps/v1/namespaces/inference/deployments/{ENDPOINT}"
PODS = "/api/v1/namespaces/inference/pods"
CHAT = f"{PODS}/http:p1:8000/proxy/v1/chat/completions"
WARM_UP = WarmUp(CLUSTER, "p1", 8000, "millrace/ngram-1", "uid-1/0")


def a_runtime() -> Runtime:
    return Scene().hear(requested(), gpu_ready()).runtime


def the_deployment() -> Apply:
    return Apply(CLUSTER, render(a_runtime(), VLLM)[-1])


def there(*, generation: int) -> dict[str, Any]:
    marks = {GENERATION: str(generation)}
    return {"metadata": {"uid": "u-1", "resourceVersion": "41", "labels": OURS, "annotations": marks}}


def a_pod(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "p1",
            "uid": "uid-1",
            "labels": {RECIPE: "abc"},
            "annotations": {MODEL: "m"},
            "creationTimestamp": "2026-11-23",
        },
        "spec": {
            "initContainers": [{"name": "model-fetch", "image": "f"}],
            "containers": [{"name": "engine", "ports": [{"name": "http", "containerPort": 9000}]}],
        },
        "status": status,
    }


def test_a_look_asks_with_the_access_key_below_the_clusters_own_path() -> None:
    api = FakeApi()

    observed = clusters(api).observe(a_runtime())

    assert observed.is_empty
    assert not observed.removing
    assert all(each.url.startswith(f"{BASE}/") for each in api.asked)
    assert all(each.headers["Authorization"] == "Bearer k-1" for each in api.asked)
    assert api.asked[-1].url == f"{BASE}{PODS}?labelSelector=millrace.dev/endpoint%3D{ENDPOINT}"


@pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503, 504])
def test_an_answer_that_says_nothing_about_the_object_is_never_taken_for_absence(status: int) -> None:
    api = FakeApi()
    api.on("GET", DEPLOYMENT, status, {"reason": "Whatever"})

    with pytest.raises(Unavailable) as later:
        clusters(api).observe(a_runtime())

    assert later.value.code == f"http_{status}"


def test_no_answer_at_all_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="did not answer: ProtocolError"):
        clusters(FakeApi(is_down=True)).observe(a_runtime())


def test_how_long_to_wait_is_taken_from_the_answer_within_reason() -> None:
    api = FakeApi()
    api.on("GET", DEPLOYMENT, 429, retry_after="7")
    with pytest.raises(Unavailable) as later:
        clusters(api).observe(a_runtime())
    assert later.value.retry_after_s == 7

    api.on("GET", DEPLOYMENT, 429, retry_after="86400")
    with pytest.raises(Unavailable) as later:
        clusters(api).observe(a_runtime())
    assert later.value.retry_after_s == 60


def test_two_looks_at_the_same_thing_are_equal_though_versions_and_times_moved() -> None:
    api = FakeApi()

    def deployment(version: str) -> dict[str, Any]:
        marks = {GENERATION: "1", DIGEST: "abc"}
        return {"metadata": {"annotations": marks, "labels": OURS, "resourceVersion": version}, "spec": {"replicas": 2}}

    def pods(reason: str, at: str) -> dict[str, Any]:
        waiting = {"name": "model-fetch", "state": {"waiting": {"reason": reason, "message": f"back-off {at}"}}}
        started = {"type": "Ready", "status": "False", "lastTransitionTime": at}
        return {"items": [a_pod(conditions=[started], initContainerStatuses=[waiting])]}

    looks = []
    for version, reason in (("1", "ErrImagePull"), ("2", "ImagePullBackOff")):
        api.on("GET", DEPLOYMENT, 200, deployment(version))
        api.on("GET", PODS, 200, pods(reason, version))
        looks.append(clusters(api).observe(a_runtime()))

    assert looks[0] == looks[1]
    (pod,) = looks[0].pods
    assert pod.init[0].waiting == "ImagePullBackOff"
    seen = looks[0].has(Kind.DEPLOYMENT)
    assert seen is not None
    assert (seen.generation, seen.digest, seen.replicas) == (1, "abc", 2)


def test_a_pod_is_read_with_its_containers_its_last_end_and_its_readiness() -> None:
    api = FakeApi()
    ended = {"exitCode": 1, "reason": "Error", "message": " DigestMismatch: no \n"}
    body = a_pod(
        podIP="127.64.0.3",
        conditions=[{"type": "Ready", "status": "True"}],
        initContainerStatuses=[
            {"name": "model-fetch", "restartCount": 2, "state": {}, "lastState": {"terminated": ended}}
        ],
        containerStatuses=[{"name": "engine", "restartCount": 1, "state": {"running": {"startedAt": "x"}}}],
    )
    api.on("GET", PODS, 200, {"items": [body]})

    (pod,) = clusters(api).observe(a_runtime()).pods

    assert (pod.name, pod.ip, pod.ready, pod.terminating) == ("p1", "127.64.0.3", True, False)
    assert (pod.recipe, pod.model, pod.port) == ("abc", "m", 9000)
    assert pod.fetch is not None
    assert (pod.fetch.exit_code, pod.fetch.restarts, pod.fetch.message) == (1, 2, "DigestMismatch: no")
    assert pod.engine is not None
    assert pod.engine.state is ContainerState.RUNNING
    assert pod.warm_key == "uid-1/1"


def test_an_apply_is_server_side_by_our_manager_and_bound_to_the_version_read() -> None:
    api = FakeApi()
    api.on("GET", DEPLOYMENT, 200, there(generation=1))
    api.on("PATCH", DEPLOYMENT, 200)

    clusters(api).apply(the_deployment())

    patch = api.asked[-1]
    assert patch.url == f"{BASE}{DEPLOYMENT}?fieldManager=millrace-runtime-deployer&fieldValidation=Strict"
    assert patch.headers["Content-Type"] == "application/apply-patch+yaml"
    assert (patch.body["metadata"]["resourceVersion"], patch.body["metadata"]["uid"]) == ("41", "u-1")
    assert patch.body["kind"] == "Deployment"


def test_an_older_generation_is_not_applied_over_a_newer_one() -> None:
    api = FakeApi()
    api.on("GET", DEPLOYMENT, 200, there(generation=2))

    with pytest.raises(Unavailable) as fenced:
        clusters(api).apply(the_deployment())

    assert fenced.value.code == "fenced"
    assert [each.method for each in api.asked] == ["GET"]


def test_a_foreign_field_manager_is_named_and_not_overruled() -> None:
    api = FakeApi()
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl"', "field": ".spec.replicas"}
    api.on("PATCH", DEPLOYMENT, 409, {"reason": "Conflict", "details": {"causes": [cause]}})

    with pytest.raises(Rejected, match=r'\.spec\.replicas: conflict with "kubectl"') as refused:
        clusters(api).apply(the_deployment())

    assert refused.value.code == "field_conflict"


def test_a_version_that_moved_meanwhile_is_tried_again() -> None:
    api = FakeApi()
    api.on("PATCH", DEPLOYMENT, 409, {"reason": "Conflict", "message": "the object has been modified"})

    with pytest.raises(Unavailable, match="has been modified"):
        clusters(api).apply(the_deployment())


def test_an_invalid_object_is_refused_with_its_field() -> None:
    api = FakeApi()
    cause = {"reason": "FieldValueInvalid", "message": "must be positive", "field": "spec.replicas"}
    api.on("PATCH", DEPLOYMENT, 422, {"reason": "Invalid", "details": {"causes": [cause]}})

    with pytest.raises(Rejected, match=r"spec\.replicas: must be positive") as refused:
        clusters(api).apply(the_deployment())

    assert refused.value.code == "invalid_object"


def test_a_field_that_no_schema_has_is_refused_by_name_though_the_server_calls_it_an_error_of_its_own() -> None:
    api = FakeApi()
    why = "failed to create typed patch object (a/b; apps/v1, Kind=Deployment): .spec.replcas: field not declared"
    api.on("PATCH", DEPLOYMENT, 500, {"reason": "InternalError", "message": f"{why} in schema"})

    with pytest.raises(Rejected, match=r"\.spec\.replcas: field not declared in schema") as refused:
        clusters(api).apply(the_deployment())

    assert refused.value.code == "invalid_object"


def test_an_object_that_somebody_else_made_is_refused_and_neither_seen_as_ours_nor_written() -> None:
    api = FakeApi()
    api.on("GET", DEPLOYMENT, 200, {"metadata": {"resourceVersion": "41", "labels": {"app": "theirs"}}})

    with pytest.raises(Rejected, match="is there and not ours") as refused:
        clusters(api).apply(the_deployment())

    assert refused.value.code == "foreign_object"
    assert {each.method for each in api.asked} == {"GET"}
    assert clusters(api).observe(a_runtime()).objects == ()


def test_a_check_has_everything_judged_and_nothing_made() -> None:
    api = FakeApi()
    manifests = render(a_runtime(), VLLM)[1:]
    api.on("PATCH", ENDPOINT, 200)

    clusters(api).apply(Check(CLUSTER, manifests))

    writes = [each.url for each in api.asked if each.method != "GET"]
    assert len(writes) == len(manifests)
    assert all("dryRun=All" in each for each in writes)


def test_a_second_autoscaler_of_the_workload_is_refused_by_its_name() -> None:
    api = FakeApi()
    scaler = {"metadata": {"name": "keda-hpa-x"}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": ENDPOINT}}}
    other = {"metadata": {"name": "other"}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "other"}}}
    api.on("GET", "horizontalpodautoscalers", 200, {"items": [other, scaler]})

    with pytest.raises(Rejected, match=r"inference/keda-hpa-x scales ep-.*spec\.scaleTargetRef\.name") as refused:
        clusters(api).apply(Check(CLUSTER, render(a_runtime(), VLLM)[1:]))

    assert refused.value.code == "foreign_autoscaler"
    assert {each.method for each in api.asked} == {"GET"}


def test_a_quota_that_lets_no_pod_be_is_seen_without_the_name_of_the_pod() -> None:
    api = FakeApi()
    message = 'pods "ep-x-1" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=4'
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    api.on("GET", DEPLOYMENT, 200, {**there(generation=1), "status": {"conditions": [failure]}})

    seen = clusters(api).observe(a_runtime()).has(Kind.DEPLOYMENT)

    assert seen is not None
    assert seen.refused == "exceeded quota: gpus, requested: requests.nvidia.com/gpu=4"


def test_an_apply_to_a_cluster_that_is_gone_is_tried_again() -> None:
    with pytest.raises(Unavailable) as later:
        clusters(FakeApi()).apply(the_deployment())

    assert later.value.code == "http_404"


def test_a_delete_takes_what_hangs_from_the_object_and_may_find_nothing() -> None:
    api = FakeApi()

    clusters(api).apply(Delete(CLUSTER, Kind.DEPLOYMENT, ENDPOINT))
    clusters(api).apply(ForceDeletePod(CLUSTER, "p1"))

    assert api.asked[0].url == f"{BASE}{DEPLOYMENT}?propagationPolicy=Foreground"
    assert api.asked[1].url == f"{BASE}{PODS}/p1?gracePeriodSeconds=0"


def test_a_delete_that_is_not_answered_for_sure_is_tried_again() -> None:
    api = FakeApi()
    api.on("DELETE", DEPLOYMENT, 503)

    with pytest.raises(Unavailable):
        clusters(api).apply(Delete(CLUSTER, Kind.DEPLOYMENT, ENDPOINT))


def test_a_pod_counts_as_warmed_only_after_a_real_answer_and_only_this_start_of_it() -> None:
    api = FakeApi()
    api.on("GET", PODS, 200, {"items": [a_pod(containerStatuses=[{"name": "engine", "restartCount": 0}])]})
    api.on("POST", CHAT, 200, {"choices": [{"message": {"role": "assistant", "content": "Hello"}}]})
    adapter = clusters(api)
    assert not adapter.observe(a_runtime()).pods[0].warmed

    adapter.apply(WARM_UP)

    assert api.asked[-1].body["model"] == "millrace/ngram-1"
    assert api.asked[-1].body["max_tokens"] == 4
    assert adapter.observe(a_runtime()).pods[0].warmed
    api.on("GET", PODS, 200, {"items": [a_pod(containerStatuses=[{"name": "engine", "restartCount": 1}])]})
    assert not adapter.observe(a_runtime()).pods[0].warmed


@pytest.mark.parametrize(
    ("surfaces", "asked", "answer", "other"),
    [
        (("embeddings", "chat"), "POST chat/completions", {"choices": [{"message": {"content": ""}}]}, {"data": []}),
        (("completions",), "POST completions", {"choices": [{"text": "Hello"}]}, {"choices": [{"message": {}}]}),
        (("responses",), "POST responses", {"output": [{"type": "message"}]}, {"output": []}),
        (("embeddings",), "POST embeddings", {"data": [{"embedding": [0.5]}]}, {"data": "none"}),
        (("speech", "transcriptions"), "GET models", {"data": [{"id": "millrace/ngram-1"}]}, {"data": [{"id": "x"}]}),
    ],
)
def test_a_pod_is_warmed_up_with_a_call_that_its_model_has(
    surfaces: tuple[str, ...], asked: str, answer: dict[str, Any], other: dict[str, Any]
) -> None:
    method, path = asked.split()
    api, warm_up = FakeApi(), replace(WARM_UP, surface=surface_of(surfaces))
    api.on(method, f"{PODS}/http:p1:8000/proxy/v1/{path}", 200, other)
    with pytest.raises(Unavailable):
        clusters(api).apply(warm_up)

    api.on(method, f"{PODS}/http:p1:8000/proxy/v1/{path}", 200, answer)
    clusters(api).apply(warm_up)


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, {}), (200, {"choices": []}), (200, {"choices": [{"message": {}}]}), (503, {}), (404, {}), (500, {})],
)
def test_a_warm_up_without_an_answer_in_it_is_tried_again(status: int, body: dict[str, Any]) -> None:
    api = FakeApi()
    api.on("POST", CHAT, status, body)

    with pytest.raises(Unavailable) as later:
        clusters(api).apply(WARM_UP)

    assert later.value.code == "warm_up_failed"


def test_a_warm_up_that_the_engine_refuses_is_refused() -> None:
    api = FakeApi()
    api.on("POST", CHAT, 400)

    with pytest.raises(Rejected) as refused:
        clusters(api).apply(WARM_UP)

    assert refused.value.code == "warm_up_refused"


def test_only_so_many_connections_are_held_and_the_least_used_is_closed() -> None:
    api = FakeApi()
    connections = connected(api, limit=2)

    for name in ("a", "b", "a", "c"):
        connections.ask(Cluster(PROJECT, name), "GET", "/version", timeout_s=1)
    assert api.closed == 1
    connections.ask(Cluster(PROJECT, "a"), "GET", "/version", timeout_s=1)
    assert api.closed == 1

    connections.close()
    assert api.closed == 3


def test_a_rotated_access_key_counts_at_once(tmp_path: Path) -> None:
    api, file = FakeApi(), tmp_path / "key"
    connections = connected(api, key=access_key_from(file))

    for key in ("old", "new"):
        file.write_text(f"{key}\n")
        connections.ask(CLUSTER, "GET", "/version", timeout_s=1)

    assert [each.headers["Authorization"] for each in api.asked] == ["Bearer old", "Bearer new"]


def test_a_missing_access_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="key-file can't be read"):
        connected(FakeApi(), key=access_key_from(tmp_path / "key-file")).ask(CLUSTER, "GET", "/", timeout_s=1)


def test_an_answer_that_is_not_json_tells_nothing() -> None:
    api = FakeApi()
    api.on("GET", DEPLOYMENT, 502)
    api.answers[("GET", DEPLOYMENT)].data = b"<html>bad gateway</html>"

    with pytest.raises(Unavailable, match="HTTP 502"):
        clusters(api).observe(a_runtime())
