"""What an endpoint does after its create: update, pause, resume, go back, cancel; with facts in any order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.decision import Give, Take
from libs.common.errors import Conflict
from libs.common.events.endpoint import EndpointRequested, EndpointSpec, OperationFinished, Scaling, Stage
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.units import MINUTE_MS
from services.endpoint_api.core.commands import (
    CancelOperation,
    HoldOperation,
    PauseEndpoint,
    ResumeEndpoint,
    UpdateEndpoint,
    command_envelope,
)
from services.endpoint_api.core.decide import decide
from services.endpoint_api.core.explain import why
from services.endpoint_api.core.lifecycle import UPDATE_MS
from services.endpoint_api.core.operations import FINISHED_MAX
from services.endpoint_api.core.refusal import Outpaced, PreconditionFailed
from services.endpoint_api.core.state import Endpoint, Outcome
from tests.unit.endpoint_api.given import (
    CAPACITY_FAILED,
    ID,
    NOW,
    PLACEMENT,
    PROGRESS,
    RUNTIME_FAILED,
    SPEC,
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
OTHER = SPEC.model_copy(update={"model": "millrace/other"})
LARGER = SPEC.model_copy(update={"scaling": Scaling(min=1, max=4)})


def update(spec: EndpointSpec = OTHER, *, made_from: int = 1, if_match: str = "") -> Envelope:
    """A change of the spec."""
    command = UpdateEndpoint(
        actor="key:k", verb="update", spec=spec, placement=PLACEMENT, made_from=made_from, if_match=if_match
    )
    return command_envelope(ID, command, NOW, ask=f"u{made_from}")


def pause() -> Envelope:
    """A pause."""
    return command_envelope(ID, PauseEndpoint(actor="key:k", verb="pause", drain_deadline_ms=1000), NOW, ask="p")


def resume() -> Envelope:
    """A resume."""
    return command_envelope(ID, ResumeEndpoint(actor="key:k"), NOW, ask="r")


def cancel(number: int) -> Envelope:
    """A cancel of the endpoint's operation of this number."""
    operation_id = f"op-{ID.removeprefix('ep-')}-{number}"
    return command_envelope(ID, CancelOperation(actor="key:k", operation_id=operation_id), NOW, ask=f"c{number}")


def hold(number: int, *, holds: bool = True) -> Envelope:
    """A pause, or a resume, of the endpoint's operation of this number."""
    operation_id = f"op-{ID.removeprefix('ep-')}-{number}"
    command = HoldOperation(actor="key:k", operation_id=operation_id, is_held=holds)
    return command_envelope(ID, command, NOW, ask=f"h{number}{holds}")


def rolled(generation: int, first: int) -> tuple[Envelope, ...]:
    """The runtime's and the router's facts anew."""
    return tellings(PROGRESS[5:], generation=generation, first=first)


UPDATING = (*READY, update())
FAILED_UPDATE = (*UPDATING, told(RUNTIME_FAILED, generation=2, sequence=20))
PAUSED = (*READY, pause(), *tellings(TEARDOWN, generation=2, first=20))


def test_an_update_of_what_serves_is_updating_until_its_own_facts_are_told() -> None:
    rolling = decided(*UPDATING)
    done = decided(*UPDATING, *rolled(2, 30))

    assert (rolling.state.stage, rolling.generation) == (Stage.UPDATING, 2)
    assert kinds(rolling) == ["endpoint.requested", "endpoint.stage_changed"]
    assert done.state.stage is Stage.READY
    assert done.state.operations[-1].outcome is Outcome.SUCCEEDED


def test_a_scale_changes_no_stage_and_is_done_at_once() -> None:
    decision = decided(*READY, update(LARGER))

    assert decision.state.stage is Stage.READY
    assert kinds(decision) == ["endpoint.requested", "operation.finished"]
    assert {each.counter.partition("/")[0].partition(":")[0] for each in decision.counters} == {"replicas", "gpus"}


def test_an_update_without_effect_tells_nothing_new() -> None:
    decision = decided(*READY, update(SPEC))

    assert (decision.generation, kinds(decision)) == (1, ["operation.finished"])


def test_an_update_made_from_an_older_spec_is_not_taken() -> None:
    with pytest.raises(Outpaced):
        decide(an_endpoint(*UPDATING), update(LARGER), NOW)


def test_a_change_that_saw_an_older_etag_is_refused() -> None:
    with pytest.raises(PreconditionFailed):
        decide(an_endpoint(*READY), update(if_match='"7"'), NOW)

    assert decided(*READY, update(if_match='"1"')).generation == 2


def test_an_update_whose_runtime_fails_goes_back_once_by_itself() -> None:
    decision = decided(*FAILED_UPDATE)
    requested = next(each for each in decision.events if isinstance(each, EndpointRequested))
    again = decide(decision.state, told(RUNTIME_FAILED, generation=3, sequence=40), NOW).state

    assert (decision.state.stage, decision.generation, requested.spec) == (Stage.UPDATING, 3, SPEC)
    assert decision.state.operations[-1].outcome is Outcome.ROLLED_BACK
    assert "CrashLoopBackOff" in decision.state.operations[-1].message
    assert again.stage is Stage.FAILED


def test_what_went_back_is_ready_again_when_the_old_runtime_is() -> None:
    state = an_endpoint(*FAILED_UPDATE, *rolled(2, 21), *rolled(3, 30))

    assert (state.stage, state.spec, state.is_going_back) == (Stage.READY, SPEC, False)


def test_an_update_that_takes_too_long_goes_back() -> None:
    rolling = an_endpoint(*UPDATING)
    early = decide(rolling, woke(NOW + UPDATE_MS - 1), NOW + UPDATE_MS - 1)
    late = decide(rolling, woke(NOW + UPDATE_MS), NOW + UPDATE_MS)

    assert (early.state, early.wake_at_ms) == (rolling, NOW + UPDATE_MS)
    assert (late.state.generation, late.state.operations[-1].outcome) == (3, Outcome.ROLLED_BACK)
    assert late.wake_at_ms == NOW + 2 * UPDATE_MS


def test_a_pause_gives_back_replicas_only_when_capacity_is_released_and_a_resume_takes_them_again() -> None:
    pausing, paused, resumed = decided(*PAUSED[:-1]), decided(*PAUSED), decided(*PAUSED, resume())

    assert (pausing.state.stage, pausing.counters) == (Stage.PAUSING, ())
    assert paused.state.stage is Stage.PAUSED
    assert {type(each) for each in paused.counters} == {Give}
    assert not any(each.counter.startswith("endpoints/") for each in paused.counters)
    assert {type(each) for each in resumed.counters} == {Take}
    assert [(each.counter, each.amount) for each in resumed.counters] == [
        (each.counter, each.amount) for each in paused.counters
    ]
    assert (resumed.state.stage, resumed.generation) == (Stage.REQUESTED, 3)


def test_a_failed_endpoint_is_repaired_by_a_resume_or_a_changed_spec_and_not_by_the_same_spec() -> None:
    failed = (*READY[:3], told(CAPACITY_FAILED, sequence=20))

    assert decided(*failed, resume()).state.stage is Stage.REQUESTED
    assert decided(*failed, update(LARGER)).state.stage is Stage.REQUESTED
    assert decided(*failed, update(SPEC)).state.stage is Stage.FAILED


@pytest.mark.parametrize("before", [UPDATING, FAILED_UPDATE, PAUSED[:-2], PAUSED])
def test_a_delete_wins_in_every_later_stage_and_ends(before: tuple[Envelope, ...]) -> None:
    state = an_endpoint(*before, delete(), *tellings(TEARDOWN, generation=9, first=50))

    assert state.stage is Stage.DELETED
    assert state.held is None
    assert all(each.outcome is not Outcome.RUNNING for each in state.operations)


def test_nothing_else_is_accepted_once_a_delete_was() -> None:
    for each in (update(made_from=2), pause(), resume()):
        with pytest.raises(Conflict):
            decide(an_endpoint(*READY, delete()), each, NOW)


def test_a_cancelled_update_goes_back_and_says_so() -> None:
    decision = decided(*UPDATING, cancel(2))

    assert (decision.state.spec, decision.state.generation) == (SPEC, 3)
    assert decision.state.operations[-1].outcome is Outcome.CANCELLED
    assert SPEC.model in decision.state.operations[-1].message


def test_a_cancel_undoes_a_create_by_a_delete_a_pause_by_a_resume() -> None:
    created, paused = decided(cancel(1)), decided(*READY, pause(), cancel(2))

    assert (created.state.stage, paused.state.stage) == (Stage.DRAINING, Stage.REQUESTED)
    assert [each.outcome for each in created.state.operations] == [Outcome.CANCELLED, Outcome.RUNNING]
    assert paused.state.operations[1].outcome is Outcome.CANCELLED


@pytest.mark.parametrize(
    ("before", "number", "code"),
    [(READY, 1, "operation_finished"), ((delete(),), 2, "deletion_is_final"), ((update(),), 2, "not_cancellable")],
)
def test_what_can_not_be_cancelled_is_refused(before: tuple[Envelope, ...], number: int, code: str) -> None:
    with pytest.raises(Conflict) as refused:
        decide(an_endpoint(*before), cancel(number), NOW)

    assert refused.value.code == code


def test_only_so_many_finished_operations_are_kept() -> None:
    state = an_endpoint(*READY)
    for number in range(2 * FINISHED_MAX):
        state = decide(state, update((SPEC, LARGER)[number % 2 == 0], made_from=state.generation), NOW).state

    assert len(state.operations) <= FINISHED_MAX + 1
    assert len({each.id for each in state.operations}) == len(state.operations)
    assert state.operations[-1].id.endswith(f"-{2 * FINISHED_MAX + 1}")


COMMANDS = (create(), update(), pause(), resume(), delete())
FACTS = (
    *READY,
    *rolled(2, 20),
    *tellings(TEARDOWN, generation=3, first=30),
    *tellings(PROGRESS, generation=4, first=40),
)
ENDS = (Stage.READY, Stage.READY, Stage.PAUSED, Stage.READY)


@given(st.integers(1, 4), st.permutations(FACTS), st.lists(st.sampled_from(FACTS), max_size=10), st.data())
def test_any_order_of_facts_between_the_commands_ends_in_the_same_stage(
    count: int, order: list[Envelope], again: list[Envelope], data: st.DataObject
) -> None:
    heard = [each for each in (*order, *again) if each.generation <= count]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(heard)), min_size=count, max_size=count)))
    script = list(heard)
    for index, cut in reversed(list(enumerate(cuts))):
        script.insert(cut, COMMANDS[index])
    state, said, now_ms = Endpoint(ID), list[Event](), NOW
    held: dict[str, int] = {}
    for each in script:
        now_ms += data.draw(st.integers(0, MINUTE_MS))
        decision = decide(state, each, now_ms)
        state, said = decision.state, [*said, *decision.events]
        for move in decision.counters:
            held[move.counter] = held.get(move.counter, 0) + (move.amount if isinstance(move, Take) else -move.amount)

    assert state.stage is ENDS[count - 1]
    assert held["endpoints/acme"] == 1
    assert held.get("replicas/acme", 0) == (0 if state.stage is Stage.PAUSED else 1)
    ended = [each.operation_id for each in said if isinstance(each, OperationFinished)]
    assert sorted(ended) == sorted(each.id for each in state.operations)
    began_ms = state.operations[0].accepted_ms
    assert sum(each.spent_ms for each in state.visits) + now_ms - state.visit.since_ms == now_ms - began_ms


def test_a_rollout_is_held_where_it_is_and_its_clock_with_it_until_it_is_let_go_on() -> None:
    held = decided(*UPDATING, hold(2))
    again = decide(held.state, hold(2), NOW)
    on = decided(*UPDATING, hold(2), hold(2, holds=False))

    (asked,) = held.events
    assert isinstance(asked, EndpointRequested)
    assert (asked.rollout_paused, held.generation, held.state.stage) == (True, 3, Stage.UPDATING)
    assert (held.wake_at_ms, why(held.state).reason) == (None, "RolloutPaused")
    assert again.events == ()
    (goes_on,) = on.events
    assert isinstance(goes_on, EndpointRequested)
    assert (goes_on.rollout_paused, on.generation, on.wake_at_ms) == (False, 4, NOW + UPDATE_MS)
    assert on.state.operations[-1].outcome is Outcome.RUNNING


def test_a_rollout_that_was_held_succeeds_when_it_is_warm_and_routed() -> None:
    decision = decided(*UPDATING, hold(2), hold(2, holds=False), *rolled(4, 40))

    assert decision.state.stage is Stage.READY
    assert decision.state.operations[-1].outcome is Outcome.SUCCEEDED


def test_what_follows_a_held_rollout_is_not_held() -> None:
    cancelled = decided(*UPDATING, hold(2), cancel(2))
    updated = decided(*UPDATING, hold(2), update(LARGER, made_from=3))

    for each in (cancelled, updated):
        asked = next(told for told in each.events if isinstance(told, EndpointRequested))
        assert not asked.rollout_paused
        assert not each.state.rollout_paused


@pytest.mark.parametrize(
    ("before", "number", "code"),
    [(READY, 1, "operation_finished"), ((), 1, "not_pausable"), (PAUSED, 2, "operation_finished")],
)
def test_only_a_rollout_on_its_way_can_be_held(before: tuple[Envelope, ...], number: int, code: str) -> None:
    with pytest.raises(Conflict) as refused:
        decide(an_endpoint(*before), hold(number), NOW)

    assert refused.value.code == code
