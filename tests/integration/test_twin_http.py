"""The twin as a process: real HTTP, real clients, real model servers, and nothing left when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import kubernetes.client as k8s
import kubernetes.watch
import openai
import pytest
from kubernetes.client.exceptions import ApiException

from tests.support.ports import free_port
from tests.support.preloaded import Program
from tests.support.web import NO_TLS
from tests.unit.twin.scene import CLAIMS, INSTANCES, MANAGEMENT, TENANT, Json, a_deployment, an_instance

pytestmark = pytest.mark.xdist_group("preloaded")

KEY = "a-key-for-tests"
HEADERS = {"authorization": f"Bearer {KEY}"}
WAIT_S = 90.0  # Two shared cores; a wait that ends early is not a wait.


class TwinProcess:
    """One twin, and the clients of it."""

    def __init__(self, tmp_path: Path, **options: Any) -> None:
        self.port = free_port()
        (tmp_path / "keys").write_text(KEY + "\n")
        (tmp_path / "options.json").write_text(json.dumps(options))
        files = ["--access-key-file", str(tmp_path / "keys"), "--options", str(tmp_path / "options.json")]
        pace = ["--time-scale", "0.0005", "--tokens-per-second", "200", "--log-dir", str(tmp_path / "logs")]
        self.process = Program("libs.twin", "--port", str(self.port), *files, *pace)
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, headers=HEADERS, timeout=WAIT_S, verify=NO_TLS)
        until(self.is_up)

    def is_up(self) -> bool:
        assert self.process.returncode is None, "the twin ended"
        with contextlib.suppress(httpx.TransportError):
            return self.http.get("/healthz").status_code == 200
        return False

    def inventory(self) -> Json:
        found: Json = self.http.get("/twin/v1/inventory").json()
        return found

    def pids(self) -> list[int]:
        return [each["pid"] for each in self.inventory()["processes"]]

    def kubernetes(self) -> Any:  # The package's annotations want models where it takes JSON too.
        config = k8s.Configuration()
        config.host = self.url + TENANT
        config.api_key = {"authorization": f"Bearer {KEY}"}
        return k8s.ApiClient(config)

    def serve(self, *, replicas: int = 1, **changes: Any) -> None:
        """From nothing to replicas that answer."""
        assert self.http.post(f"{MANAGEMENT}/projects", json={"metadata": {"name": "acme"}}).status_code == 201
        until(lambda: self.http.post(INSTANCES, json=an_instance()).status_code in {201, 409})
        until(lambda: self.http.get(f"{INSTANCES}/ep-1").json()["status"]["phase"] == "Ready")
        core: Any = k8s.CoreV1Api(self.kubernetes())
        core.create_namespace({"metadata": {"name": "inference"}})
        self.apply(a_deployment(replicas=replicas, **changes))
        until(lambda: self.ready() == replicas)

    def apply(self, deployment: Json) -> None:
        answer = self.http.patch(
            f"{TENANT}/apis/apps/v1/namespaces/inference/deployments/ep-1",
            params={"fieldManager": "test"},
            content=json.dumps(deployment),
            headers={"content-type": "application/apply-patch+yaml"},
        )
        assert answer.status_code in {200, 201}, answer.text

    def pods(self) -> list[Json]:
        found: list[Json] = self.http.get(f"{TENANT}/api/v1/namespaces/inference/pods").json()["items"]
        return found

    def ready_addresses(self, command: list[str]) -> list[str]:
        """Where pods that run a command are ready: in a rollout, those of before are ready too."""
        return [
            pod["status"]["podIP"]
            for pod in self.pods()
            if pod["spec"]["containers"][0].get("command") == command
            and any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"]["conditions"])
        ]

    def ready(self) -> int:
        return sum(each["ready"] for each in self.inventory()["pods"])

    def end(self) -> None:
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(WAIT_S)


def until(holds: Any, wait_s: float = WAIT_S) -> None:
    deadline_s = time.monotonic() + wait_s
    while not holds():
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[TwinProcess]:
    process = TwinProcess(tmp_path)
    yield process
    process.end()


def test_an_endpoint_lives_from_project_to_nothing(twin: TwinProcess) -> None:
    twin.serve(replicas=2)
    (pod, _) = twin.pods()
    address = pod["status"]["podIP"]
    pids = twin.pids()

    direct = httpx.get(f"http://{address}:8000/v1/models", verify=NO_TLS).json()
    proxied = twin.http.get(f"{TENANT}/api/v1/namespaces/inference/pods/{pod['metadata']['name']}:8000/proxy/v1/models")
    metrics = httpx.get(f"http://{address}:8000/metrics", verify=NO_TLS).text

    assert address.startswith("127.")
    assert direct == proxied.json()
    assert direct["data"][0]["id"] == "m"
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "generation_tokens_total"):
        assert f"vllm:{name}{{" in metrics
    assert len(pids) == 2

    assert twin.http.delete(f"{INSTANCES}/ep-1").status_code == 200
    until(lambda: twin.http.get(f"{INSTANCES}/ep-1").status_code == 404)
    until(lambda: twin.http.get(CLAIMS).json()["items"] == [])
    twin.http.delete(f"{MANAGEMENT}/projects/acme")
    until(lambda: all(found == [] for found in twin.inventory().values()))
    assert not any(is_alive(each) for each in pids)


def test_a_wrong_key_is_refused_over_http(twin: TwinProcess) -> None:
    answer = httpx.get(f"{twin.url}{MANAGEMENT}/projects", headers={"authorization": "Bearer wrong"}, verify=NO_TLS)

    assert answer.status_code == 401
    assert answer.json()["kind"] == "Status"


def test_the_kubernetes_client_reads_writes_and_watches(twin: TwinProcess) -> None:
    twin.serve()
    core: Any = k8s.CoreV1Api(twin.kubernetes())
    apps: Any = k8s.AppsV1Api(twin.kubernetes())
    seen: list[tuple[str, str]] = []

    before = core.list_namespaced_config_map("inference").metadata.resource_version

    def follow() -> None:
        kind: Any = kubernetes.watch.Watch  # Untyped in the package.
        watch = kind()
        from_here = {"resource_version": before, "timeout_seconds": int(WAIT_S)}  # Else it begins when it gets there.
        for event in watch.stream(core.list_namespaced_config_map, "inference", **from_here):
            seen.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                watch.stop()

    follower = threading.Thread(target=follow)
    follower.start()
    core.create_namespaced_config_map("inference", {"metadata": {"name": "seen"}, "data": {"a": "1"}})
    core.patch_namespaced_config_map("seen", "inference", {"data": {"a": "2"}})
    until(lambda: ("MODIFIED", "seen") in seen)
    core.delete_namespaced_config_map("seen", "inference")
    follower.join(WAIT_S)

    assert not follower.is_alive()
    assert [each for each in seen if each[1] == "seen"] == [
        ("ADDED", "seen"),
        ("MODIFIED", "seen"),
        ("DELETED", "seen"),
    ]
    assert apps.read_namespaced_deployment("ep-1", "inference").status.available_replicas == 1
    assert core.list_node().items[0].status.allocatable["nvidia.com/gpu"] == "8"
    with pytest.raises(ApiException) as missing:
        core.read_namespaced_pod("nobody", "inference")
    assert missing.value.status == 404


def test_the_openai_package_chats_with_a_model_server(twin: TwinProcess) -> None:
    twin.serve()
    address = twin.pods()[0]["status"]["podIP"]
    client = openai.OpenAI(base_url=f"http://{address}:8000/v1", api_key="none", max_retries=0)
    messages: Any = [{"role": "user", "content": "Tell me of the river"}]

    whole = client.chat.completions.create(model="m", messages=messages, max_tokens=20, seed=3)
    stream = client.chat.completions.create(
        model="m", messages=messages, max_tokens=20, seed=3, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = client.completions.create(model="m", prompt="The mill", max_tokens=5)

    assert [each.id for each in client.models.list()] == ["m"]
    contents = [each.choices[0].delta.content for each in chunks if each.choices and each.choices[0].delta.content]
    assert "".join(contents) == whole.choices[0].message.content
    assert whole.usage is not None
    assert chunks[-1].usage == whole.usage
    assert len(contents) == whole.usage.completion_tokens
    assert text.usage is not None
    assert text.usage.completion_tokens == 5
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="other", messages=messages)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="m", messages=[])


async def test_a_caller_who_leaves_stops_the_generation(twin: TwinProcess) -> None:
    await asyncio.to_thread(twin.serve)
    url = f"http://{twin.pods()[0]['status']['podIP']}:8000"
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 4_000, "ignore_eos": True, "stream": True}

    async with httpx.AsyncClient(timeout=WAIT_S, verify=NO_TLS) as client:
        async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
            lines = answer.aiter_lines()
            for _ in range(10):
                await anext(lines)
        await asyncio.sleep(0.3)
        first = (await client.get(f"{url}/metrics")).text
        await asyncio.sleep(0.3)
        second = (await client.get(f"{url}/metrics")).text

    def value(text: str, name: str) -> float:
        return sum(float(each.split()[-1]) for each in text.splitlines() if each.startswith(f"vllm:{name}{{"))

    assert value(first, "num_requests_running") == 0
    assert value(first, "generation_tokens_total") == value(second, "generation_tokens_total") < 200
    assert 'finished_reason="abort"' in second


def test_an_engine_killed_from_outside_is_started_again(twin: TwinProcess) -> None:
    twin.serve()
    (pid,) = twin.pids()

    os.kill(pid, signal.SIGKILL)

    until(lambda: twin.pids() not in ([], [pid]) and twin.ready() == 1)
    status = twin.pods()[0]["status"]["containerStatuses"][0]
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 137


def test_a_command_of_the_containers_own_is_run_as_it_is(twin: TwinProcess) -> None:
    body = a_deployment()
    container = body["spec"]["template"]["spec"]["containers"][0]
    del container["args"]
    container["command"] = [sys.executable, "-m", "http.server", "--bind", "$(POD_IP)", "8000"]
    container["readinessProbe"]["httpGet"]["path"] = "/pyproject.toml"
    twin.serve()

    twin.apply(body)

    until(lambda: twin.ready_addresses(container["command"]) != [])
    (address,) = twin.ready_addresses(container["command"])
    assert b"millrace" in httpx.get(f"http://{address}:8000/pyproject.toml", verify=NO_TLS).content


def test_a_command_that_is_not_there_ends_in_a_crash_loop(twin: TwinProcess) -> None:
    body = a_deployment()
    body["spec"]["template"]["spec"]["containers"][0]["command"] = ["no-such-engine"]
    twin.serve()

    twin.apply(body)

    def crashed() -> bool:
        states = [each["status"].get("containerStatuses", [{}])[0] for each in twin.pods()]
        return any(each.get("lastState", {}).get("terminated", {}).get("exitCode") == 127 for each in states)

    until(crashed)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_twin(twin: TwinProcess, how: signal.Signals) -> None:
    twin.serve(replicas=2)
    pids = twin.pids()
    assert len(pids) == 2

    twin.process.send_signal(how)
    twin.process.wait(WAIT_S)

    until(lambda: not any(is_alive(each) for each in pids))


def test_a_taken_port_ends_it_with_one_line(twin: TwinProcess, tmp_path: Path) -> None:
    said = tmp_path / "said"

    assert Program("libs.twin", "--port", str(twin.port), err=said).wait(WAIT_S) == 2
    (line,) = said.read_text().splitlines()
    assert str(twin.port) in line
