"""GPU time over pauses, repairs and changes of the model: all of it, in the right account, sold as asked for."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.events.endpoint import Stage
from libs.common.events.envelope import Envelope
from libs.common.events.usage import Meter as MeterName
from services.metering.core.booking import KEEP_MS, settle
from services.metering.core.state import Dimensions, Meter, Sale
from services.metering.shell.audit import audit
from tests.unit.metering.world import (
    T0,
    WINDOWS,
    World,
    batch,
    deleted,
    failed,
    joined,
    paused,
    released,
    requested,
    staged,
    usage,
)

OTHER: Final = "millrace/ngram-2"


def s(seconds: int) -> int:
    """A moment."""
    return T0 + 1000 * seconds


def a_pause() -> list[Envelope]:
    """Loading from 1 s to 3, serving to 17, draining to 20; loading from 40 to 45, serving to 60, draining to 62."""
    return [
        requested(),
        joined("n1", at_ms=s(1), sequence=1),
        staged(Stage.READY, since_ms=s(3), sequence=2),
        paused(at_ms=s(17), sequence=3, generation=2),
        staged(Stage.PAUSING, since_ms=s(17), sequence=4),
        released("n1", at_ms=s(20), sequence=2),
        staged(Stage.PAUSED, since_ms=s(21), sequence=5),
        requested(at_ms=s(38), sequence=6, generation=3, model=OTHER),
        staged(Stage.REQUESTED, since_ms=s(38), sequence=7),
        joined("n1", at_ms=s(40), sequence=3),
        staged(Stage.READY, since_ms=s(45), sequence=8),
        deleted(at_ms=s(60), sequence=9),
        staged(Stage.DRAINING, since_ms=s(60), sequence=10),
        released("n1", at_ms=s(62), sequence=4),
    ]


def lived(events: list[Envelope]) -> World:
    """The world after it heard these, each at its time, and told all windows."""
    world = World()
    for each in events:
        world.pass_time(max(0, (each.time_ms - world.clock.now_ms()) // 1000))
        world.hear(each)
    world.pass_time(40)
    return world


def gpu_ms(world: World) -> dict[str, int]:
    """GPU time by account; one of which all was taken back is none."""
    sums = world.sums().items()
    return {account: quantity for (account, meter), quantity in sums if meter == MeterName.GPU_MS and quantity}


def by_model(world: World) -> dict[str, int]:
    sold: Counter[str] = Counter()
    for each in world.store.ledger.values():
        if each.meter == MeterName.GPU_MS:
            sold[json.loads(each.data)["model"]] += each.quantity
    return {model: quantity for model, quantity in sold.items() if quantity}


SUMS: Final = {"loading": (2 + 5) * 8_000, "serving": (14 + 15) * 8_000, "draining": (3 + 2) * 8_000}
SOLD: Final = {"millrace/ngram-1": 19 * 8_000, OTHER: 22 * 8_000}


def test_time_before_and_after_a_pause_is_booked_and_the_pause_itself_costs_nothing() -> None:
    world = lived(a_pause())

    assert gpu_ms(world) == SUMS
    assert by_model(world) == SOLD
    assert audit(world.store, windows=WINDOWS) == ()


@settings(max_examples=25, deadline=None)
@given(st.permutations(a_pause()))
def test_whatever_order_a_pause_is_heard_in_the_same_is_booked(events: list[Envelope]) -> None:
    world = World()
    world.pass_time(70)
    for each in events:
        world.hear(each)
        world.pass_time(1)
    world.pass_time(40)

    assert gpu_ms(world) == SUMS
    assert by_model(world) == SOLD
    assert audit(world.store, windows=WINDOWS) == ()


@pytest.mark.parametrize("end", [paused, failed])
def test_time_after_an_end_is_draining_before_the_stage_is_told(end: object) -> None:
    assert callable(end)
    world = lived(
        [
            requested(),
            joined("n1", at_ms=s(1), sequence=1),
            staged(Stage.READY, since_ms=s(3), sequence=2),
            end(at_ms=s(10), sequence=3, generation=1),
            released("n1", at_ms=s(20), sequence=2),
        ]
    )

    assert gpu_ms(world) == {"loading": 2 * 8_000, "serving": 7 * 8_000, "draining": 10 * 8_000}


def test_an_end_that_a_newer_request_made_void_does_not_drain_what_serves() -> None:
    world = lived(
        [
            requested(),
            joined("n1", at_ms=s(1), sequence=1),
            failed(at_ms=s(2), sequence=2, generation=1),
            staged(Stage.FAILED, since_ms=s(2), sequence=3),
            requested(at_ms=s(4), sequence=4, generation=2),
            staged(Stage.REQUESTED, since_ms=s(4), sequence=5),
            staged(Stage.READY, since_ms=s(10), sequence=6),
            released("n1", at_ms=s(20), sequence=2),
        ]
    )

    assert gpu_ms(world) == {"draining": 2 * 8_000, "loading": (1 + 6) * 8_000, "serving": 10 * 8_000}


def test_an_update_divides_time_where_it_was_asked_for_and_windows_tell_the_model_of_their_time() -> None:
    world = lived(
        [
            requested(),
            joined("n1", at_ms=s(0), sequence=1),
            staged(Stage.READY, since_ms=s(0), sequence=2),
            requested(at_ms=s(23), sequence=3, generation=2, model=OTHER),
            staged(Stage.UPDATING, since_ms=s(23), sequence=4),
            released("n1", at_ms=s(40), sequence=2),
        ]
    )

    assert gpu_ms(world) == {"serving": 40 * 8_000}
    assert by_model(world) == {"millrace/ngram-1": 23 * 8_000, OTHER: 17 * 8_000}
    told = {(each.window_start_ms, each.model): each.quantity // 8 for each in world.windows_told()}
    assert told == {
        (s(0), "millrace/ngram-1"): 10_000,
        (s(10), "millrace/ngram-1"): 10_000,
        (s(20), "millrace/ngram-1"): 3_000,
        (s(20), OTHER): 7_000,
        (s(30), OTHER): 10_000,
    }


def test_requests_of_a_window_in_which_the_model_changed_are_told_of_each_model() -> None:
    world = World()
    old, new = usage("r1", completion_tokens=3), usage("r2", completion_tokens=4)
    changed = new.model_copy(update={"model": OTHER, "generation": 2})
    world.hear(requested(), batch([old, changed]))
    world.pass_time(20)

    told = {(each.meter.value, each.model): (each.quantity, each.revision) for each in world.windows_told()}
    assert told["completion_tokens", "millrace/ngram-1"] == (3, 1)
    assert told["completion_tokens", OTHER] == (4, 1)
    assert told["requests", OTHER] == (1, 1)
    assert audit(world.store, windows=WINDOWS) == ()


def test_a_change_of_limits_alone_divides_nothing() -> None:
    plain = [
        requested(),
        joined("n1", at_ms=s(0), sequence=1),
        released("n1", at_ms=s(9), sequence=2),
    ]
    scaled = [*plain[:2], requested(at_ms=s(5), sequence=3, generation=2), plain[2]]

    assert len(lived(scaled).lines()) == len(lived(plain).lines()) == 1


def test_what_was_sold_long_ago_stays_sold_when_later_requests_are_forgotten() -> None:
    sold = Dimensions("acme", "main", "ep-one", 1, "millrace/ngram-1", "h100-dedicated", "eu-1")
    sales = (Sale(1, s(0), sold), Sale(2, s(5), replace(sold, generation=2)), Sale(3, s(9), replace(sold, model=OTHER)))
    meter = Meter("ep-one", dimensions=sold, sales=sales)

    same = settle(replace(meter, sales=sales[:2], booked_ms=s(10) + KEEP_MS), WINDOWS)
    other = settle(replace(meter, booked_ms=s(10) + KEEP_MS), WINDOWS)

    assert [each.sequence for each in same.sales] == [1], "time is booked as sold by the first"
    assert [each.sequence for each in other.sales] == [3]
