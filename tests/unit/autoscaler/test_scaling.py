"""Replicas follow need: up at once, down only on proof, never outside the limits, and always explained."""

from __future__ import annotations

import pytest

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


def test_gauges_say_why_nothing_changes() -> None:
    world = World()
    world.pass_time(60, milli=30_000)
    world.pass_time(GONE_MS // SECOND_MS)

    metrics.count([world.scaler()], now_ms=world.clock.now_ms(), policy=Policy())

    assert metrics.ENDPOINTS.labels(hold=Hold.NO_DATA)._value.get() == 1
    assert metrics.REPLICAS_ABOVE_MIN._value.get() == 3
