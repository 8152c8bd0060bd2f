"""From an operator's file to a model on a volume: the deployer on a twin whose pods fetch for real."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from libs.common.clock import SystemClock
from libs.common.events.caches import ModelHit, ModelWarmed
from libs.common.events.endpoint import Placement
from libs.common.events.runtime import ModelDownloaded, ModelProgressed, RuntimeFailed
from libs.model_fetch.cache import Cache
from libs.model_fetch.fetching import SPAN_BYTES, WORKERS
from libs.model_fetch.manifest import File, Manifest, parse
from libs.twin.engines import SubprocessEngines
from libs.twin.engines_port import Launch
from libs.twin.fake_engines import FakeEngines
from services.runtime_deployer.core.lifecycle import Stage
from services.runtime_deployer.core.manifests import render
from services.runtime_deployer.core.observed import Kind
from services.runtime_deployer.core.pod import pod_spec
from services.runtime_deployer.core.weights import Weights
from tests.integration.runtime_bench import STEPS, Bench
from tests.support.model_sources import Shelf, served
from tests.unit.runtime_deployer.a_runtime import (
    ENDPOINT,
    MODEL,
    VLLM,
    a_placement,
    a_spec,
    cluster_ready,
    deletion_requested,
    failed,
    gpu_ready,
    requested,
    withdrawn,
)

DEADLINE_S: Final = 60.0
WEIGHTS: Final = b"a few weights" * 1000
MANIFEST: Final = Manifest((File("model.bin", len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest()),))


class FetchingEngines(FakeEngines):
    """Fake engines, but fetches are the real program: whoever asks how one ended waits for its end."""

    def __init__(self, volumes: Path) -> None:
        super().__init__()
        self._volumes = volumes
        self._real = SubprocessEngines(SystemClock(), volumes_dir=volumes)
        self._fetches: set[str] = set()
        self.while_it_runs: Callable[[int], None] = lambda _pid: None

    def volumes(self) -> Path | None:
        return self._volumes

    def start(self, launch: Launch, now_ms: int) -> None:
        if launch.port:
            super().start(launch, now_ms)
        else:
            self._fetches.add(launch.key)
            self._real.start(launch, now_ms)

    def exit_code(self, key: str, now_ms: int) -> int | None:
        if key not in self._fetches:
            return super().exit_code(key, now_ms)
        give_up_s = time.monotonic() + DEADLINE_S
        while (code := self._real.exit_code(key, now_ms)) is None:
            assert time.monotonic() < give_up_s, "a fetch hangs"
            for each in self._real.running():
                self.while_it_runs(each.pid)
            time.sleep(0.01)
        return code

    def next_look_ms(self, key: str, now_ms: int) -> int | None:
        return now_ms + 1 if key in self._fetches else super().next_look_ms(key, now_ms)

    def forget(self, key: str) -> None:
        if key in self._fetches:
            self._real.forget(key)
        else:
            super().forget(key)

    def close(self) -> None:
        self._real.close()
        super().close()


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[FetchingEngines]:
    found = FetchingEngines(tmp_path / "volumes")
    yield found
    found.close()


def a_pinned_placement(manifest: Manifest = MANIFEST) -> Placement:
    pinned = {"model_digest": manifest.digest, "model_size_bytes": manifest.size_bytes}
    return a_placement().model_copy(update=pinned)


def a_bench(engines: FetchingEngines, weights: Weights, template: str = "vllm@1") -> Bench:
    manifest = parse(weights.manifest)
    bench = Bench(engines=engines, weights={manifest.digest: weights})
    placement = a_pinned_placement(manifest).model_copy(update={"runtime_template": template})
    bench.hear(requested(placement=placement), cluster_ready(), gpu_ready())
    return bench


def test_a_model_is_fetched_from_where_its_file_says_before_it_is_loaded(
    engines: FetchingEngines, tmp_path: Path
) -> None:
    with served(Shelf({"/bucket/m/model.bin": WEIGHTS})) as s3:
        bench = a_bench(engines, Weights("s3://bucket/m", MANIFEST.text, endpoint=s3.url))
        bench.until_stage(Stage.SERVING)

    assert [each for each in bench.kinds if each in STEPS] == list(STEPS)
    downloaded = next(each.data for each in bench.told if isinstance(each.data, ModelDownloaded))
    assert downloaded.bytes_fetched == len(WEIGHTS)
    (found,) = (tmp_path / "volumes").glob("pods/*/models/sha256-*/model.bin")
    assert found.read_bytes() == WEIGHTS
    (pod,) = bench.pods
    fetch = pod["status"]["initContainerStatuses"][1]
    assert '"cache": "miss"' in fetch["state"]["terminated"]["message"]
    (engine,) = pod["spec"]["containers"]
    assert engine["volumeMounts"][0]["subPath"] == MANIFEST.digest.replace(":", "-")


@pytest.mark.parametrize(
    ("shelf", "source", "reason", "words"),
    [
        ({"/bucket/m/model.bin": b"A" + WEIGHTS[1:]}, "s3://bucket/m", "DigestMismatch", "model.bin is sha256:"),
        ({}, "s3://bucket/m", "ModelNotFound", "s3://bucket/m/model.bin is not there (NoSuchKey)"),
        ({}, "hf://o/n@v1", "ModelGated", "is gated: accept its terms on the hub"),
    ],
)
def test_a_fetch_that_no_second_try_can_mend_fails_the_endpoint_by_its_reason(
    engines: FetchingEngines, shelf: dict[str, bytes], source: str, reason: str, words: str
) -> None:
    with served(Shelf(dict(shelf))) as server:
        server.answers["/o/n/resolve/v1/model.bin"] = (401, {"x-error-code": "GatedRepo"}, b"")
        bench = a_bench(engines, Weights(source, MANIFEST.text, endpoint=server.url))
        bench.until_stage(Stage.FAILED)

    told = next(each.data for each in bench.told if isinstance(each.data, RuntimeFailed))
    assert told.reason == reason
    assert words in told.message


@pytest.mark.chaos
def test_a_second_replica_on_a_node_finds_the_model_and_each_holds_it_while_it_is_there(
    engines: FetchingEngines, tmp_path: Path
) -> None:
    with served(Shelf({"/bucket/m/model.bin": WEIGHTS})) as s3:
        bench = a_bench(engines, Weights("s3://bucket/m", MANIFEST.text, endpoint=s3.url), "vllm@4")
        bench.until_stage(Stage.SERVING)
        placement = a_pinned_placement().model_copy(update={"runtime_template": "vllm@4"})
        bench.hear(requested(generation=2, sequence=2, spec=a_spec(low=2), placement=placement))
        bench.until(lambda: bench.replicas == 2)
        asked = [path for path, _ in s3.requests]

    warmed, hit = (each.data for each in bench.told if isinstance(each.data, ModelWarmed | ModelHit))
    assert isinstance(warmed, ModelWarmed)
    assert isinstance(hit, ModelHit)
    assert (warmed.bytes_fetched, hit.size_bytes) == (len(WEIGHTS), len(WEIGHTS))
    assert len(asked) == 1, "the second replica asks the source for nothing"
    (found,) = (tmp_path / "volumes").glob("nodes/*/var/lib/millrace/models/sha256-*/model.bin")
    cache = Cache(found.parents[1], SystemClock())
    assert [(each.digest, each.is_in_use) for each in cache.models()] == [(MANIFEST.digest, True)]

    bench.hear(deletion_requested(generation=3), withdrawn(generation=3))
    bench.until_stage(Stage.REMOVED)

    assert [(each.digest, each.is_in_use) for each in cache.models()] == [(MANIFEST.digest, False)]


@pytest.mark.chaos
def test_a_fetch_that_is_killed_is_started_again_in_its_pod_and_goes_on(
    engines: FetchingEngines, tmp_path: Path
) -> None:
    content = random.Random(3).randbytes(10 * SPAN_BYTES)
    manifest = Manifest((File("model.bin", len(content), hashlib.sha256(content).hexdigest()),))
    shelf = Shelf({"/bucket/m/model.bin": content}, held_at_bytes=(WORKERS + 1) * SPAN_BYTES)

    def kill_in_the_middle(pid: int) -> None:
        journals = (tmp_path / "volumes").glob("pods/*/models/.journal-*")
        if not shelf.released.is_set() and any(each.read_text() for each in journals):
            os.kill(pid, signal.SIGKILL)
            shelf.released.set()  # What comes after it is not held.

    engines.while_it_runs = kill_in_the_middle
    with served(shelf):
        bench = a_bench(engines, Weights("s3://bucket/m", manifest.text, endpoint=shelf.url))
        bench.until_stage(Stage.SERVING)

    (pod,) = bench.pods
    fetch = pod["status"]["initContainerStatuses"][1]
    assert fetch["restartCount"] == 1
    downloaded = next(each.data for each in bench.told if isinstance(each.data, ModelDownloaded))
    assert downloaded.bytes_fetched is not None
    assert downloaded.bytes_fetched <= len(content) - SPAN_BYTES
    assert "runtime.failed" not in bench.kinds


def test_a_download_tells_how_far_it_is() -> None:
    bench = Bench()
    bench.hear(requested(), cluster_ready(), gpu_ready())
    bench.until_stage(Stage.LOADING)

    told = [each.data for each in bench.told if isinstance(each.data, ModelProgressed)]
    done = [each.bytes_done for each in told]
    assert done == sorted(set(done))
    assert 10 <= len(done) <= 21
    assert {each.bytes_total for each in told} == {a_placement().model_size_bytes}


def test_a_run_keeps_what_it_began_with_and_a_resume_takes_what_was_mended(engines: FetchingEngines) -> None:
    first = Weights("s3://bucket/m", MANIFEST.text, endpoint="http://127.0.0.1:9")
    mended = replace(first, source="s3://bucket/other")
    bench = a_bench(engines, first)
    bench.weights = {MANIFEST.digest: mended}
    bench.start()
    placement = a_pinned_placement()

    bench.hear(requested(generation=2, sequence=2, spec=a_spec(high=2), placement=placement))
    assert bench.runtime.weights == first

    bench.hear(failed(generation=2), requested(generation=3, sequence=3, spec=a_spec(high=2), placement=placement))
    assert bench.runtime.weights == mended


def test_a_source_on_a_port_of_its_own_may_be_reached(engines: FetchingEngines) -> None:
    bench = a_bench(engines, Weights("s3://bucket/m", MANIFEST.text, endpoint="http://minio:9000"))
    runtime = bench.runtime
    assert runtime.template is not None

    policy: Any = next(each.body for each in render(runtime, runtime.template) if each.kind is Kind.NETWORK_POLICY)

    assert [each["port"] for each in policy["spec"]["egress"][1]["ports"]] == [443, 9000]


@pytest.mark.parametrize(
    ("source", "volume"),
    [
        ("pvc://weights/x", {"persistentVolumeClaim": {"claimName": "weights", "readOnly": True}}),
        ("file:///mnt/x", {"hostPath": {"path": "/mnt/x", "type": "Directory"}}),
    ],
)
def test_a_source_that_is_a_volume_is_mounted_for_the_fetch_alone(source: str, volume: dict[str, object]) -> None:
    body: Any = pod_spec(ENDPOINT, a_pinned_placement(), MODEL, VLLM, Weights(source, MANIFEST.text, secret="s"))

    assert {"name": "source", **volume} in body["volumes"]
    fetch = body["initContainers"][1]
    assert fetch["command"] == ["python", "-m", "libs.model_fetch"]
    assert fetch["args"][-2:] == ["--source", source]
    assert fetch["envFrom"] == [{"secretRef": {"name": "s"}}]
    assert "source" in [each["name"] for each in fetch["volumeMounts"]]
    assert "source" not in [each["name"] for each in body["containers"][0]["volumeMounts"]]


def test_an_engine_whose_image_has_the_model_sees_its_volume_whole() -> None:
    body: Any = pod_spec(ENDPOINT, a_pinned_placement(), MODEL, VLLM, Weights("baked:///opt/m", MANIFEST.text))

    assert "subPath" not in body["containers"][0]["volumeMounts"][0]
