"""Capacity that vanishes behind our back is billed for a minute more at most: the real flow, from the Platform on."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from libs.common.decision import Decision
from libs.common.events.capacity import NodeLost, NodeReleased
from libs.common.events.envelope import Envelope
from libs.common.events.event import Owner
from libs.common.units import MINUTE_MS, SECOND_MS
from libs.twin import kinds
from libs.twin.objects import name_of
from services.capacity_manager.core.observed import Observed
from services.metering.core.accounts import Account
from tests.contract.stories import Stage
from tests.sim.bugs import Decide, decides
from tests.sim.looks import Told

SEEN_S: Final = 240  # Long enough that it would show if the meter ran on.
FAULTS: Final = ("lost_nodes", "silent_nodes")


def billed_until(stage: Stage, claim: str) -> int:
    """The end of the claim's last line that stands and that somebody pays for."""
    lines = stage.sim.hosts[Owner.METERING].store.ledger.values()
    content = [(each, json.loads(each.data)) for each in lines if each.meter == "node_ms"]
    back = {data["corrects"] for _, data in content if data["corrects"]}
    paid = [(each, data) for each, data in content if not each.account.endswith(f"/{Account.STRANDED}")]
    return max(int(data["to_ms"]) for each, data in paid if data["claim"] == claim and each.id not in back)


def a_node_vanishes(stage: Stage, served_s: int) -> tuple[str, int]:
    """An endpoint serves a while, its node vanishes, time passes; which it was, and when."""
    stage.until_stage(stage.create(), "ready")
    stage.rounds(served_s)
    (claim,) = stage.sim.twin.store.all(kinds.NODE_CLAIMS)
    gone_ms = stage.sim.clock.now_ms()
    stage.sim.twin.store.remove(kinds.NODE_CLAIMS, claim)
    stage.rounds(SEEN_S)
    return name_of(claim), gone_ms


def a_node_dies(stage: Stage, fault: str) -> tuple[str, str, int]:
    """An endpoint serves, its node dies, time passes; both, and when."""
    endpoint = stage.create()
    stage.until_stage(endpoint, "ready")
    stage.rounds(3)
    (claim,) = stage.sim.twin.store.all(kinds.NODE_CLAIMS)
    gone_ms = stage.sim.clock.now_ms()
    stage.sim.twin.set_faults({fault: 1})
    return endpoint, name_of(claim), gone_ms


def never_looks_inside(decide: Decide) -> Decide:
    """A capacity-manager that believes the Platform's claim, whatever becomes of the node that came of it."""

    def spoiled(state: Any, envelope: Envelope, now_ms: int) -> Decision[Any]:
        if isinstance(envelope.data, Observed):
            seen = envelope.data.model_copy(update={"machines": None})
            envelope = Envelope(envelope.id, seen, subject=envelope.subject, time_ms=envelope.time_ms)
        return decide(state, envelope, now_ms)

    return spoiled


def hears_no_end(decide: Decide) -> Decide:
    """A meter that is told that a node went or was lost, and goes on: it wakes as if nothing had been said."""

    def spoiled(state: Any, envelope: Envelope, now_ms: int) -> Decision[Any]:
        if isinstance(envelope.data, NodeLost | NodeReleased):
            return Decision(state, wake_at_ms=now_ms)
        return decide(state, envelope, now_ms)

    return spoiled


@pytest.mark.parametrize("served_s", [3, 47])
def test_billing_stops_within_a_minute_of_a_node_that_vanished(served_s: int) -> None:
    stage = Stage()

    claim, gone_ms = a_node_vanishes(stage, served_s)

    assert gone_ms - SECOND_MS <= billed_until(stage, claim) <= gone_ms + MINUTE_MS


@pytest.mark.parametrize("fault", FAULTS)
def test_a_node_that_dies_is_told_paid_no_longer_and_replaced(fault: str) -> None:
    stage = Stage()
    told = Told(stage.sim)

    endpoint, claim, gone_ms = a_node_dies(stage, fault)
    stage.until_stage(endpoint, "degraded")
    stage.until_stage(endpoint, "ready")
    stage.rounds(90)

    told.catch_up()
    (lost,) = [each.data for each in told.events if isinstance(each.data, NodeLost)]
    assert (lost.claim, lost.waiting_on) == (claim, "vCluster Platform")
    assert gone_ms - SECOND_MS <= lost.at_ms <= lost.seen_at_ms <= gone_ms + MINUTE_MS
    assert gone_ms - SECOND_MS <= billed_until(stage, claim) <= gone_ms + MINUTE_MS
    (another,) = stage.sim.twin.store.all(kinds.NODE_CLAIMS)
    assert name_of(another) != claim


def test_a_meter_that_runs_on_is_seen() -> None:
    stage = Stage()
    decides(Owner.METERING, "meter", hears_no_end)(stage.sim)
    stage.sim.hosts[Owner.METERING].boot()

    claim, gone_ms = a_node_vanishes(stage, 3)

    assert billed_until(stage, claim) > gone_ms + MINUTE_MS


def test_a_capacity_manager_that_does_not_look_is_seen() -> None:
    stage = Stage()
    decides(Owner.CAPACITY_MANAGER, "claim", never_looks_inside)(stage.sim)
    stage.sim.hosts[Owner.CAPACITY_MANAGER].boot()

    _, claim, gone_ms = a_node_dies(stage, "silent_nodes")
    stage.rounds(SEEN_S)

    assert billed_until(stage, claim) > gone_ms + MINUTE_MS
