"""Machines are replaced under live streams, as an operator types it: one by name, or all of a tier; none is cut."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import pytest

from libs.common.bus.tail import tail
from tests.e2e.command import millrace
from tests.e2e.conftest import ROLLED_TO
from tests.e2e.local_profile import Profile, wait_until
from tests.e2e.streams import Streams

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("rollouts")]

STREAMS: Final = 40
NEWCOMERS_MAX: Final = 40
STREAM_TOKENS: Final = 60  # Twelve seconds: the drain has begun long before they end.
LIVE_MIN: Final = 4  # Streams that are answered at once while a tier is rolled; twice as many are asked for.
LIVE_TOKENS: Final = 20  # Four seconds.
STREAMS_MAX: Final = 120
OF_NODES: Final = "mr.v1.evt.capacity-manager.>"
JOINED: Final = "node.joined.v1"
STEPS: Final = ("node.draining.v1", "node.replaced.v1")
TENANT_CLUSTER: Final = "sc-l40s-tenant-eu-1"
L40S: Final = "terraform.gpu-l40s"


def _nodes(profile: Profile, holder: str) -> list[dict[str, Any]]:
    found = millrace(profile.home.path, "nodes", "list", "--output", "json").json["items"]
    return [each for each in found if each["holder"] == holder]


def _of_cluster(profile: Profile, name: str) -> list[dict[str, Any]]:
    """The nodes that the simulated cloud has for a cluster."""
    found: list[dict[str, Any]] = profile.inventory()["nodes"]
    return [each for each in found if each["cluster"].endswith(f"/{name}")]


def _told(profile: Profile, *kinds: str) -> list[tuple[str, str]]:
    """What was told of nodes of the shared cluster so far, in order: the kind, and the node."""

    async def read() -> list[tuple[str, str]]:
        url = profile.credentials.nats_url
        events = [each.message async for each in tail(url, stream="MR_EVT", subject=OF_NODES)]
        return [(each.headers["ce-type"], json.loads(each.body).get("claim", "")) for each in events]

    return [each for each in asyncio.run(read()) if each[0] in kinds and each[1].startswith(f"{TENANT_CLUSTER}-")]


@pytest.mark.parametrize("spare", [True, False])
def test_a_node_is_replaced_under_live_streams_and_none_is_cut(rolling: Profile, spare: bool) -> None:
    name = "spared" if spare else "alone"
    endpoint = rolling.create(name)
    rolling.wait_for_stage(endpoint, "ready")
    (node,) = _nodes(rolling, endpoint)
    claimed = len([each for each in rolling.inventory()["nodes"] if each["gpus"] == 1])
    rolling.order(capacity={} if spare else {L40S: claimed})
    with Streams(rolling, name) as streams:
        streams.open(STREAMS, tokens=STREAM_TOKENS)
        wait_until(lambda: streams.live == STREAMS, "the streams never began")

        said = millrace(rolling.home.path, "nodes", "replace", node["node"], "--reason", "driver 570")
        assert said.code == 0, said
        assert "is being replaced now: driver 570" in said.out

        def is_replaced() -> bool:
            if len(streams.seen) < STREAMS + NEWCOMERS_MAX:
                streams.open(1, tokens=5)
            ours = _of_cluster(rolling, endpoint)
            return [each["name"] != node["node"] and each["gpus"] == 1 for each in ours] == [True]

        wait_until(is_replaced, "the node was never replaced")
        wait_until(lambda: streams.open_ones == 0, "somebody still waits")

    (another,) = _nodes(rolling, endpoint)
    assert another["node"] != node["node"]
    assert {each.status for each in streams.seen} == {200}, [each for each in streams.seen if each.status != 200][:3]
    cut = [each for each in streams.seen if not each.is_whole]
    assert not cut, (len(cut), cut[:3])
    assert len(streams.seen) > STREAMS, "nobody came meanwhile"
    print(f"{STREAMS} live streams and {len(streams.seen) - STREAMS} newcomers, spare={spare}: none cut, none refused")
    rolling.order(capacity={})
    rolling.insist("DELETE", f"/v1/endpoints/{endpoint}")


def test_a_cluster_that_two_share_is_rolled_node_by_node_under_live_streams_and_none_is_cut(rolling: Profile) -> None:
    endpoints = {name: rolling.create(name, tier="l40s-tenant") for name in ("left", "right")}
    for each in endpoints.values():
        rolling.wait_for_stage(each, "ready")
    wait_until(lambda: len(_told(rolling, JOINED)) == len(endpoints), "its pool has not seen its nodes")
    old = {each["name"] for each in _of_cluster(rolling, TENANT_CLUSTER)}
    with Streams(rolling, "left") as streams:

        def keep_live() -> None:
            for name in endpoints if streams.open_ones < 2 * LIVE_MIN and len(streams.seen) < STREAMS_MAX else ():
                streams.open(1, tokens=LIVE_TOKENS, model=name)

        def are_live() -> bool:
            keep_live()
            return streams.live >= LIVE_MIN

        def are_rolled() -> bool:
            keep_live()
            ours = _of_cluster(rolling, TENANT_CLUSTER)
            return len(ours) == len(old) and all(each["name"] not in old and each["gpus"] == 1 for each in ours)

        wait_until(are_live, "the streams never began")
        template = f"millrace-tenant-l40s@{ROLLED_TO}"
        said = millrace(rolling.home.path, "nodes", "roll", "l40s-tenant", template, "--reason", "OS image 24.04")
        assert said.code == 0, said
        assert f"1 cluster with 2 nodes become {template}, one node of each at a time" in said.out
        wait_until(are_rolled, "its nodes were never replaced")
        wait_until(lambda: streams.open_ones == 0, "somebody still waits")

    steps: list[tuple[str, str]] = []

    def have_ended() -> bool:
        steps[:] = _told(rolling, *STEPS)
        return len(steps) == 2 * len(old)

    wait_until(have_ended, "their replacements never ended")
    assert [kind for kind, _ in steps] == [*STEPS, *STEPS], "one node after the other"
    assert {node for _, node in steps} == old
    assert {each.status for each in streams.seen} == {200}, [each for each in streams.seen if each.status != 200][:3]
    cut = [each for each in streams.seen if not each.is_whole]
    assert not cut, (len(cut), cut[:3])
    print(f"{len(streams.seen)} streams over two nodes that were replaced: none cut, none refused")
    for each in endpoints.values():
        rolling.insist("DELETE", f"/v1/endpoints/{each}")
