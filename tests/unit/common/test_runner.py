"""The transaction script: at most once, all or nothing, the same again after a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from libs.common.clock import ManualClock
from libs.common.decision import Decision, Give, Line, Put, Take
from libs.common.errors import Conflict, QuotaExceeded, Rejected, Stale, Unavailable
from libs.common.events.capacity import CapacityReleased
from libs.common.events.envelope import Envelope, from_wire
from libs.common.runner import STALE_RETRIES_MAX, Runner, Woke
from libs.common.store.memory import MemoryStore
from libs.common.store.port import Store
from libs.common.store.sql import SqlStore
from libs.common.waking import DUE_MAX, Ticked, tick_all
from tests.support.tally import Added, Tally, a_runner, add, added, told
from tests.support.threads import together


class Killed(Exception):
    """The process died here."""


def outbox(store: Store) -> list[Envelope]:
    return [from_wire(each.message.headers, each.message.body) for each in store.pending(100)]


def deciding(decision: Decision[Tally]) -> Any:
    """A `decide` that always says the same."""
    return lambda _state, _envelope, _now_ms: decision


def everything_in(store: Store) -> tuple[object, ...]:
    return (
        store.page("tally"),
        store.journal_rows(),
        [each.message for each in store.pending(100)],
        store.entries(),
        store.counter("seats"),
    )


def test_an_event_changes_the_state_once_however_often_it_comes() -> None:
    store = MemoryStore()
    runner = a_runner(store, ManualClock())

    states = [runner.take("t-1", added(number, 5)) for number in (1, 1, 2, 1)]

    assert [each.total for each in states] == [5, 5, 10, 10]
    assert runner.state("t-1") == Tally("t-1", total=10)
    assert len(store.journal_rows()) == 2
    assert [each.data for each in outbox(store)] == [told(5), told(10)]


def test_one_event_may_concern_two_records() -> None:
    runner = a_runner(MemoryStore(), ManualClock())

    runner.take("t-1", added(1))
    runner.take("t-2", added(1))

    assert [each.total for each in runner.states()] == [1, 1]


def test_what_is_told_has_computed_ids_and_rising_sequences() -> None:
    def tell_twice(state: Tally, _envelope: Envelope, _now_ms: int) -> Decision[Tally]:
        state = replace(state, total=state.total + 1)
        return Decision(state, events=(told(state.total), CapacityReleased()), generation=4, about="ep-9")

    def run() -> list[Envelope]:
        store = MemoryStore()
        runner = a_runner(store, ManualClock(now_ms=77), tell_twice)
        runner.take("t-1", added(1))
        runner.take("t-1", added(2))
        return outbox(store)

    first, again = run(), run()

    assert first == again
    assert len({each.id for each in first}) == 4
    assert [each.sequence for each in first] == [1, 2, 3, 4]
    assert {each.subject for each in first} == {"ep-9"}
    assert {each.generation for each in first} == {4}
    assert {each.time_ms for each in first} == {77}
    assert [each.causation_id for each in first] == [added(1).id, added(1).id, added(2).id, added(2).id]


def test_two_records_never_tell_with_the_same_id() -> None:
    store = MemoryStore()
    runner = a_runner(store, ManualClock())

    runner.take("t-1", added(1))
    runner.take("t-2", added(1))

    assert len({each.id for each in outbox(store)}) == 2


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_at_the_commit_and_the_same_again_give_the_same(moment: str) -> None:
    def die(reached: str) -> None:
        if reached == moment and len(killed) < 1:
            killed.append(reached)
            raise Killed

    killed: list[str] = []
    crashed, calm = MemoryStore(die), MemoryStore()
    with pytest.raises(Killed):
        a_runner(crashed, ManualClock()).take("t-1", added(1))

    for store in (crashed, calm):
        assert a_runner(store, ManualClock()).take("t-1", added(1)).total == 1

    assert everything_in(crashed) == everything_in(calm)


def test_a_refused_quota_leaves_nothing() -> None:
    decision = Decision(
        Tally("t-1", total=9),
        events=(told(9),),
        counters=(Take("others", 1, 10), Take("seats", 3, 2)),
        lines=(Line("l-1", "a", "m", 1, 1),),
        puts=(Put("routes", "t-1", b"{}"),),
    )
    store = MemoryStore()
    runner = a_runner(store, ManualClock(), deciding(decision))

    for _ in range(2):
        with pytest.raises(QuotaExceeded, match="seats would pass its limit of 2"):
            runner.take("t-1", added(1))

    assert everything_in(store) == everything_in(MemoryStore())
    assert store.counter("others") == 0


def test_a_refused_quota_has_another_way_out_if_the_decision_says_so() -> None:
    refused = Decision(Tally("t-1"), events=(told(0),))
    decision = Decision(Tally("t-1", total=9), counters=(Take("others", 1, 10), Take("seats", 3, 2)), otherwise=refused)
    store = MemoryStore()

    state = a_runner(store, ManualClock(), deciding(decision)).take("t-1", added(1))

    assert state == Tally("t-1")
    assert [each.data for each in outbox(store)] == [told(0)]
    assert (store.counter("seats"), store.counter("others")) == (0, 0)


def test_counters_move_with_the_decision() -> None:
    store = MemoryStore()
    taking = a_runner(store, ManualClock(), deciding(Decision(Tally("t-1"), counters=(Take("seats", 2, 2),))))
    giving = a_runner(store, ManualClock(), deciding(Decision(Tally("t-1"), counters=(Give("seats", 2),))))

    taking.take("t-1", added(1))
    taking.take("t-1", added(1))
    assert store.counter("seats") == 2

    giving.take("t-1", added(2))
    giving.take("t-1", added(2))
    assert store.counter("seats") == 0


def test_lines_are_entered_once_and_never_changed() -> None:
    def lines(quantity: int) -> Any:
        return deciding(Decision(Tally("t-1"), lines=(Line("l-1", "t-1/p-1", "gpu_ms", quantity, 5),)))

    store = MemoryStore()
    a_runner(store, ManualClock(), lines(3)).take("t-1", added(1))
    a_runner(store, ManualClock(), lines(3)).take("t-1", added(2))

    with pytest.raises(Conflict):
        a_runner(store, ManualClock(), lines(4)).take("t-1", added(3))

    assert [each.quantity for each in store.entries()] == [3]
    assert len(store.journal_rows()) == 2


def test_a_line_whose_id_is_taken_has_another_way_out_if_it_says_so() -> None:
    def lines(quantity: int) -> Any:
        aside = Line("l-1/again", "disputed", "gpu_ms", quantity, 5)
        return deciding(
            Decision(Tally("t-1"), lines=(Line("l-1", "t-1", "gpu_ms", quantity, 5, otherwise=lambda: aside),))
        )

    store = MemoryStore()
    a_runner(store, ManualClock(), lines(3)).take("t-1", added(1))
    a_runner(store, ManualClock(), lines(4)).take("t-1", added(2))

    assert [(each.id, each.account, each.quantity) for each in store.entries()] == [
        ("l-1", "t-1", 3),
        ("l-1/again", "disputed", 4),
    ]


def test_puts_ride_in_the_outbox_behind_the_events() -> None:
    decision = Decision(
        Tally("t-1"), events=(told(1),), puts=(Put("routes", "ep-1", b'{"a":1}'), Put("routes", "ep-2", None))
    )
    store, again = MemoryStore(), MemoryStore()
    for each in (store, again):
        a_runner(each, ManualClock(), deciding(decision)).take("t-1", added(1))

    event, put, delete = (each.message for each in store.pending(10))

    assert event.stream == "MR_EVT"
    assert (put.stream, put.subject, put.body) == ("KV_routes", "$KV.routes.ep-1", b'{"a":1}')
    assert (delete.subject, delete.body, delete.headers) == ("$KV.routes.ep-2", b"", {"KV-Operation": "DEL"})
    assert put.id != delete.id
    assert [each.message.id for each in again.pending(10)] == [event.id, put.id, delete.id]


def test_the_journal_replays_to_the_state() -> None:
    store = MemoryStore()
    clock = ManualClock()
    runner = a_runner(store, clock)
    for number in (1, 2, 3):
        clock.advance(10)
        runner.take("t-1", added(number, number))

    state = Tally("t-1")
    for row in store.journal_rows():
        cause = json.loads(row.cause)
        state = add(state, replace(added(0), data=Added(**cause["data"])), row.at_ms).state

    assert state == runner.state("t-1")
    assert [row.version for row in store.journal_rows()] == [1, 2, 3]
    assert [row.cause_type for row in store.journal_rows()] == ["internal.added.v1"] * 3
    assert [row.cause_id for row in store.journal_rows()] == [added(number).id for number in (1, 2, 3)]


class Contended(MemoryStore):
    """A store in which somebody else wins the first ``losses`` races."""

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.losses = losses

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        with super().transaction() as unit:
            yield unit
            if self.losses > 0:
                self.losses -= 1
                raise Stale("somebody else wrote first")


def test_whoever_was_overtaken_decides_again() -> None:
    store = Contended(losses=STALE_RETRIES_MAX - 1)

    assert a_runner(store, ManualClock()).take("t-1", added(1)).total == 1
    assert len(store.journal_rows()) == 1


def test_whoever_is_always_overtaken_comes_back_later() -> None:
    store = Contended(losses=STALE_RETRIES_MAX)

    with pytest.raises(Unavailable, match="written by others"):
        a_runner(store, ManualClock()).take("t-1", added(1))
    assert store.journal_rows() == []


def test_a_decision_that_raises_leaves_nothing() -> None:
    def refuse(_state: Tally, _envelope: Envelope, _now_ms: int) -> Decision[Tally]:
        raise Rejected("never")

    store = MemoryStore()
    with pytest.raises(Rejected):
        a_runner(store, ManualClock(), refuse).take("t-1", added(1))

    assert everything_in(store) == everything_in(MemoryStore())
    assert a_runner(store, ManualClock()).take("t-1", added(1)).total == 1


def sleeper(state: Tally, envelope: Envelope, now_ms: int) -> Decision[Tally]:
    """Wants to be woken twice, ten later each time."""
    if isinstance(envelope.data, Woke):
        state = replace(state, woken=state.woken + 1, total=envelope.data.due_ms)
    return Decision(state, wake_at_ms=now_ms + 10 if state.woken < 2 else None)


def test_a_record_is_woken_when_its_time_has_come_and_not_again() -> None:
    clock = ManualClock(now_ms=100)
    runner = a_runner(MemoryStore(), clock, sleeper)
    runner.take("t-1", added(1))

    assert tick_all([runner]) == Ticked(0)
    clock.advance(10)
    assert tick_all([runner]) == Ticked(1)
    assert tick_all([runner]) == Ticked(0)
    clock.advance(1_000)
    assert [tick_all([runner]), tick_all([runner])] == [Ticked(1), Ticked(0)]

    state = runner.state("t-1")
    assert state is not None
    assert (state.woken, state.total) == (2, 120)


def test_a_decision_without_a_wake_up_cancels_the_one_before() -> None:
    clock = ManualClock(now_ms=100)
    store = MemoryStore()
    a_runner(store, clock, sleeper).take("t-1", added(1))
    runner = a_runner(store, clock, deciding(Decision(Tally("t-1"))))
    runner.take("t-1", added(2))

    clock.advance(1_000)

    assert tick_all([runner]) == Ticked(0)


def test_who_looks_ahead_is_told_when_the_next_is_due() -> None:
    clock = ManualClock(now_ms=100)
    runner = a_runner(MemoryStore(), clock, sleeper)
    for key in ("t-1", "t-2"):
        runner.take(key, added(1))
        clock.advance(3)

    assert tick_all([runner], ahead_ms=3) == Ticked(0)
    assert tick_all([runner], ahead_ms=4) == Ticked(0, next_ms=110)
    clock.advance(4)
    assert tick_all([runner], ahead_ms=10) == Ticked(1, next_ms=113), "the other one, not itself again"


def test_kinds_that_nobody_here_owns_are_not_woken() -> None:
    clock = ManualClock(now_ms=100)
    store = MemoryStore()
    a_runner(store, clock, sleeper).take("t-1", added(1))
    owned = replace(a_runner(store, clock, sleeper).owned, kind="other")
    others = Runner(owned, store=store, clock=clock)

    clock.advance(1_000)

    assert tick_all([others]) == tick_all([]) == Ticked(0)


def test_one_tick_has_a_limit_and_the_next_goes_on() -> None:
    clock = ManualClock(now_ms=100)
    runner = a_runner(MemoryStore(), clock, sleeper)
    for number in range(DUE_MAX + 3):
        runner.take(f"t-{number:04}", added(number))
    clock.advance(10)

    assert [tick_all([runner]) for _ in range(3)] == [Ticked(DUE_MAX, next_ms=110), Ticked(3), Ticked(0)]


def test_an_event_that_nobody_hears_has_no_keys() -> None:
    runner = a_runner(MemoryStore(), ManualClock())
    unheard = replace(added(1), data=told(1))

    assert runner.parts_of(added(1)) == [("t-1", added(1))]
    assert runner.parts_of(unheard) is None
    assert runner.state("t-1") is None


def test_states_are_listed_by_scope_and_page() -> None:
    runner = a_runner(MemoryStore(), ManualClock())
    for key in ("b-1", "a-2", "a-1"):
        runner.take(key, added(key))

    assert [each.key for each in runner.states()] == ["a-1", "a-2", "b-1"]
    assert [each.key for each in runner.states(scope="a", after="a-1")] == ["a-2"]
    assert [each.key for each in runner.states(limit=1)] == ["a-1"]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_many_threads_with_the_same_and_other_events_lose_and_repeat_nothing(kind: str, tmp_path: Path) -> None:
    store: Store = MemoryStore() if kind == "memory" else SqlStore(f"sqlite:///{tmp_path}/store.db")
    runner = a_runner(store, ManualClock())

    states = together(24, lambda index: runner.take("t-1", added(index % 12)))

    final = runner.state("t-1")
    assert final is not None
    assert final.total == 12
    assert max(each.total for each in states) == 12
    assert [each.sequence for each in outbox(store)] == list(range(1, 13))
    store.close()
