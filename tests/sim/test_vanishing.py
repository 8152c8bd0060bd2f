"""Capacity that vanishes behind our back is billed for a minute more at most: the real flow, from the Platform on."""

from __future__ import annotations

import json
from typing import Final

import pytest

from libs.common.events.capacity import NodeReleased
from libs.common.events.event import Owner
from libs.common.units import MINUTE_MS, SECOND_MS
from libs.twin import kinds
from libs.twin.objects import name_of
from tests.contract.stories import Stage
from tests.sim.bugs import decides
from tests.sim.life_bugs import deaf_to

SEEN_S: Final = 240  # Long enough that it would show if the meter ran on.


def billed_until(stage: Stage, claim: str) -> int:
    """The end of the claim's last line that stands."""
    lines = stage.sim.hosts[Owner.METERING].store.ledger.values()
    content = [(each, json.loads(each.data)) for each in lines if each.meter == "node_ms"]
    back = {data["corrects"] for _, data in content if data["corrects"]}
    return max(int(data["to_ms"]) for each, data in content if data["claim"] == claim and each.id not in back)


def a_node_vanishes(stage: Stage, served_s: int) -> tuple[str, int]:
    """An endpoint serves a while, its node vanishes, time passes; which it was, and when."""
    stage.until_stage(stage.create(), "ready")
    stage.rounds(served_s)
    (claim,) = stage.sim.twin.store.all(kinds.NODE_CLAIMS)
    gone_ms = stage.sim.clock.now_ms()
    stage.sim.twin.store.remove(kinds.NODE_CLAIMS, claim)
    stage.rounds(SEEN_S)
    return name_of(claim), gone_ms


@pytest.mark.parametrize("served_s", [3, 47])
def test_billing_stops_within_a_minute_of_a_node_that_vanished(served_s: int) -> None:
    stage = Stage()

    claim, gone_ms = a_node_vanishes(stage, served_s)

    assert gone_ms - SECOND_MS <= billed_until(stage, claim) <= gone_ms + MINUTE_MS


def test_a_meter_that_runs_on_is_seen() -> None:
    stage = Stage()
    decides(Owner.METERING, "meter", deaf_to(NodeReleased, when=lambda _meter: True))(stage.sim)
    stage.sim.hosts[Owner.METERING].boot()

    claim, gone_ms = a_node_vanishes(stage, 3)

    assert billed_until(stage, claim) > gone_ms + MINUTE_MS
