"""Scaling to zero: an endpoint falls asleep when nothing asks for it, and one request that waits wakes it, once."""

from __future__ import annotations

from libs.common.events.endpoint import Scaling
from services.autoscaler.core.scaling import replicas_for
from tests.unit.autoscaler.world import World, requested

SLEEPS = Scaling(min=2, max=8, target_concurrency=8, idle_to_zero_s=300)


def replicas_decided(world: World) -> list[int]:
    return [each.replicas for each in world.decided()]


def idle(world: World, seconds: int) -> None:
    """A router says three times that nothing is in flight, then nothing more."""
    for _ in range(3):
        world.pass_time(5)
        world.report(0)
    world.pass_time(seconds - 15)


def asleep() -> World:
    world = World(SLEEPS)
    world.pass_time(30, milli=4000)
    idle(world, 320)
    assert replicas_decided(world) == [0]
    return world


def test_it_falls_asleep_after_the_time_that_was_asked_for_and_not_before() -> None:
    world = World(SLEEPS)
    world.pass_time(30, milli=4000)

    idle(world, 290)
    before = replicas_decided(world)
    world.pass_time(30)

    assert before == []
    assert replicas_decided(world) == [0]
    assert all(replicas_for(each.inputs) == each.replicas for each in world.decided())


def test_one_that_may_not_sleep_stays_at_its_least() -> None:
    world = World(SLEEPS.model_copy(update={"idle_to_zero_s": None}))
    world.pass_time(30, milli=4000)

    idle(world, 3600)

    assert replicas_decided(world) == []


def test_one_that_nobody_ever_asked_falls_asleep_when_a_router_says_so() -> None:
    world, unheard = World(SLEEPS), World(SLEEPS)

    idle(world, 330)
    unheard.pass_time(3600)

    assert replicas_decided(world) == [0]
    assert replicas_decided(unheard) == [], "nobody said anything: nothing is known"


def test_a_router_that_falls_silent_in_the_middle_of_traffic_keeps_it_awake() -> None:
    world = World(SLEEPS)
    world.pass_time(30, milli=4000)

    world.pass_time(500)

    assert replicas_decided(world) == []


def test_one_router_that_has_traffic_keeps_it_awake() -> None:
    world = World(SLEEPS)
    world.pass_time(5)
    world.report(0, instance="r2")

    world.pass_time(400, milli=100)

    assert replicas_decided(world) == []


def test_the_first_request_that_waits_wakes_it_and_the_others_wake_nothing_more() -> None:
    world = asleep()

    world.clock.advance(300)
    world.report(900, peak=1)
    for _ in range(10):
        world.report(12_000, peak=12)
        world.pass_time(1)

    assert replicas_decided(world) == [0, 2]
    assert all(replicas_for(each.inputs) == each.replicas for each in world.decided())


def test_it_sleeps_on_while_nothing_is_in_flight() -> None:
    world = asleep()

    idle(world, 3600)

    assert replicas_decided(world) == [0]


def test_a_change_that_takes_its_sleep_away_wakes_it() -> None:
    world = asleep()

    awake = SLEEPS.model_copy(update={"idle_to_zero_s": None})
    world.hear(requested(awake, sequence=2, generation=2))

    assert replicas_decided(world) == [0, 2]


def test_it_falls_asleep_again() -> None:
    world = asleep()
    world.report(900, peak=1)
    world.hear(world.replicas(2))

    world.pass_time(30, milli=900)
    idle(world, 330)

    assert replicas_decided(world) == [0, 2, 0]
