"""The verbs on endpoints and operations on a store: dry runs, repeats, filters, quotas."""

from __future__ import annotations

import pytest

from libs.common.errors import Conflict, QuotaExceeded
from libs.common.events.endpoint import Stage
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.planning import PlanView
from services.endpoint_api.core.state import Outcome
from services.endpoint_api.core.status import OperationView
from tests.unit.endpoint_api.given import PROGRESS, SPEC, Stand, a_caller


def ask(key: str, *, dry_run: bool = False, if_match: str = "") -> Ask:
    """An ask of the usual caller."""
    return Ask(a_caller(), key, key, dry_run=dry_run, if_match=if_match)


def a_ready_one(stand: Stand) -> str:
    """An endpoint that serves; its id."""
    made = stand.api.endpoints.create(ask("c"), name="chat", spec=SPEC)
    stand.hear(made.endpoint_id, PROGRESS)
    return made.endpoint_id


def test_a_dry_run_of_every_change_tells_a_plan_and_keeps_nothing() -> None:
    stand = Stand()
    verbs = stand.api.endpoints
    fresh = verbs.create(ask("d", dry_run=True), name="chat", spec=SPEC)
    ref = a_ready_one(stand)
    before = stand.stored()

    dry = ask("x", dry_run=True)
    scaled = verbs.scale(dry, ref, scaling={"max": 3})
    paused, deleted = verbs.pause(dry, ref), verbs.delete(dry, ref)

    assert isinstance(fresh, PlanView)
    assert (fresh.stages[0], fresh.stages[-1], fresh.held_after.replicas) == (Stage.REQUESTED, Stage.READY, 1)
    assert isinstance(scaled, PlanView)
    assert (scaled.change, scaled.stages, scaled.held_after.replicas) == ("in_place", (), 3)
    assert isinstance(paused, PlanView)
    assert paused.stages == (Stage.PAUSING, Stage.PAUSED)
    assert isinstance(deleted, PlanView)
    assert deleted.stages == (Stage.DRAINING, Stage.DELETING, Stage.DELETED)
    assert stand.stored() == before


def test_a_repeat_of_a_change_is_the_same_operation() -> None:
    stand = Stand()
    ref = a_ready_one(stand)

    first = stand.api.endpoints.scale(ask("s"), ref, scaling={"max": 3})
    other = stand.api.endpoints.scale(ask("t"), ref, scaling={"max": 2})
    again = stand.api.endpoints.scale(ask("s"), ref, scaling={"max": 3})

    assert isinstance(first, OperationView)
    assert isinstance(again, OperationView)
    assert isinstance(other, OperationView)
    assert (first.id, other.id) == (again.id, f"{first.id[:-1]}3")
    assert stand.api.endpoints.get(a_caller(), ref).spec.scaling.max == 2


def test_a_name_that_is_taken_is_refused_in_a_dry_run_too() -> None:
    stand = Stand()
    a_ready_one(stand)

    with pytest.raises(Conflict):
        stand.api.endpoints.create(ask("d", dry_run=True), name="chat", spec=SPEC)


def test_a_dry_run_over_the_quota_is_refused_as_the_change_would_be() -> None:
    with pytest.raises(QuotaExceeded):
        Stand(endpoints_max=0).api.endpoints.create(ask("d", dry_run=True), name="chat", spec=SPEC)


def test_lists_are_filtered_and_paged() -> None:
    stand = Stand()
    ref = a_ready_one(stand)
    stand.api.endpoints.create(ask("e"), name="other", spec=SPEC)
    stand.api.endpoints.scale(ask("s"), ref, scaling={"max": 3})

    ready = stand.api.endpoints.list(a_caller(), stage=Stage.READY)
    named = stand.api.endpoints.list(a_caller(), name_prefix="oth")
    first = stand.api.operations.list(a_caller(), limit=2)
    rest = stand.api.operations.list(a_caller(), limit=2, cursor=first.next_cursor or "")
    done = stand.api.operations.list(a_caller(), endpoint="chat", status=Outcome.SUCCEEDED)

    assert [each.id for each in ready.items] == [ref]
    assert [each.name for each in named.items] == ["other"]
    assert len({each.id for each in (*first.items, *rest.items)}) == 3
    assert rest.next_cursor is None
    assert [each.verb for each in done.items] == ["create", "scale"]


def test_a_running_create_shows_its_progress_and_can_be_cancelled() -> None:
    stand = Stand()
    made = stand.api.endpoints.create(ask("c"), name="chat", spec=SPEC)
    assert isinstance(made, OperationView)
    stand.hear(made.endpoint_id, PROGRESS[:5])

    halfway = stand.api.operations.get(a_caller(), made.id)
    cancelled = stand.api.operations.cancel(ask("x"), made.id)

    assert (halfway.progress, halfway.cancellable, halfway.stage) == (0.5, True, Stage.PULLING_IMAGE)
    assert (cancelled.status, cancelled.stage) == ("cancelled", Stage.DRAINING)
