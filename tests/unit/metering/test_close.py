"""A period is closed once: what it stated stays; what comes late is billed later, as a correction of that."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.errors import Conflict, Invalid
from libs.common.events.endpoint import Stage
from libs.common.store.memory import MemoryStore
from libs.common.units import DAY_MS, HOUR_MS
from services.metering.core.periods import LATE_H, period_of
from services.metering.core.statement import Statement, broken
from services.metering.core.windows import Windows
from services.metering.shell.closing import Closing
from tests.unit.metering.world import Crash, World, batch, joined, released, requested, staged, usage

DAYS: Final = tuple(period_of(f"2027-01-{day:02d}") for day in range(15, 20))
LATE_MS: Final = LATE_H * HOUR_MS
NOON_MS: Final = 12 * HOUR_MS


def closing(world: World) -> Closing:
    return Closing(world.store, world.clock, late_ms=LATE_MS)


def served(world: World, day: int, *names: str, tenant: str = "acme") -> None:
    """Requests that ended on a day, reported then, or now if that is later."""
    ended_ms = DAYS[day].start_ms + NOON_MS
    world.clock.advance(max(0, ended_ms - world.clock.now_ms()))
    rows = [usage(each, started_ms=ended_ms - 1000, ended_ms=ended_ms, tenant=tenant) for each in names]
    world.hear(batch(rows, boot_id="-".join(names), at_ms=world.clock.now_ms()))


def at_the_end_of(world: World, day: int) -> None:
    """The first moment at which a day may be closed."""
    world.clock.advance(DAYS[day].end_ms + LATE_MS - world.clock.now_ms())


def stated(statements: list[Statement] | tuple[Statement, ...]) -> Counter[tuple[str, str]]:
    found = Counter[tuple[str, str]]()
    for each in statements:
        for line in each.lines:
            found[line.account, line.meter] += line.quantity
    return +found


def ledger(world: World) -> Counter[tuple[str, str]]:
    totals = world.store.totals(from_ms=0, to_ms=1 << 60)
    return +Counter({(each.account, each.meter): each.quantity for each in totals})


def test_a_period_can_be_closed_once_its_late_window_is_over() -> None:
    world = World()
    served(world, 0, "r1", "r2")
    world.clock.advance(DAYS[0].end_ms + LATE_MS - world.clock.now_ms() - 1)

    with pytest.raises(Conflict, match="can't be closed before 2027-01-19"):
        closing(world).close("2027-01-15")
    world.clock.advance(1)
    (statement,) = closing(world).close("2027-01-15")

    assert statement.tenant == "acme"
    assert {(each.meter, each.quantity) for each in statement.lines} == {
        ("requests", 2),
        ("prompt_tokens", 20),
        ("completion_tokens", 10),
    }
    assert all(each.corrects == "" for each in statement.lines)


def test_what_comes_after_the_close_is_a_correction_in_the_next_that_names_what_it_corrects() -> None:
    world = World()
    served(world, 0, "r1")
    at_the_end_of(world, 0)
    (first,) = closing(world).close("2027-01-15")
    served(world, 1, "r2")
    served(world, 0, "late")
    at_the_end_of(world, 1)

    (second,) = closing(world).close("2027-01-16")

    assert closing(world).close("2027-01-15") == [first]
    corrections = [each for each in second.lines if each.corrects]
    assert {each.corrects for each in corrections} == {each.id for each in first.lines}
    assert {each.meter: each.quantity for each in corrections} == {
        "requests": 1,
        "prompt_tokens": 10,
        "completion_tokens": 5,
    }
    assert stated((first, second)) == ledger(world)


def test_time_that_is_taken_back_after_the_close_is_a_negative_correction() -> None:
    world = World(Windows(size_ms=HOUR_MS))
    start_ms = DAYS[0].start_ms + NOON_MS
    world.hear(requested(at_ms=start_ms), joined("n1", at_ms=start_ms, sequence=1))
    world.hear(staged(Stage.READY, since_ms=start_ms, sequence=2))
    at_the_end_of(world, 0)
    _run(world)
    (first,) = closing(world).close("2027-01-15")

    # The node went an hour after it came; we hear of it four days later.
    left = released("n1", at_ms=start_ms + HOUR_MS, sequence=2)
    world.hear(replace(left, time_ms=world.clock.now_ms()))
    _run(world)
    at_the_end_of(world, 1)
    (second,) = closing(world).close("2027-01-16")

    assert stated((first,))["acme/main/ep-one/serving", "node_ms"] == DAYS[0].end_ms - start_ms
    assert stated((first, second)) == ledger(world)
    assert stated((first, second))["acme/main/ep-one/serving", "node_ms"] == HOUR_MS
    assert all(each.quantity < 0 and each.corrects for each in second.lines)


def _run(world: World) -> None:
    """Let all that is held by now be booked."""
    for _ in range(200):
        before = len(world.store.rows)
        world.clock.advance(1)
        world.service.tick()
        world.service.reconcile()
        if len(world.store.rows) == before:
            return
    raise AssertionError("metering does not come to rest")


def test_what_is_older_than_the_first_closed_period_is_billed_by_the_next() -> None:
    world = World()
    served(world, 1, "r1")
    at_the_end_of(world, 1)
    statements = closing(world).close("2027-01-16")

    served(world, 0, "older")
    at_the_end_of(world, 2)
    statements = [*statements, *closing(world).close("2027-01-17")]

    assert {each.corrects.split("/")[0] for each in statements[1].lines} == {"before"}
    assert stated(statements) == ledger(world)


def test_what_comes_as_late_as_it_may_is_billed_where_days_are_closed() -> None:
    world = World()
    served(world, 0, "r1")
    first = DAYS[0].start_ms
    names = [f"{datetime.fromtimestamp((first + day * DAY_MS) / 1000, UTC):%Y-%m-%d}" for day in range(140)]
    world.clock.advance(140 * DAY_MS + LATE_MS)
    statements = [each for name in names[:-1] for each in closing(world).close(name)]

    served(world, 1, "late")  # Over four months ago.
    statements += closing(world).close(names[-1])

    assert stated(statements) == ledger(world)


def test_periods_leave_no_gap() -> None:
    world = World()
    served(world, 0, "r1")
    served(world, 1, "r2")
    at_the_end_of(world, 3)

    with pytest.raises(Conflict, match="close the periods before it first"):
        closing(world).close("2027-01-16")
    closing(world).close("2027-01-15")
    with pytest.raises(Conflict, match="the last closed period is 2027-01-15"):
        closing(world).close("2027-01-17")
    with pytest.raises(Conflict, match="the last closed period is 2027-01-15"):
        list(closing(world).preview("2027-01-17"))


@pytest.mark.parametrize("name", ["2027", "2027-13", "2027-02-30", "27-01", "2027-01-15T00", "9999-12", "2027-1"])
def test_what_is_no_period_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="is no period"):
        period_of(name)


def test_a_close_that_dies_in_the_middle_is_finished_by_the_same_command() -> None:
    world = World()
    for tenant in ("acme", "bolt", "corp"):
        served(world, 0, f"r-{tenant}", tenant=tenant)
    at_the_end_of(world, 0)
    commits = 0

    def die(_moment: str) -> None:
        nonlocal commits
        commits += 1
        if commits == 2:
            raise Crash

    world.moment = die
    with pytest.raises(Crash):
        closing(world).close("2027-01-15")
    world.moment = lambda _moment: None
    served(world, 0, "between", tenant="acme")
    written = list(closing(world).statements())
    statements = closing(world).close("2027-01-15")

    assert 0 < len(written) < 3
    assert [each for each in statements if each in written] == written
    assert [each.tenant for each in statements] == ["acme", "bolt", "corp"]
    at_the_end_of(world, 1)
    assert stated([*statements, *closing(world).close("2027-01-16")]) == ledger(world)


def test_closing_again_and_a_full_replay_add_nothing() -> None:
    world = World()
    served(world, 0, "r1")
    at_the_end_of(world, 0)
    first = closing(world).close("2027-01-15")
    rows = len(world.store.rows)

    served(world, 0, "r1")
    world.start()
    assert closing(world).close("2027-01-15") == first
    at_the_end_of(world, 1)

    assert closing(world).close("2027-01-16") == []
    assert len([each for each in world.store.rows if each.kind in ("statement", "books")]) == 3
    assert rows < len(world.store.rows)  # The second batch was heard; it added no entry.


def test_a_changed_statement_is_found() -> None:
    world = World()
    served(world, 0, "r1")
    at_the_end_of(world, 0)
    (first,) = closing(world).close("2027-01-15")
    served(world, 1, "r2")
    at_the_end_of(world, 1)
    (second,) = closing(world).close("2027-01-16")
    cheaper = replace(first, lines=tuple(replace(each, quantity=each.quantity - 1) for each in first.lines))

    assert broken([first, second]) == closing(world).broken() == ()
    assert broken([cheaper, second]) == (first.key,)
    assert broken([second]) == (second.key,)
    assert broken([replace(second, before=""), second]) == (second.key, second.key)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(("acme", "bolt"))), max_size=12))
def test_whenever_usage_comes_all_statements_together_are_the_ledger(told: list[tuple[int, int, str]]) -> None:
    """Each request ended on a day and is heard of before some close, on time or late."""
    world = World()
    statements: list[Statement] = []
    frozen: list[Statement] = []
    for day in range(4):
        for number, (ended, heard, tenant) in enumerate(told):
            if max(ended, heard) == day:
                served(world, ended, f"r{number}", tenant=tenant)
        at_the_end_of(world, day)
        statements += closing(world).close(DAYS[day].name)
        assert [each for each in closing(world).statements() if each in frozen] == sorted(
            frozen, key=lambda each: each.key
        )
        frozen = list(statements)

    assert stated(statements) == ledger(world)
    assert closing(world).broken() == ()


def test_a_memory_of_nothing_has_no_statements() -> None:
    world = World()
    assert isinstance(world.store, MemoryStore)
    at_the_end_of(world, 0)

    assert closing(world).close("2027-01-15") == []
    assert [each.name for each in closing(world).books().closed] == ["2027-01-15"]
