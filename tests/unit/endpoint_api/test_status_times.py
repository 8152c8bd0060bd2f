"""Times in the status, over random lives: they sum up to the millisecond, whatever happens and in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hypothesis import event as noted
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.errors import MillraceError
from libs.common.events.endpoint import EndpointStageChanged, Stage
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from services.endpoint_api.core.decide import decide
from services.endpoint_api.core.eta import Durations, Learned
from services.endpoint_api.core.outlook import outlook
from services.endpoint_api.core.shown import rfc3339
from services.endpoint_api.core.state import Endpoint
from services.endpoint_api.core.status import EndpointView, endpoint_view
from tests.unit.endpoint_api.given import (
    CAPACITY_FAILED,
    CATALOGUE,
    DEGRADED,
    ID,
    NOW,
    PROGRESS,
    RECOVERED,
    RUNTIME_FAILED,
    TEARDOWN,
    create,
    delete,
    told,
    woke,
)
from tests.unit.endpoint_api.test_living import LARGER, OTHER, cancel, pause, resume, update

Step = Callable[[Endpoint, int, int], Envelope]  # Of the endpoint, a number of its own, and the time.
NOTHING_KNOWN: Final = Learned(Durations("t|m"), Durations("t"), 0)


def a_fact(data: Event) -> Step:
    """It is told for the present generation."""
    return lambda endpoint, number, now_ms: told(data, generation=endpoint.generation, sequence=number, at_ms=now_ms)


FACTS: Final = tuple(map(a_fact, (*PROGRESS, *TEARDOWN, CAPACITY_FAILED, RUNTIME_FAILED, DEGRADED, RECOVERED)))
COMMANDS: Final[tuple[Step, ...]] = (
    lambda endpoint, _number, _now_ms: update(OTHER, made_from=endpoint.generation),
    lambda endpoint, _number, _now_ms: update(LARGER, made_from=endpoint.generation),
    lambda _endpoint, _number, _now_ms: pause(),
    lambda _endpoint, _number, _now_ms: resume(),
    lambda _endpoint, _number, _now_ms: delete(),
    lambda endpoint, _number, _now_ms: cancel(len(endpoint.operations)),
    lambda _endpoint, _number, now_ms: woke(now_ms),
)
ON_TIME: Final = tuple(a_fact(each) for each in PROGRESS)
WAITS: Final = st.one_of(st.integers(0, 5_000), st.integers(0, 10_000_000))
MOMENTS: Final = st.tuples(WAITS, st.sampled_from((*FACTS, *COMMANDS)))
LIVES: Final = st.one_of(
    st.lists(MOMENTS, max_size=40),
    st.tuples(st.lists(st.integers(0, 5_000), min_size=len(ON_TIME), max_size=len(ON_TIME)), st.lists(MOMENTS)).map(
        lambda life: [*zip(life[0], ON_TIME, strict=True), *life[1]]
    ),
)


def shown(endpoint: Endpoint, now_ms: int) -> EndpointView:
    """The endpoint as its tenant sees it."""
    return endpoint_view(endpoint, outlook(endpoint, NOTHING_KNOWN, CATALOGUE, now_ms), now_ms)


@settings(max_examples=150, deadline=None)
@given(life=LIVES)
def test_stage_times_sum_to_the_time_since_the_request_whatever_happens(life: list[tuple[int, Step]]) -> None:
    now_ms, endpoint, told_ms, ready_after_ms = NOW, decide(Endpoint(ID), create(), NOW).state, 0, None
    for number, (wait_ms, step) in enumerate(life, start=1):
        now_ms += wait_ms
        try:
            decision = decide(endpoint, step(endpoint, number, now_ms), now_ms)
        except MillraceError:
            continue  # A command that is refused changes nothing.
        endpoint = decision.state
        for each in decision.events:
            if isinstance(each, EndpointStageChanged):
                assert each.previous_ms is not None
                told_ms += each.previous_ms
                if each.stage is Stage.READY and ready_after_ms is None:
                    ready_after_ms = told_ms
                    assert told_ms == each.since_ms - NOW

        view = shown(endpoint, now_ms)

        stages = view.status.stages
        assert sum(each.elapsed_ms for each in stages) == now_ms - NOW
        assert [each.name for each in stages if each.is_current] == [endpoint.stage]
        assert all(each.elapsed_ms == 0 and each.since is None for each in stages if each.is_upcoming)
        assert view.created_at == rfc3339(NOW)
        if endpoint.stage is Stage.READY and ready_after_ms == now_ms - NOW:
            assert sum(each.elapsed_ms for each in stages if not each.is_current) == ready_after_ms
    noted(f"ends {endpoint.stage}")


def test_times_in_the_status_and_in_events_are_the_same_after_a_second_life() -> None:
    """The first visit of the list is not the first stage any more; when it was made stays what it was."""
    now_ms, endpoint, told_ms = NOW, decide(Endpoint(ID), create(), NOW).state, 0
    life = (*ON_TIME, COMMANDS[2], *map(a_fact, TEARDOWN), COMMANDS[3], *ON_TIME[:3])
    for number, step in enumerate(life, start=1):
        now_ms += 1_000
        decision = decide(endpoint, step(endpoint, number, now_ms), now_ms)
        endpoint = decision.state
        told_ms += sum(each.previous_ms or 0 for each in decision.events if isinstance(each, EndpointStageChanged))

    view = shown(endpoint, now_ms + 500)

    assert endpoint.stage is Stage.JOINING_NODES
    assert endpoint.visits[0].stage is not Stage.REQUESTED
    assert view.created_at == rfc3339(NOW)
    assert told_ms == 1_000 * len(life)
    assert sum(each.elapsed_ms for each in view.status.stages) == told_ms + 500
    present = next(each for each in view.status.stages if each.is_current)
    assert present.elapsed_ms == 1_500
    assert next(each.name for each in view.status.stages if each.is_upcoming) == Stage.PREPARING_GPU
