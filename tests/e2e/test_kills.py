"""SIGKILL of any process at any stage: what was accepted still comes to its end, once, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from libs.common.bus.tail import tail
from tests.e2e.local_profile import Profile, running_profile, wait_until

PROCESSES: Final = (
    "endpoint-api",
    "capacity-manager",
    "runtime-deployer",
    "router",
    "metering",
    "autoscaler",
    "nats",
)
STAGES: Final = (
    "requested",
    "waiting_for_capacity",
    "provisioning_cluster",
    "joining_nodes",
    "preparing_gpu",
    "pulling_image",
    "downloading_model",
    "loading_model",
    "warming_cache",
    "publishing_route",
    "ready",
)
TEARDOWN: Final = ("draining", "deleting", "deleted")


@pytest.fixture
def own_profile(tmp_path: Path) -> Iterator[Profile]:
    """A profile to be killed in; slow enough that every stage can be met."""
    with running_profile(tmp_path / "home", time_scale=0.01) as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("process", PROCESSES)
def test_an_endpoint_comes_and_goes_whenever_a_process_is_killed(own_profile: Profile, process: str) -> None:
    """One endpoint a stage: when it gets there, the process dies. Deletes the same."""
    met: list[tuple[str, str]] = []
    endpoints: dict[str, str] = {}
    for stage in STAGES:
        endpoints[stage] = own_profile.create(f"at-{stage.replace('_', '-')}")
        met.append((stage, _kill_at(own_profile, process, endpoints[stage], stage, STAGES)))
    for endpoint_id in endpoints.values():
        own_profile.wait_for_stage(endpoint_id, "ready")
    own_profile.wait_until_healthy()
    _became_ready_once(own_profile, set(endpoints.values()))

    for stage, endpoint_id in zip(TEARDOWN, endpoints.values(), strict=False):
        own_profile.insist("DELETE", f"/v1/endpoints/{endpoint_id}")
        met.append((stage, _kill_at(own_profile, process, endpoint_id, stage, TEARDOWN)))
    for endpoint_id in endpoints.values():
        own_profile.insist("DELETE", f"/v1/endpoints/{endpoint_id}")
    for endpoint_id in endpoints.values():
        own_profile.wait_for_stage(endpoint_id, "deleted")

    own_profile.wait_until_healthy()
    _nothing_is_left(own_profile)
    print(f"{process}: wanted and met stages {met}")
    hits = sum(wanted == got for wanted, got in met)
    assert hits >= len(met) - 4, f"the kill came too late too often to prove anything: {met}"


def _kill_at(profile: Profile, process: str, endpoint_id: str, stage: str, order: tuple[str, ...]) -> str:
    """Kill the process when the endpoint is in the stage, or past it; returns the stage that it was then in."""
    passed = order[order.index(stage) :]
    got = ""

    def there() -> bool:
        nonlocal got
        got = profile.stage(endpoint_id)
        return got in passed

    wait_until(there, f"{endpoint_id} never got to {stage}")
    profile.kill(process)
    return got


def _became_ready_once(profile: Profile, endpoints: set[str]) -> None:
    """Exactly one `ready` was told of each, one cluster and one node stands for each."""
    ready = Counter(subject for subject, stage in _stages_told(profile) if stage == "ready")
    assert ready == Counter(endpoints)
    inventory = profile.inventory()
    assert sorted(each["name"] for each in inventory["clusters"]) == sorted(endpoints)
    assert Counter(each["cluster"] for each in inventory["claims"]) == Counter(endpoints)


def _stages_told(profile: Profile) -> list[tuple[str, str]]:
    async def read() -> list[tuple[str, str]]:
        subject = "mr.v1.evt.endpoint-api.endpoint-stage-changed.>"
        return [
            (each.message.headers["ce-subject"], json.loads(each.message.body)["stage"])
            async for each in tail(profile.credentials.nats_url, stream="MR_EVT", subject=subject)
        ]

    return asyncio.run(read())


def _nothing_is_left(profile: Profile) -> None:
    inventory = profile.inventory()
    left = {kind: inventory[kind] for kind in ("clusters", "claims", "nodes", "objects", "pods", "processes")}
    assert not any(left.values()), left
    assert profile.client.models() == []
