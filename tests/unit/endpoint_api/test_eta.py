"""Learned times: true to what was seen, calibrated, and silent where too little is known."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Final

import pytest

from libs.common.events.endpoint import EndpointStageChanged, Stage
from services.endpoint_api.core import eta
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.eta import SAMPLES_MAX, Durations, Eta, Learned, Sample, StageTimes
from services.endpoint_api.core.lifecycle import CREATING
from tests.unit.endpoint_api.given import PLACEMENT, PROGRESS, SPEC, Stand, a_caller, an_endpoint

GIB: Final = 1 << 30


def learned(draw: Callable[[Stage], int], *, samples: int = SAMPLES_MAX, size_bytes: int = GIB) -> Learned:
    stages = tuple(StageTimes(stage, tuple(Sample(draw(stage), GIB) for _ in range(samples))) for stage in eta.TIMED)
    return Learned(Durations("t|m", stages), Durations("t"), size_bytes)


def a_draw(chance: random.Random, _stage: Stage) -> int:
    return int(chance.lognormvariate(10, 0.6))


def below(estimate: Eta, outcomes: list[int]) -> tuple[float, float]:
    assert estimate.p50_ms is not None
    assert estimate.p90_ms is not None
    count = len(outcomes)
    return (
        sum(each <= estimate.p50_ms for each in outcomes) / count,
        sum(each <= estimate.p90_ms for each in outcomes) / count,
    )


@pytest.mark.parametrize("seed", range(5))
def test_half_and_nine_tenths_of_outcomes_are_within_what_was_said(seed: int) -> None:
    chance = random.Random(seed)
    draw = partial(a_draw, chance)
    known = learned(draw)

    half, most = below(eta.ready_in(known, Stage.REQUESTED, 0), [sum(map(draw, CREATING)) for _ in range(4000)])

    assert 0.38 < half < 0.62
    assert 0.82 < most < 0.97


def test_the_calibration_sees_an_estimator_that_sums_the_quantiles_of_stages() -> None:
    chance = random.Random(1)
    draw = partial(a_draw, chance)
    known = learned(draw)
    stages = [eta.typical(known.times(each)) for each in CREATING]
    wrong = Eta(sum(each.p50_ms or 0 for each in stages), sum(each.p90_ms or 0 for each in stages))

    half, most = below(wrong, [sum(map(draw, CREATING)) for _ in range(4000)])

    assert half < 0.38
    assert most > 0.97


def test_what_is_left_is_judged_by_those_that_took_longer() -> None:
    times = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]

    assert eta.typical(times) == Eta(50, 90)
    assert eta.remaining(times, 45) == Eta(25, 55)
    assert eta.remaining(times, 100) == Eta()
    assert eta.remaining([0, 0, 0], 0) == Eta(0, 0)


def test_too_few_samples_say_nothing_and_a_tier_speaks_for_a_model_that_is_new() -> None:
    few = learned(lambda _stage: 1000, samples=4)
    of_tier = learned(lambda _stage: 1000, size_bytes=2 * GIB)
    fallback = Learned(few.of_model, of_tier.of_model, 2 * GIB)

    assert eta.ready_in(few, Stage.REQUESTED, 0) == Eta()
    assert fallback.times(Stage.DOWNLOADING_MODEL)[0] == 2000
    assert fallback.times(Stage.JOINING_NODES)[0] == 1000


@pytest.mark.parametrize(
    ("previous", "stage", "counts"),
    [
        (Stage.JOINING_NODES, Stage.PREPARING_GPU, True),
        (Stage.PUBLISHING_ROUTE, Stage.READY, True),
        (Stage.UPDATING, Stage.READY, True),
        (Stage.JOINING_NODES, Stage.FAILED, False),
        (Stage.JOINING_NODES, Stage.DRAINING, False),
        (Stage.READY, Stage.DEGRADED, False),
    ],
)
def test_only_a_clean_passage_counts(previous: Stage, stage: Stage, counts: bool) -> None:
    changed = EndpointStageChanged(
        tenant_id="acme", project_id="main", name="chat", stage=stage, previous=previous, since_ms=50,
        previous_ms=30,
    )  # fmt: skip

    passed = eta.passage(changed, size_bytes=1)

    assert (passed is not None) is counts
    assert passed is None or passed.took_ms == 30
    assert eta.passage(changed.model_copy(update={"previous_ms": None}), size_bytes=1) is None


def test_each_passage_is_learned_once_however_often_it_is_read() -> None:
    stand = Stand()
    stand.api.tenants.adopt("acme", "main")
    for count in range(5):
        made = stand.api.endpoints.create(Ask(a_caller(), "r", f"k{count}"), name=f"chat-{count}", spec=SPEC)
        endpoint_id = str(made.endpoint_id)
        for index, event in enumerate(PROGRESS):
            stand.clock.advance(1000 * (index + 1))
            stand.hear(endpoint_id, (event,), first=index + 1)
    learner = stand.api.learner

    while learner.run():
        pass
    for each in stand.store.told(after=0).messages:  # As after a crash before the position was stored.
        learner._learn(each)

    endpoint = stand.endpoints.state(endpoint_id)
    assert endpoint is not None
    assert learner.recall().of(endpoint).times(Stage.REQUESTED) == ()  # It is ready: nothing is read for it.
    known = learner.recall().of(an_endpoint())
    assert [len(known.of_model.of(each)) for each in CREATING] == [5] * len(CREATING)
    assert known.times(Stage.REQUESTED) == (1000,) * 5
    assert eta.ready_in(known, Stage.REQUESTED, 0).p50_ms == sum(1000 * (each + 1) for each in range(len(PROGRESS)))
    assert PLACEMENT.model_size_bytes == known.size_bytes
