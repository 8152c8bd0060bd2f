"""vCluster Platform's promises: kept by the twin in its own process over real HTTP, and by a real one if it is named.

    export MILLRACE_PLATFORM_URL=https://… MILLRACE_PLATFORM_KEY_FILE=…
    MILLRACE_CONFORMANCE=region,node-type,template@version pytest -n 0 tests/contract/test_platform_promises.py

It makes a project and two clusters there, with one node each, and removes them again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from libs.common.errors import Unavailable
from services.capacity_manager.shell.platform import Platform
from services.capacity_manager.shell.platform.adapter import NODE_TYPES
from tests.contract.platform_promises import PROMISES, Learnt, Ours, PlatformPromises, Scene, opened
from tests.support.ports import free_port
from tests.support.web import NO_TLS

TWIN_WAIT_S: Final = 60.0  # Two cores that others use as well.
PLATFORM_WAIT_S: Final = 3_600.0  # Bare metal is installed within the hour.
REAL: Final = os.environ.get("MILLRACE_PLATFORM_URL", "")

pytestmark = pytest.mark.xdist_group("platform")


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A twin in a process of its own, with so short a memory that a watch can lose its place."""
    tmp = tmp_path_factory.mktemp("twin")
    (tmp / "key").write_text("a-key-for-tests\n")
    (tmp / "options.json").write_text(json.dumps({"history_max": 20}))
    port = free_port()
    files = ["--access-key-file", str(tmp / "key"), "--options", str(tmp / "options.json"), "--time-scale", "0.0005"]
    process = subprocess.Popen([sys.executable, "-m", "libs.twin", "--port", str(port), *files])
    scene = Scene(
        url=f"http://127.0.0.1:{port}", key_file=tmp / "key", mark="pp", region="eu-1", node_type="metal3.gpu-h100",
        template="inference-h100", template_version="1.0.0", wait_s=TWIN_WAIT_S,
    )  # fmt: skip
    try:
        scene.until(lambda: _answers(scene.url), "the twin is up")
        yield scene
    finally:
        process.terminate()
        process.wait(TWIN_WAIT_S)


class TestTwin(PlatformPromises):
    @pytest.fixture(scope="class")
    @classmethod
    def ours(cls, twin: Scene) -> Iterator[Ours]:
        yield from opened(twin)


class TestRealPlatform(PlatformPromises):
    __test__ = bool(REAL)

    @pytest.fixture(scope="class")
    @classmethod
    def ours(cls) -> Iterator[Ours]:
        region, node_type, template = os.environ["MILLRACE_CONFORMANCE"].split(",")
        name, _, version = template.partition("@")
        ca_file = os.environ.get("MILLRACE_PLATFORM_CA_FILE")
        scene = Scene(
            url=REAL, key_file=Path(os.environ["MILLRACE_PLATFORM_KEY_FILE"]), mark=f"mrc{int(time.monotonic())}",
            region=region, node_type=node_type, template=name, template_version=version, wait_s=PLATFORM_WAIT_S,
            ca_file=Path(ca_file) if ca_file else None,
        )  # fmt: skip
        yield from opened(scene)


@pytest.mark.skipif(bool(REAL), reason="a real Platform is named")
def test_a_real_platform_keeps_these_promises() -> None:
    pytest.skip(f"MILLRACE_PLATFORM_URL names no real Platform: {len(PROMISES)} promises are known from documents only")


@pytest.mark.parametrize("how", ["html", "redirect", "half", "types", "nameless"])
def test_an_answer_that_is_none_is_told_as_such_over_http_and_never_taken_for_an_absence(twin: Scene, how: str) -> None:
    client = twin.client()
    httpx.post(f"{twin.url}/twin/v1/faults", json={"answers": how}, verify=NO_TLS).raise_for_status()
    try:
        with pytest.raises(Unavailable) as listing:
            client.list(NODE_TYPES)
        with pytest.raises(Unavailable) as asking:
            client.get(NODE_TYPES, twin.node_type) if how == "nameless" else Platform(client).who()
    finally:
        httpx.post(f"{twin.url}/twin/v1/faults", json={"answers": ""}, verify=NO_TLS).raise_for_status()

    assert listing.value.code == "PlatformGarbled"
    assert asking.value.code == "PlatformGarbled"


def test_every_promise_says_where_it_was_learnt() -> None:
    tests = [each for each in dir(PlatformPromises) if each.startswith("test_")]

    assert len(PROMISES) == len(tests)
    assert {each.learnt for each in PROMISES} == set(Learnt)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5, verify=NO_TLS).is_success
    except httpx.HTTPError:
        return False
