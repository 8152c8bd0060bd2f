"""The table of a runtime, its picture, how closely each stage is followed, and what operators count."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import REGISTRY

import services.runtime_deployer
from libs.common.clock import ManualClock
from libs.common.store.memory import MemoryStore
from libs.common.store.port import Attention
from services.runtime_deployer.core.lifecycle import LIFECYCLE, Stage, attention_of
from services.runtime_deployer.core.state import RUNTIME
from services.runtime_deployer.core.trouble import trouble_of
from services.runtime_deployer.service import LIVE, build
from services.runtime_deployer.shell import metrics
from services.runtime_deployer.shell.caches import CacheWorld
from services.runtime_deployer.shell.kubernetes import KubernetesClusters
from services.runtime_deployer.shell.ports import Ports
from tests.unit.runtime_deployer.a_runtime import (
    FETCHED,
    TEMPLATES,
    TERMINATED,
    Scene,
    a_fetch,
    a_placement,
    a_pod,
    a_serving_scene,
    an_engine,
    an_image,
    deletion_requested,
    gpu_ready,
    loading,
    pulling,
    requested,
    scale_decided,
    warm,
    withdrawn,
)
from tests.unit.runtime_deployer.fake_api import FakeApi, connected


def test_the_picture_in_the_readme_is_the_table() -> None:
    readme = (Path(services.runtime_deployer.__file__).parent / "README.md").read_text()

    assert f"```mermaid\n{LIFECYCLE.mermaid()}\n```" in readme


def test_every_stage_can_be_reached() -> None:
    assert {row.to for row in LIFECYCLE.rows} | {LIFECYCLE.start} == set(Stage)


def test_every_stage_that_can_end_is_left_when_the_endpoint_is_unwanted() -> None:
    leaving = {row.stage for row in LIFECYCLE.rows if row.to is Stage.DRAINING}

    assert leaving == set(Stage) - {Stage.DRAINING, Stage.REMOVING, Stage.REMOVED}


def test_what_moves_is_followed_closely_and_what_rests_now_and_then() -> None:
    serving = a_serving_scene()

    assert attention_of(Scene().hear(requested()).runtime) is Attention.NONE
    assert attention_of(Scene().hear(requested(), gpu_ready()).runtime) is Attention.NOW
    assert attention_of(serving.runtime) is Attention.WATCH
    assert attention_of(serving.hear(scale_decided(2)).runtime) is Attention.NOW
    assert attention_of(serving.hear(deletion_requested()).runtime) is Attention.WATCH
    assert attention_of(serving.hear(withdrawn()).runtime) is Attention.NOW
    assert attention_of(serving.see_nothing().runtime) is Attention.NONE
    assert attention_of(Scene().hear(requested(), deletion_requested()).runtime) is Attention.NONE


def test_a_failed_runtime_is_left_as_it_is_until_its_end_is_asked_for() -> None:
    scene = Scene().hear(requested(placement=a_placement(template="none@1")), gpu_ready())

    assert scene.stage is Stage.FAILED
    assert attention_of(scene.runtime) is Attention.NONE


def test_operators_see_runtimes_by_stage_without_those_removed() -> None:
    store, clock = MemoryStore(), ManualClock()
    connections = connected(FakeApi())
    service = build(Ports(store, clock, KubernetesClusters(connections), CacheWorld(connections), TEMPLATES))
    service.handle(requested())
    runner = service.runner(RUNTIME)

    metrics.count_runtimes(runner.every(scope=LIVE))
    assert REGISTRY.get_sample_value("runtime_deployer_runtimes", {"stage": "waiting_for_gpu"}) == 1

    service.handle(deletion_requested())
    service.handle(withdrawn())
    metrics.count_runtimes(runner.every(scope=LIVE))
    assert REGISTRY.get_sample_value("runtime_deployer_runtimes", {"stage": "waiting_for_gpu"}) == 0
    assert REGISTRY.get_sample_value("runtime_deployer_runtimes", {"stage": "removed"}) == 0


@pytest.mark.parametrize(
    ("message", "reason", "code"),
    [
        ("DigestMismatch: expected a, got b", "DigestMismatch", 1),
        ("model digest does not match the manifest", "DigestMismatch", 1),
        ("ModelGated: accept the licence first", "ModelGated", 4),
    ],
)
def test_a_fetch_that_can_never_succeed_says_why(message: str, reason: str, code: int) -> None:
    pod = a_pod(init=(an_image(TERMINATED, 0), a_fetch(TERMINATED, code, message=message)))

    trouble = trouble_of((pod,))

    assert trouble is not None
    assert (trouble.reason, trouble.patience_ms) == (reason, 0)


def test_a_fetch_that_fails_otherwise_is_tried_three_times() -> None:
    def fetching(restarts: int) -> str:
        fetch = a_fetch(TERMINATED, 2, message="connection reset", restarts=restarts)
        trouble = trouble_of((a_pod(init=(an_image(TERMINATED, 0), fetch)),))
        return trouble.reason if trouble else ""

    assert [fetching(each) for each in (1, 2, 3)] == ["", "", "ModelFetchFailed"]


def test_an_engine_that_ends_well_again_and_again_is_trouble_too() -> None:
    engine = an_engine(restarts=3, exit_code=0, waiting="CrashLoopBackOff")

    trouble = trouble_of((a_pod(init=FETCHED, engine=engine),))

    assert trouble is not None
    assert trouble.reason == "CrashLoopBackOff"


def test_pods_that_wait_load_or_serve_are_no_trouble() -> None:
    assert trouble_of(()) is None
    assert trouble_of((pulling(), loading(), warm())) is None
