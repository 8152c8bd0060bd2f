"""The table: every stage can be reached and left, order never matters, delete outranks failure outranks progress."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.events.endpoint import Stage
from libs.common.events.facts import Fact
from services.endpoint_api.core.lifecycle import CREATING, FAILURES, HALTED, LIFECYCLE, SERVED, SERVING, steps
from tests.unit.endpoint_api.given import PROGRESS, fact_of

MADE = frozenset(fact_of(each) for each in PROGRESS)
USED = frozenset(row.fact for row in LIFECYCLE.rows)
facts = st.frozensets(st.sampled_from(sorted(USED)))
# An update begins only where it serves, and its walk leaves the way of a create: its steps have a test of their own.
unless_updating = st.frozensets(st.sampled_from(sorted(USED - {Fact.UPDATE_REQUESTED})))


def test_every_stage_is_reached_by_some_facts() -> None:
    reached = {
        stage
        for count in range(len(PROGRESS) + 1)
        for more in (combo for size in range(4) for combo in combinations(sorted(USED - MADE), size))
        for stage in LIFECYCLE.path({fact_of(each) for each in PROGRESS[:count]} | set(more))
    }

    assert reached == set(Stage)


def test_every_stage_but_deleted_has_a_way_out() -> None:
    left = {row.stage for row in LIFECYCLE.rows}

    assert left == set(Stage) - {Stage.DELETED}


@pytest.mark.parametrize("stage", CREATING)
def test_every_stage_of_a_create_names_who_owes_what_until_when(stage: Stage) -> None:
    row = LIFECYCLE.awaited(stage)

    assert row is not None
    assert row.owed_by
    assert row.within_ms


@pytest.mark.parametrize("stage", [*CREATING, *SERVED, *HALTED, Stage.FAILED])
def test_a_delete_is_the_first_way_out_of_every_stage(stage: Stage) -> None:
    first = next(row for row in LIFECYCLE.rows if row.stage is stage)

    assert (first.fact, first.to) == (Fact.DELETION_REQUESTED, Stage.DRAINING)


@pytest.mark.parametrize("missing", sorted(MADE))
def test_an_endpoint_is_never_ready_while_one_fact_is_missing(missing: Fact) -> None:
    path = LIFECYCLE.path(MADE - {missing})

    assert Stage.READY not in path


@given(facts)
def test_ready_implies_every_fact_of_a_create_and_no_failure(known: frozenset[Fact]) -> None:
    if LIFECYCLE.stage_of(known) in SERVING:
        assert known >= MADE or known >= {Fact.UPDATE_REQUESTED, Fact.ROUTE_PUBLISHED}
        assert not known & {*FAILURES, Fact.DEADLINE_PASSED, Fact.DELETION_REQUESTED, Fact.PAUSE_REQUESTED}


@given(facts, st.sampled_from([*FAILURES, Fact.DEADLINE_PASSED]))
def test_a_failure_outranks_all_progress(known: frozenset[Fact], failure: Fact) -> None:
    stage = LIFECYCLE.stage_of((known - {Fact.DELETION_REQUESTED, Fact.PAUSE_REQUESTED}) | {failure})

    assert stage is Stage.FAILED


@given(facts)
def test_a_delete_outranks_every_failure(known: frozenset[Fact]) -> None:
    stage = LIFECYCLE.stage_of(known | {Fact.DELETION_REQUESTED})

    assert stage in (Stage.DRAINING, Stage.DELETING, Stage.DELETED)


@given(st.permutations([fact_of(each) for each in PROGRESS]))
def test_facts_in_any_order_walk_the_stages_in_the_tables_order(order: list[Fact]) -> None:
    known: set[Fact] = set()
    stage, walked = Stage.REQUESTED, [Stage.REQUESTED]

    for fact in order:
        known.add(fact)
        walked += steps(stage, LIFECYCLE.path(known))
        stage = walked[-1]

    assert walked == [*CREATING, Stage.READY]


@given(facts)
def test_a_pause_outranks_a_failure_but_not_a_delete(known: frozenset[Fact]) -> None:
    stage = LIFECYCLE.stage_of((known - {Fact.DELETION_REQUESTED}) | {Fact.PAUSE_REQUESTED})

    assert stage in (Stage.PAUSING, Stage.PAUSED)


@given(unless_updating, unless_updating)
def test_every_step_is_a_row_of_the_table(before: frozenset[Fact], more: frozenset[Fact]) -> None:
    edges = {(row.stage, row.to) for row in LIFECYCLE.rows}
    current = LIFECYCLE.stage_of(before)

    for stage in steps(current, LIFECYCLE.path(before | more)):
        assert (current, stage) in edges
        current = stage

    assert current is LIFECYCLE.stage_of(before | more)


def test_degraded_no_longer_is_one_step_back_to_ready() -> None:
    assert steps(Stage.DEGRADED, LIFECYCLE.path(MADE)) == (Stage.READY,)


@pytest.mark.parametrize("stage", SERVING)
def test_an_update_of_what_serves_is_one_step_to_updating_and_one_back(stage: Stage) -> None:
    rolling = LIFECYCLE.path((MADE - {Fact.ROUTE_PUBLISHED}) | {Fact.UPDATE_REQUESTED})
    rolled = LIFECYCLE.path(MADE | {Fact.UPDATE_REQUESTED})

    assert steps(stage, rolling) == (Stage.UPDATING,)
    assert steps(Stage.UPDATING, rolled) == (Stage.READY,)
