"""A scaler over pauses, repairs and changes of its limits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from libs.common.events.endpoint import Scaling, Stage
from libs.common.events.envelope import Envelope
from services.autoscaler.core.scaling import replicas_for
from tests.unit.autoscaler.world import World, envelope, failed, paused, requested, staged, traffic

LIMITS = Scaling(min=1, max=8, target_concurrency=8)
BUSY = 30_000  # Thousandths in flight: four replicas.


def a_busy_world() -> World:
    """A world whose endpoint was scaled to four."""
    world = World(LIMITS)
    world.pass_time(10, milli=BUSY)
    assert world.numbers() == [4]
    return world


def resumed(world: World, *, generation: int = 3, limits: Scaling = LIMITS) -> Envelope:
    return requested(limits, sequence=generation * 10, generation=generation, at_ms=world.clock.now_ms())


@pytest.mark.parametrize("end", [paused, failed])
def test_nothing_is_decided_after_an_end(end: Callable[..., Envelope]) -> None:
    world = a_busy_world()

    world.hear(end(sequence=20, generation=2))
    world.pass_time(70, milli=2 * BUSY)

    assert world.numbers() == [4]
    assert world.scaler().samples == ()


@pytest.mark.parametrize("end", [paused, failed])
def test_a_resume_begins_at_the_least_and_says_so_at_once(end: Callable[..., Envelope]) -> None:
    world = a_busy_world()
    world.hear(end(sequence=20, generation=2))

    world.hear(resumed(world))

    assert world.numbers() == [4, 1]
    assert replicas_for(world.decided()[-1].inputs) == 1
    assert world.decided()[-1].reason == "it begins anew"


def test_traffic_from_before_the_resume_scales_nothing() -> None:
    world = a_busy_world()
    before_ms = world.clock.now_ms()
    world.hear(paused(sequence=20, generation=2))
    world.clock.advance(1_000)
    world.hear(resumed(world), staged(Stage.READY, sequence=31, generation=3))

    world.hear(traffic({"ep-one": BUSY}, to_ms=before_ms + 1_000))

    assert world.numbers() == [4, 1]


def test_a_stage_from_before_the_pause_does_not_make_the_next_life_live() -> None:
    world = a_busy_world()
    world.hear(paused(sequence=20, generation=2), resumed(world))

    world.pass_time(10, milli=BUSY)
    assert world.numbers() == [4, 1]
    world.hear(staged(Stage.READY, sequence=31, generation=3))
    world.pass_time(10, milli=BUSY)

    assert world.numbers() == [4, 1, 4]


def test_a_pause_that_comes_after_its_resume_still_begins_anew() -> None:
    world = a_busy_world()
    world.hear(resumed(world))
    assert world.numbers() == [4]

    world.hear(paused(sequence=20, generation=2))

    assert world.numbers() == [4, 1]
    assert not world.scaler().is_over


def test_an_end_that_is_older_than_the_request_ends_nothing() -> None:
    world = World(LIMITS)
    world.hear(resumed(world), staged(Stage.READY, sequence=31, generation=3), failed(sequence=20, generation=2))

    world.pass_time(10, milli=BUSY)

    assert world.numbers() == [4]


def test_an_updating_endpoint_is_scaled_like_a_ready_one() -> None:
    world = World(LIMITS)
    world.hear(requested(LIMITS, sequence=20, generation=2), staged(Stage.UPDATING, sequence=21, generation=2))

    world.pass_time(10, milli=BUSY)

    assert world.numbers() == [4]


@pytest.mark.parametrize("stage", [Stage.READY, Stage.UPDATING, Stage.LOADING_MODEL])
def test_limits_below_what_was_decided_are_answered_at_once_in_any_stage(stage: Stage) -> None:
    world = a_busy_world()
    world.hear(staged(stage, sequence=19))

    world.hear(requested(Scaling(min=1, max=2, target_concurrency=8), sequence=20, generation=2))

    assert world.numbers() == [4, 2]


def test_a_repeat_of_a_resume_begins_nothing_anew() -> None:
    world = a_busy_world()
    world.hear(paused(sequence=20, generation=2))
    again = resumed(world)
    world.hear(again, staged(Stage.READY, sequence=31, generation=3))
    world.clock.advance(5_000)
    world.pass_time(10, milli=BUSY)

    world.hear(again, envelope(again.data, sequence=30, generation=3))

    assert world.numbers() == [4, 1, 4]


def test_a_resume_at_the_least_tells_nothing() -> None:
    world = World(LIMITS)
    world.hear(paused(sequence=20, generation=2))

    world.hear(resumed(world))

    assert world.numbers() == []
