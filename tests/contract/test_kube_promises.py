"""Kubernetes' promises, kept by the twin's façade over HTTP; a real one is asked in `tests/integration/kube`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import httpx
import pytest

from services.runtime_deployer.core.state import Cluster
from services.runtime_deployer.shell.connections import Connections, access_key_from
from tests.contract import platform_promises
from tests.contract.kube_promises import Api, KubePromises, opened
from tests.support.ports import free_port
from tests.support.web import NO_TLS

WAIT_S: Final = 60.0

# What the twin's façade lacks, by promise. A promise that it keeps after all must go from here: the test says so.
TWIN_LACKS: Final = {
    "test_a_field_that_no_schema_has_is_refused_by_its_name": "the twin keeps what no schema has",
    "test_a_deployment_makes_a_replica_set": "pods of the twin belong to the Deployment itself",
}


@pytest.mark.xdist_group("platform")
class TestTwin(KubePromises):
    @pytest.fixture(autouse=True)
    def _lacking(self, request: pytest.FixtureRequest) -> None:
        lack = TWIN_LACKS.get(request.node.name)
        if lack is not None:
            request.applymarker(pytest.mark.xfail(reason=lack, strict=True))

    @pytest.fixture(scope="class")
    @classmethod
    def api(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
        """A tenant cluster of a twin in its own process, with so short a memory that a watch can lose its place."""
        tmp = tmp_path_factory.mktemp("kube-twin")
        (tmp / "key").write_text("a-key-for-tests\n")
        (tmp / "options.json").write_text(json.dumps({"history_max": 50}))
        port = free_port()
        files = [
            "--access-key-file",
            str(tmp / "key"),
            "--options",
            str(tmp / "options.json"),
            "--time-scale",
            "0.0005",
        ]
        process = subprocess.Popen([sys.executable, "-m", "libs.twin", "--port", str(port), *files])
        scene = platform_promises.Scene(
            url=f"http://127.0.0.1:{port}", key_file=tmp / "key", mark="kp", region="eu-1",
            node_type="metal3.gpu-h100", template="inference-h100", template_version="1.0.0", wait_s=WAIT_S,
        )  # fmt: skip
        try:
            scene.until(lambda: _answers(scene.url), "the twin is up")
            for ours in platform_promises.opened(scene):
                connections = Connections(scene.url, access_key_from(scene.key_file))
                headers = {"Authorization": "Bearer a-key-for-tests"}
                with httpx.Client(
                    base_url=scene.url + ours.proxy, headers=headers, timeout=WAIT_S, verify=NO_TLS
                ) as http:
                    yield from opened(Api(connections, Cluster(ours.project, ours.cluster), "kube-promises", http))
        finally:
            process.terminate()
            process.wait(WAIT_S)


def test_what_the_twin_lacks_is_a_promise() -> None:
    assert set(TWIN_LACKS) <= set(dir(KubePromises))


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5, verify=NO_TLS).is_success
    except httpx.HTTPError:
        return False
