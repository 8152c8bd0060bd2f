"""Whatever the load, the crash or the clock: few changes, each within limits, each explained."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.events.endpoint import Scaling
from libs.common.units import SECOND_MS
from services.autoscaler.core.policy import STABLE_MS
from services.autoscaler.core.scaling import replicas_for
from tests.unit.autoscaler.world import ENDPOINT, World, traffic


class Crash(Exception):
    """The process died here."""


def test_a_crash_between_any_two_steps_decides_the_same() -> None:
    calm = World()
    calm.pass_time(70, milli=30_000)
    for fatal in range(12):
        world = World()
        world.moment = dying_at(fatal)
        for _ in range(14):
            world.clock.advance(5 * SECOND_MS)
            again = traffic({ENDPOINT: 30_000}, to_ms=world.clock.now_ms())
            for _attempt in range(2):  # What was not acked comes again.
                try:
                    world.hear(again)
                    world.service.tick()
                except Crash:
                    world.start()

        assert world.numbers() == calm.numbers() == [4], fatal


def dying_at(fatal: int) -> Callable[[str], None]:
    """Let the process die once, at the given moment: before or after a commit."""
    moments = iter(range(1 << 20))

    def moment(_moment: str) -> None:
        if next(moments) == fatal:
            raise Crash

    return moment


@settings(max_examples=25, deadline=None)
@given(
    milli=st.integers(0, 100_000),
    cold_start_s=st.integers(0, 420),
    instances=st.sampled_from([("r1",), ("r1", "r2")]),
)
def test_constant_load_brings_at_most_one_change_a_window_and_then_none(
    milli: int, cold_start_s: int, instances: tuple[str, ...]
) -> None:
    world = World(cold_start_s=cold_start_s)
    world.pass_time(60, milli=milli, instances=instances)
    first = world.numbers()

    world.pass_time(900, milli=milli, instances=instances)

    assert len(first) <= len(instances)  # With two routers the first report is half of the load.
    assert world.numbers() == first


loads = st.lists(st.tuples(st.integers(0, 90_000) | st.none(), st.integers(1, 60), st.integers(0, 3)), max_size=12)


@settings(max_examples=35, deadline=None)
@given(
    script=loads,
    low=st.integers(1, 4),
    above=st.integers(0, 6),
    target=st.integers(1, 20),
    cold_start_s=st.integers(0, 200),
)
def test_every_decision_is_within_limits_explained_and_never_hasty(
    script: list[tuple[int | None, int, int]], low: int, above: int, target: int, cold_start_s: int
) -> None:
    scaling = Scaling(min=low, max=low + above, target_concurrency=target)
    world = World(scaling, cold_start_s=cold_start_s)
    changes: list[tuple[int, int]] = [(world.clock.now_ms() - STABLE_MS, low)]

    for milli, seconds, which in script:
        for _ in range(seconds):
            before = len(world.decided())
            world.pass_time(1)
            if milli is not None and world.clock.now_ms() // SECOND_MS % 5 == 0:
                world.report(milli, instance=f"r{which % 2}", peak=milli // 1000 + which)
            for each in world.decided()[before:]:
                changes.append((world.clock.now_ms(), each.replicas))

    decided = world.decided()
    assert [each.replicas for each in decided] == [number for _at, number in changes[1:]]
    for each, (was_ms, was), (now_ms, now) in zip(decided, changes, changes[1:], strict=False):
        assert replicas_for(each.inputs) == each.replicas == now
        assert each.inputs.current == was
        assert scaling.min <= now <= scaling.max
        assert now != was
        assert now > was or now_ms - was_ms >= STABLE_MS
        if now < was:
            assert each.inputs.samples > 0
            assert now == scaling.min or each.inputs.peak_milli * 100 <= now * target * 1000 * 80


def test_a_clock_that_steps_back_does_not_put_a_scaler_to_sleep() -> None:
    world = World()
    world.pass_time(60, milli=30_000)
    world.pass_time(5, milli=0)
    world.pass_time(5)
    world.clock._now_ms -= 5 * SECOND_MS

    world.hear(world.replicas(4))  # It would ask for the wake-up that has just been.
    world.pass_time(200)

    assert world.numbers() == [4, 1]


def test_a_falling_load_takes_replicas_away_one_window_apart() -> None:
    world = World()
    world.pass_time(60, milli=60_000)
    changes: list[tuple[int, int]] = []

    for step in range(60):
        world.pass_time(5, milli=max(1000, 60_000 - 2000 * step))
        if len(world.numbers()) > len(changes) + 1:
            changes.append((world.clock.now_ms(), world.numbers()[-1]))

    assert [number for _at, number in changes][-1] == 1
    assert len(changes) > 2
    assert all(later[0] - earlier[0] >= STABLE_MS for earlier, later in pairwise(changes))
