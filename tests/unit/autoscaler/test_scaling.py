"""Replicas follow need: up at once, down only on proof, never outside the limits, and always explained."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.events.endpoint import EndpointFailed, Scaling, Stage
from libs.common.events.envelope import Envelope
from libs.common.events.scale import ScaleInputs
from libs.common.units import MINUTE_MS, SECOND_MS
from services.autoscaler.core.policy import GONE_MS, STABLE_MS, Policy
from services.autoscaler.core.scaling import Hold, replicas_for
from services.autoscaler.shell import metrics
from tests.unit.autoscaler.world import ENDPOINT, T0, World, deleted, envelope, requested, staged, traffic


def inputs(**changed: int) -> ScaleInputs:
    """Figures of a busy endpoint, some of them changed."""
    figures = {
        "current": 4,
        "min": 1,
        "max": 8,
        "target_concurrency": 8,
        "concurrency_milli": 0,
        "window_ms": STABLE_MS,
        "samples": 12,
        "peak_milli": 0,
    }
    return ScaleInputs(**{**figures, **changed})


@pytest.mark.parametrize(
    ("figures", "replicas"),
    [
        (inputs(concurrency_milli=32_000), 4),
        (inputs(concurrency_milli=32_001), 5),
        (inputs(concurrency_milli=900_000), 8),
        (inputs(concurrency_milli=0), 1),
        (inputs(concurrency_milli=0, min=2), 2),
        (inputs(concurrency_milli=0, samples=0), 4),
        (inputs(concurrency_milli=8_000, peak_milli=12_800), 2),  # 80 % of 2 x 8 is 12.8.
        (inputs(concurrency_milli=8_000, peak_milli=12_801), 3),
        (inputs(concurrency_milli=8_000, peak_milli=99_000), 4),  # A peak takes no replica away, and brings none.
        (inputs(current=9, samples=0), 8),
    ],
)
def test_the_number_follows_from_the_figures(figures: ScaleInputs, replicas: int) -> None:
    assert replicas_for(figures) == replicas


def test_a_burst_is_answered_with_the_next_report() -> None:
    world = World()
    world.pass_time(60, milli=4000)

    world.pass_time(10, milli=30_000)

    assert world.numbers()[-1] == 4
    assert world.decided()[0].inputs.window_ms == 6000
    assert "requests in flight" in world.decided()[0].reason


def test_replicas_go_only_after_a_whole_window_without_need() -> None:
    world = World()
    world.pass_time(60, milli=30_000)
    up_at_s = 60

    world.pass_time(up_at_s - 2, milli=2000)
    assert world.numbers() == [4]
    world.pass_time(10, milli=2000)

    assert world.numbers() == [4, 1]
    assert world.decided()[-1].inputs.window_ms == STABLE_MS


def test_an_endpoint_that_was_told_idle_comes_down_in_silence() -> None:
    world = World()
    world.pass_time(60, milli=30_000)
    world.pass_time(5, milli=0)

    world.pass_time(90)

    assert world.numbers() == [4, 1]
    rows = len(world.store.rows)
    world.pass_time(600)
    assert len(world.store.rows) == rows


def test_silence_in_the_middle_of_traffic_takes_nothing_away() -> None:
    world = World()
    world.pass_time(60, milli=30_000)

    world.pass_time(3 * GONE_MS // SECOND_MS)

    assert world.numbers() == [4]


def test_a_router_that_fell_silent_holds_the_replicas_until_it_counts_as_gone() -> None:
    world = World()
    world.pass_time(60, milli=60_000, instances=("r1", "r2"))
    assert world.numbers() == [4, 8]  # By one report, then by both.

    world.pass_time(GONE_MS // SECOND_MS - 10, milli=0, instances=("r1",))
    assert world.numbers() == [4, 8]
    world.pass_time(20, milli=0, instances=("r1",))

    assert world.numbers() == [4, 8, 1]


def test_routers_add_up() -> None:
    world = World()

    world.pass_time(30, milli=30_000, instances=("r1", "r2", "r3"))

    assert world.decided()[-1].replicas == 4
    assert world.decided()[-1].inputs.concurrency_milli == 30_000


def test_at_the_least_without_traffic_nothing_is_written() -> None:
    world = World()
    rows = len(world.store.rows)

    world.pass_time(3600)

    assert len(world.store.rows) == rows
    assert world.store.records[("scaler", ENDPOINT)].wake_at_ms is None


def test_replicas_stay_while_the_ones_that_would_remain_do_not_answer() -> None:
    world = World()
    world.pass_time(60, milli=30_000)
    world.hear(world.replicas(0), staged(Stage.DEGRADED, sequence=2))

    world.pass_time(200, milli=0)
    assert world.numbers() == [4]
    world.hear(world.replicas(4), staged(Stage.READY, sequence=3))
    world.pass_time(10, milli=0)

    assert world.numbers() == [4, 1]


@pytest.mark.parametrize("stage", [Stage.LOADING_MODEL, Stage.DRAINING, Stage.FAILED])
def test_only_an_endpoint_that_serves_is_scaled(stage: Stage) -> None:
    world = World()
    world.hear(staged(stage, sequence=2))

    world.pass_time(60, milli=60_000)

    assert world.numbers() == []


@pytest.mark.parametrize(
    "end",
    [deleted(), envelope(EndpointFailed(tenant_id="a", project_id="p", reason="r", message="m"), sequence=9)],
)
def test_an_endpoint_that_goes_is_left_alone(end: Envelope) -> None:
    world = World()
    world.pass_time(30, milli=30_000)
    world.hear(end)

    world.pass_time(60, milli=60_000)

    assert world.numbers() == [4]
    assert world.scaler().samples == ()
    assert world.store.records[("scaler", ENDPOINT)].wake_at_ms is None


def test_traffic_before_the_request_is_kept_for_when_it_comes() -> None:
    world = World(live=False)
    world.pass_time(30, milli=30_000)
    assert world.numbers() == []

    world.hear(staged(Stage.READY, sequence=1), requested(Scaling(min=1, max=8)))

    assert world.numbers() == [4]


def test_a_lower_limit_takes_effect_at_once_and_explains_itself() -> None:
    world = World()
    world.pass_time(60, milli=60_000)
    assert world.numbers() == [8]

    world.hear(requested(Scaling(min=1, max=3), sequence=2))

    assert world.numbers() == [8, 3]
    assert world.decided()[-1].reason == "the limits changed"
    assert replicas_for(world.decided()[-1].inputs) == 3


def test_what_is_older_than_known_changes_nothing() -> None:
    world = World()
    late = world.replicas(0)
    world.hear(
        world.replicas(1), late, staged(Stage.DRAINING, sequence=0), requested(Scaling(min=5, max=5), sequence=0)
    )

    scaler = world.scaler()

    assert (scaler.ready, scaler.stage, scaler.limits) == (1, Stage.READY, world.scaling)


@pytest.mark.parametrize(
    "report",
    [
        traffic({ENDPOINT: -5}, to_ms=T0),
        traffic({ENDPOINT: 1 << 60}, to_ms=T0),
        traffic({ENDPOINT: 60_000}, to_ms=T0 + MINUTE_MS),
        traffic({ENDPOINT: 60_000}, to_ms=T0, from_ms=T0),
        traffic({"ep-other": 60_000}, to_ms=T0),
    ],
)
def test_a_report_that_cannot_be_true_scales_nothing(report: Envelope) -> None:
    world = World()

    world.hear(report)

    assert world.numbers() == []
    assert world.scaler().samples == ()


def test_one_report_is_heard_by_every_endpoint_in_it() -> None:
    world = World()
    world.hear(requested(Scaling(min=2, max=4), endpoint="ep-two"))
    world.clock.advance(5 * SECOND_MS)

    world.report({ENDPOINT: 16_000, "ep-two": 9_000})

    assert [each.concurrency_milli for each in world.scaler().samples] == [16_000]
    assert [each.concurrency_milli for each in world.scaler("ep-two").samples] == [9_000]


def test_a_restart_remembers_what_was_decided() -> None:
    world = World()
    world.pass_time(60, milli=30_000)

    world.start()
    world.pass_time(30, milli=30_000)

    assert world.numbers() == [4]


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


@settings(max_examples=40, deadline=None)
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


@settings(max_examples=60, deadline=None)
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


def test_gauges_say_why_nothing_changes() -> None:
    world = World()
    world.pass_time(60, milli=30_000)
    world.pass_time(GONE_MS // SECOND_MS)

    metrics.count([world.scaler()], now_ms=world.clock.now_ms(), policy=Policy())

    assert metrics.ENDPOINTS.labels(hold=Hold.NO_DATA)._value.get() == 1
    assert metrics.REPLICAS_ABOVE_MIN._value.get() == 3


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
