"""Real clients on a world in the same thread, and what can be made to go wrong between them."""

from __future__ import annotations

from typing import Any

import httpx
import kubernetes.client as k8s
import pytest
from kubernetes.client.exceptions import ApiException

from libs.twin.inprocess import WorldRest, WorldTransport
from libs.twin.options import DEFAULT_KEY
from tests.unit.twin.scene import KEY, MANAGEMENT, MINUTE, TENANT, Scene, a_deployment


class Lossy:
    """Loses requests and answers on order, and writes down what passed."""

    def __init__(self) -> None:
        self.lose_request = False
        self.lose_answer = False
        self.passed: list[tuple[str, str, int]] = []

    def before(self, method: str, path: str) -> None:
        if self.lose_request:
            raise ConnectionError(f"{method} {path} was lost")

    def after(self, method: str, path: str, status: int) -> None:
        self.passed.append((method, path, status))
        if self.lose_answer:
            raise ConnectionError(f"the answer to {method} {path} was lost")


def an_api(scene: Scene, hook: Lossy | None = None) -> k8s.ApiClient:
    config = k8s.Configuration()
    config.host = f"http://twin{TENANT}"
    config.api_key = {"authorization": f"Bearer {DEFAULT_KEY}"}
    api = k8s.ApiClient(config)
    client: Any = WorldRest(scene.world, hook)
    api.rest_client = client
    return api


def test_httpx_talks_to_a_world() -> None:
    scene = Scene()
    with httpx.Client(transport=WorldTransport(scene.world), base_url="http://twin", headers=KEY) as client:
        created = client.post(f"{MANAGEMENT}/projects", json={"metadata": {"name": "acme"}})
        listed = client.get(f"{MANAGEMENT}/projects", params={"labelSelector": "a=b"})

    assert created.status_code == 201
    assert listed.json()["items"] == []


def test_the_kubernetes_client_talks_to_a_world() -> None:
    scene = Scene()
    scene.ready_cluster()
    api = an_api(scene)
    core: Any = k8s.CoreV1Api(api)  # Its annotations want models where it takes JSON too.
    apps: Any = k8s.AppsV1Api(api)

    core.create_namespace({"metadata": {"name": "inference"}})
    apps.create_namespaced_deployment("inference", a_deployment())
    scene.later(10 * MINUTE)
    apps.patch_namespaced_deployment("ep-1", "inference", {"spec": {"replicas": 2}})
    scene.later(10 * MINUTE)
    pods = core.list_namespaced_pod("inference", label_selector="app=ep-1").items
    answer = core.connect_get_namespaced_pod_proxy_with_path(f"{pods[0].metadata.name}:8000", "inference", "health")

    assert k8s.VersionApi(api).get_code().git_version == "v1.36.5"
    assert apps.read_namespaced_deployment("ep-1", "inference").status.ready_replicas == 2
    assert [each.status.phase for each in pods] == ["Running", "Running"]
    assert answer == ""
    assert {each.reason for each in core.list_namespaced_event("inference").items} >= {"Scheduled", "Pulled"}
    with pytest.raises(ApiException) as missing:
        core.read_namespaced_pod("nobody", "inference")
    assert missing.value.status == 404


def test_a_lost_request_did_nothing_and_a_lost_answer_did_something() -> None:
    scene = Scene()
    hook = Lossy()
    with httpx.Client(transport=WorldTransport(scene.world, hook), base_url="http://twin", headers=KEY) as client:
        hook.lose_request = True
        with pytest.raises(ConnectionError):
            client.post(f"{MANAGEMENT}/projects", json={"metadata": {"name": "lost"}})
        hook.lose_request, hook.lose_answer = False, True
        with pytest.raises(ConnectionError):
            client.post(f"{MANAGEMENT}/projects", json={"metadata": {"name": "made"}})
        names = [each["metadata"]["name"] for each in client.get(f"{MANAGEMENT}/projects").json()["items"]]

    assert names == ["made"]
    assert hook.passed == [("POST", f"{MANAGEMENT}/projects", 201)]
