"""What an endpoint does with commands, facts, deadlines, in any order."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.decision import Give, Take
from libs.common.errors import Conflict, NotFound
from libs.common.events.capacity import CapacityWaiting
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointRequested,
    EndpointStageChanged,
    OperationFinished,
    Stage,
)
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.events.facts import Fact
from libs.common.events.runtime import ReplicasChanged
from libs.common.events.scale import ScaleDecided, ScaleInputs
from libs.common.units import MINUTE_MS
from services.endpoint_api.core.decide import decide
from services.endpoint_api.core.explain import is_overdue, why
from services.endpoint_api.core.lifecycle import CREATING, LIFECYCLE
from services.endpoint_api.core.state import Endpoint, Outcome, Verb
from tests.unit.endpoint_api.given import (
    CAPACITY_FAILED,
    DEGRADED,
    ID,
    NOW,
    PLACEMENT,
    PROGRESS,
    RECOVERED,
    RUNTIME_FAILED,
    TEARDOWN,
    an_endpoint,
    create,
    decided,
    delete,
    kinds,
    tellings,
    told,
    woke,
)

READY = tellings(PROGRESS)
COUNTERS = {
    f"{resource}/acme{project}"
    for resource in ("endpoints", "replicas", f"gpus:{PLACEMENT.node_type}")
    for project in ("", "/main")
}


def run(events: list[Envelope], now_ms: int = NOW) -> tuple[Endpoint, list[Event]]:
    """Decide on all of them; the state at the end and everything told on the way."""
    state = Endpoint(ID)
    said: list[Event] = []
    for each in events:
        decision = decide(state, each, now_ms)
        state = decision.state
        said += decision.events
    return state, said


def test_a_create_tells_what_was_asked_and_takes_from_the_quota() -> None:
    decision = decide(Endpoint(ID), create(endpoints_max=7), NOW)

    assert kinds(decision) == ["endpoint.requested"]
    assert isinstance(decision.events[0], EndpointRequested)
    assert decision.events[0].placement.node_type == "terraform.gpu-l40s"
    assert decision.generation == 1
    assert Take("endpoints/acme", 1, 7) in decision.counters
    assert {each.counter for each in decision.counters} == COUNTERS


def test_a_create_of_what_exists_is_refused() -> None:
    with pytest.raises(Conflict):
        decide(an_endpoint(), create(), NOW)


def test_each_fact_moves_the_endpoint_one_stage_and_says_so() -> None:
    decision = decided(READY[0])

    [event] = decision.events
    assert isinstance(event, EndpointStageChanged)
    assert (event.previous, event.stage) == (Stage.REQUESTED, Stage.WAITING_FOR_CAPACITY)
    assert event.waiting_on == "capacity-manager"
    assert event.deadline_ms == NOW + 90 * MINUTE_MS
    assert decision.wake_at_ms == event.deadline_ms


def test_the_last_fact_makes_it_ready_and_ends_the_create() -> None:
    decision = decided(*READY)

    assert decision.state.stage is Stage.READY
    assert kinds(decision) == ["endpoint.stage_changed", "operation.finished"]
    assert decision.state.operations[0].outcome is Outcome.SUCCEEDED
    assert decision.wake_at_ms is None


def test_a_fact_that_closes_a_gap_tells_every_stage_on_the_way() -> None:
    decision = decided(*READY[1:], READY[0])

    stages = [each.stage for each in decision.events if isinstance(each, EndpointStageChanged)]
    assert stages == [*CREATING[1:], Stage.READY]


@given(st.permutations(READY), st.lists(st.sampled_from(READY), max_size=8))
def test_order_and_repeats_of_facts_change_nothing(order: list[Envelope], again: list[Envelope]) -> None:
    straight, said_straight = run([create(), *READY])
    shuffled, said = run([create(), *order, *again])

    assert (shuffled.stage, shuffled.facts, shuffled.url) == (straight.stage, straight.facts, straight.url)
    assert said == said_straight


@given(st.permutations([*READY[:4], told(CAPACITY_FAILED, sequence=5), *READY[5:]]))
def test_a_failure_is_told_once_whenever_it_is_heard(order: list[Envelope]) -> None:
    state, said = run([create(), *order])

    assert state.stage is Stage.FAILED
    assert sum(isinstance(each, EndpointFailed) for each in said) == 1
    [ended] = [each for each in said if isinstance(each, OperationFinished)]
    assert (ended.verb, ended.outcome) == ("create", "failed")


def test_facts_that_come_before_the_request_count_after_it() -> None:
    early = reduce(lambda state, event: decide(state, event, NOW).state, READY, Endpoint(ID))

    decision = decide(early, create(), NOW)

    assert not early.is_requested
    assert decision.state.stage is Stage.READY
    assert kinds(decision)[0] == "endpoint.requested"


def test_nothing_is_told_of_an_endpoint_that_nobody_asked_for() -> None:
    assert decide(Endpoint(ID), READY[0], NOW).events == ()


def test_a_runtime_that_fails_says_why() -> None:
    decision = decided(*READY[:6], told(RUNTIME_FAILED, sequence=9))

    failed = next(each for each in decision.events if isinstance(each, EndpointFailed))
    assert (failed.reason, failed.message) == ("CrashLoopBackOff", "the engine exits with 1")


def test_a_failure_after_ready_fails_the_endpoint_but_not_the_create_that_succeeded() -> None:
    decision = decided(*READY, told(RUNTIME_FAILED, sequence=9))

    assert decision.state.stage is Stage.FAILED
    assert kinds(decision) == ["endpoint.stage_changed", "endpoint.failed"]
    assert decision.state.operations[0].outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("known", range(len(PROGRESS)))
def test_every_stage_of_a_create_fails_at_its_deadline_and_not_before(known: int) -> None:
    endpoint = an_endpoint(*READY[:known])
    row = LIFECYCLE.awaited(endpoint.stage)
    assert row is not None
    assert row.within_ms is not None
    due_ms = NOW + row.within_ms

    early = decide(endpoint, woke(due_ms - 1), due_ms - 1)
    late = decide(endpoint, woke(due_ms), due_ms)

    assert (early.state, early.events, early.wake_at_ms) == (endpoint, (), due_ms)
    assert late.state.stage is Stage.FAILED
    assert kinds(late) == ["endpoint.stage_changed", "endpoint.failed", "operation.finished"]
    failed = next(each for each in late.events if isinstance(each, EndpointFailed))
    assert failed.reason == "DeadlinePassed"
    assert row.owed_by in failed.message


def test_a_fact_after_the_deadline_does_not_revive() -> None:
    failed = decide(an_endpoint(*READY[:2]), woke(NOW), NOW + 90 * MINUTE_MS).state

    decision = reduce(lambda last, event: decide(last.state, event, NOW), READY, decide(failed, READY[0], NOW))

    assert failed.stage is Stage.FAILED
    assert decision.state.stage is Stage.FAILED
    assert decision.events == ()


def test_a_wake_up_of_a_stage_that_was_left_waits_for_the_present_one() -> None:
    moved_ms = NOW + 14 * MINUTE_MS
    endpoint = decide(an_endpoint(), READY[0], moved_ms).state

    decision = decide(endpoint, woke(NOW + 15 * MINUTE_MS), NOW + 15 * MINUTE_MS)

    assert decision.events == ()
    assert decision.wake_at_ms == moved_ms + 90 * MINUTE_MS


def test_an_endpoint_that_is_ready_never_fails_by_the_clock() -> None:
    decision = decide(an_endpoint(*READY), woke(NOW), NOW * 2)

    assert decision.state.stage is Stage.READY
    assert decision.wake_at_ms is None


def test_a_degraded_runtime_degrades_and_recovers_without_new_operations() -> None:
    state, said = run([create(), *READY, told(DEGRADED, sequence=20), told(RECOVERED, sequence=21)])

    stages = [each.stage for each in said if isinstance(each, EndpointStageChanged)]
    assert stages[-3:] == [Stage.READY, Stage.DEGRADED, Stage.READY]
    assert [each.verb for each in state.operations] == [Verb.CREATE]


def test_a_recovery_heard_before_its_degradation_wins() -> None:
    state, _ = run([create(), *READY, told(RECOVERED, sequence=21), told(DEGRADED, sequence=20)])

    assert state.stage is Stage.READY


@pytest.mark.parametrize("known", range(len(PROGRESS) + 1))
def test_a_delete_wins_in_every_stage_and_ends_the_create(known: int) -> None:
    decision = decided(*READY[:known], delete())

    assert decision.state.stage is Stage.DRAINING
    assert decision.generation == 2
    assert isinstance(decision.events[0], EndpointDeletionRequested)
    expected = Outcome.SUCCEEDED if known == len(PROGRESS) else Outcome.SUPERSEDED
    assert [each.outcome for each in decision.state.operations] == [expected, Outcome.RUNNING]


def test_a_second_delete_is_the_first_one() -> None:
    once = an_endpoint(*READY, delete())

    decision = decide(once, delete(), NOW)

    assert (decision.state, decision.events) == (once, ())


def test_a_delete_of_what_nobody_asked_for_is_refused() -> None:
    with pytest.raises(NotFound):
        decide(Endpoint(ID), delete(), NOW)


@given(st.permutations(tellings(TEARDOWN, generation=2, first=11)))
def test_teardown_ends_deleted_in_any_order_and_gives_the_quota_back_once(order: list[Envelope]) -> None:
    state = an_endpoint(*READY, delete())
    counters: list[Take | Give] = []
    for each in [*order, *order]:
        decision = decide(state, each, NOW)
        state = decision.state
        counters += decision.counters

    assert state.stage is Stage.DELETED
    assert sorted(each.counter for each in counters) == sorted(COUNTERS)
    assert all(isinstance(each, Give) for each in counters)
    assert [each.outcome for each in state.operations] == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]


def test_capacity_alone_does_not_end_a_delete_while_the_route_may_stand() -> None:
    state = an_endpoint(*READY, delete(), told(TEARDOWN[2], generation=2, sequence=13))

    assert state.stage is Stage.DRAINING


def test_a_failed_endpoint_that_was_given_back_is_deleted_at_once() -> None:
    given_back = tellings(TEARDOWN, generation=1, first=11)

    decision = decided(*READY[:3], told(CAPACITY_FAILED, sequence=10), *given_back, delete())

    stages = [each.stage for each in decision.events if isinstance(each, EndpointStageChanged)]
    assert stages == [Stage.DRAINING, Stage.DELETING, Stage.DELETED]
    assert decision.counters == (Give("endpoints/acme", 1), Give("endpoints/acme/main", 1))


@given(st.permutations([*READY, told(RUNTIME_FAILED, sequence=30), told(DEGRADED, sequence=31)]))
def test_no_late_fact_of_an_older_generation_revives_what_is_being_deleted(late: list[Envelope]) -> None:
    state = an_endpoint(*READY[:4], delete())
    said: list[Event] = []
    for each in late:
        decision = decide(state, each, NOW)
        state = decision.state
        said += decision.events

    assert state.stage is Stage.DRAINING
    assert said == []


@given(st.permutations([*READY, *tellings(TEARDOWN, generation=2, first=40), delete(), woke(NOW + 1)]))
def test_after_deleted_nothing_is_told_any_more(late: list[Envelope]) -> None:
    gone = an_endpoint(*READY, delete(), *tellings(TEARDOWN, generation=2, first=11))

    for each in late:
        decision = decide(gone, each, NOW + 90 * MINUTE_MS)
        assert (decision.state, decision.events, decision.counters, decision.wake_at_ms) == (gone, (), (), None)


def test_a_delete_that_takes_too_long_raises_an_alarm_and_goes_on() -> None:
    deleting = an_endpoint(*READY, delete())
    long_after_ms = NOW + 60 * MINUTE_MS

    decision = decide(deleting, woke(long_after_ms), long_after_ms)

    assert is_overdue(deleting, long_after_ms)
    assert not is_overdue(deleting, NOW + MINUTE_MS)
    assert (decision.state, decision.events) == (deleting, ())


@given(
    st.permutations([*READY, told(CAPACITY_FAILED, sequence=30), delete(), *tellings(TEARDOWN, generation=2, first=40)])
)
def test_every_accepted_command_ends_exactly_once(order: list[Envelope]) -> None:
    state, said = run([create(), *order, *order])

    ended = [each.operation_id for each in said if isinstance(each, OperationFinished)]
    assert sorted(ended) == sorted(each.id for each in state.operations)
    assert all(each.outcome is not Outcome.RUNNING for each in state.operations)
    assert state.stage is Stage.DELETED


@given(st.permutations([*READY, told(DEGRADED, sequence=20), told(RECOVERED, sequence=21)]), st.data())
def test_stage_times_sum_to_the_time_since_the_request(order: list[Envelope], data: st.DataObject) -> None:
    now_ms, state = NOW, decide(Endpoint(ID), create(), NOW).state
    for each in order:
        now_ms += data.draw(st.integers(min_value=0, max_value=10_000))
        state = decide(state, each, now_ms).state

    present_ms = now_ms - state.visit.since_ms
    assert sum(each.spent_ms for each in state.visits) + present_ms == now_ms - NOW


def test_a_clock_that_goes_back_makes_no_negative_times() -> None:
    state = an_endpoint(*READY[:2], now_ms=NOW)

    state = decide(state, READY[2], NOW - MINUTE_MS).state

    assert all(each.spent_ms >= 0 for each in state.visits)
    assert state.visit.since_ms == NOW


def test_flapping_for_years_keeps_the_record_small() -> None:
    flaps = [told(DEGRADED if n % 2 else RECOVERED, sequence=100 + n) for n in range(500)]

    state = an_endpoint(*READY, *flaps)

    assert len(state.visits) == len(CREATING) + 2
    assert state.visits[-1].stage is state.stage is Stage.DEGRADED


def test_waiting_says_why_until_capacity_manager_says_more() -> None:
    waiting = told(CapacityWaiting(reason="NoCapacity", message="no free H100 in eu-1"), sequence=2)

    before = an_endpoint(READY[0], waiting)
    after = an_endpoint(READY[0], waiting, told(PROGRESS[1], sequence=3))

    assert why(before).reason == "NoCapacity"
    assert why(after).reason == "AwaitingCapacityClusterReady"


def test_an_explanation_that_comes_late_does_not_explain_a_later_stage() -> None:
    late = told(CapacityWaiting(reason="NoCapacity", message="no free H100 in eu-1"), sequence=2)

    state = an_endpoint(READY[0], told(PROGRESS[1], sequence=3), late)

    assert why(state).reason == "AwaitingCapacityClusterReady"


def test_an_explanation_of_the_create_does_not_explain_the_delete() -> None:
    waiting = told(CapacityWaiting(reason="NoCapacity", message="no free H100 in eu-1"), sequence=2)

    state = an_endpoint(READY[0], waiting, delete(), *tellings(TEARDOWN[:2], generation=2, first=11))

    assert (state.stage, why(state).reason) == (Stage.DELETING, "AwaitingCapacityReleased")


def test_while_deleting_the_runtime_is_waited_for_before_the_capacity() -> None:
    withdrawn = an_endpoint(*READY, delete(), told(TEARDOWN[0], generation=2, sequence=11))
    removed = an_endpoint(*READY, delete(), *tellings(TEARDOWN[:2], generation=2, first=11))

    assert [why(each).waiting_on for each in (withdrawn, removed)] == ["runtime-deployer", "capacity-manager"]


@given(st.permutations([1, 2, 3, 4]))
def test_the_owners_latest_figures_count_in_any_order(order: list[int]) -> None:
    inputs = ScaleInputs(current=1, min=1, max=4, target_concurrency=8, concurrency_milli=0, window_ms=1000, samples=1)
    figures: list[Envelope] = []
    for n in order:
        figures.append(told(ReplicasChanged(desired=n, ready=n, replicas=()), sequence=n))
        figures.append(told(ScaleDecided(replicas=n, reason="load", inputs=inputs), sequence=n))

    state = an_endpoint(*READY, *figures)

    assert state.ready is not None
    assert state.decided is not None
    assert (state.ready.value, state.decided.value) == (4, 4)


def test_a_fact_of_a_generation_before_the_specs_says_nothing() -> None:
    old = told(PROGRESS[0], generation=0, sequence=99)

    decision = decided(old)

    assert not decision.state.facts.holds(Fact.CAPACITY_QUEUED)
    assert decision.state.stage is Stage.REQUESTED
