"""A machine is replaced under live streams, as an operator types it: none is cut, with a spare machine and without."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.e2e.command import millrace
from tests.e2e.local_profile import Profile, wait_until
from tests.e2e.streams import Streams

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("rollouts")]

STREAMS: Final = 40
NEWCOMERS_MAX: Final = 40
STREAM_TOKENS: Final = 60  # Twelve seconds: the drain has begun long before they end.
L40S: Final = "terraform.gpu-l40s"


def _nodes(profile: Profile, endpoint: str) -> list[dict[str, Any]]:
    found = millrace(profile.home.path, "nodes", "list", "--output", "json").json["items"]
    return [each for each in found if each["holder"] == endpoint]


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
            ours = [each for each in rolling.inventory()["nodes"] if each["cluster"].endswith(f"/{endpoint}")]
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
