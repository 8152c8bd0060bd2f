"""A stage is where a walk through the table stops."""

from __future__ import annotations

from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.lifecycle import Lifecycle, Row


class Step(StrEnum):
    START = "start"
    BAKED = "baked"
    SOLD = "sold"
    BURNT = "burnt"


class Known(StrEnum):
    OVEN_DONE = "oven_done"
    PAID = "paid"
    SMOKE = "smoke"


BREAD = Lifecycle(
    Step.START,
    (
        Row(Step.START, Known.SMOKE, Step.BURNT),
        Row(Step.START, Known.OVEN_DONE, Step.BAKED, owed_by="oven", within_ms=1_000),
        Row(Step.BAKED, Known.SMOKE, Step.BURNT),
        Row(Step.BAKED, Known.PAID, Step.SOLD, owed_by="till"),
    ),
)


@pytest.mark.parametrize(
    ("facts", "stage"),
    [
        (set(), Step.START),
        ({Known.PAID}, Step.START),
        ({Known.OVEN_DONE}, Step.BAKED),
        ({Known.PAID, Known.OVEN_DONE}, Step.SOLD),
        ({Known.SMOKE}, Step.BURNT),
    ],
)
def test_the_walk_goes_as_far_as_the_facts_allow(facts: set[Known], stage: Step) -> None:
    assert BREAD.stage_of(facts) is stage


def test_the_earlier_of_two_rows_wins() -> None:
    assert BREAD.stage_of({Known.SMOKE, Known.OVEN_DONE}) is Step.BURNT


@given(st.permutations(list(Known)), st.integers(0, len(Known)))
def test_a_new_fact_never_leads_back_to_a_stage_that_was_left(order: list[Known], count: int) -> None:
    passed = [BREAD.stage_of(set(order[:known])) for known in range(count + 1)]

    assert all(later not in passed[:index] or later is passed[index - 1] for index, later in enumerate(passed) if index)


def test_a_stage_says_whom_it_waits_for_and_how_long() -> None:
    row = BREAD.awaited(Step.START)

    assert row is not None
    assert (row.fact, row.owed_by, row.within_ms) == (Known.OVEN_DONE, "oven", 1_000)
    assert BREAD.awaited(Step.SOLD) is None


def test_a_table_with_a_cycle_is_a_mistake_that_is_seen() -> None:
    circle = Lifecycle(Step.START, (Row(Step.START, Known.PAID, Step.BAKED), Row(Step.BAKED, Known.PAID, Step.START)))

    with pytest.raises(AssertionError, match="cycle"):
        circle.stage_of({Known.PAID})


def test_the_picture_shows_the_awaited_way_and_folds_the_exits() -> None:
    picture = BREAD.mermaid().splitlines()

    assert picture[0] == "stateDiagram-v2"
    assert "    [*] --> start" in picture
    assert "    start --> baked: oven_done" in picture
    assert "    baked --> sold: paid" in picture
    assert [line for line in picture if "smoke" in line] == ["    note right of burnt: from 2 stages, on smoke"]
