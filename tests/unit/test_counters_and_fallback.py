"""What becomes of a decision that takes from a counter: it stands, or its fallback does, or QuotaExceeded is raised."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import pytest

from libs.common.clock import ManualClock
from libs.common.decision import Decision, Give, Take
from libs.common.errors import QuotaExceeded
from libs.common.events.capacity import CapacityQueued, CapacityWaiting
from libs.common.events.envelope import Envelope
from libs.common.ids import EventId
from libs.common.runner import Owned, Runner, its_subject
from libs.common.store.memory import MemoryStore

LIMIT: Final = 3


@dataclass(frozen=True, slots=True)
class Seat:
    taken: bool = False
    refusals: int = 0


def with_fallback(seat: Seat, _envelope: Envelope, _now_ms: int) -> Decision[Seat]:
    refused = Decision(replace(seat, refusals=seat.refusals + 1), (CapacityWaiting(reason="Full", message="full"),))
    takes = (Take("coats", 1, 100), Take("seats", 1, LIMIT))
    return Decision(replace(seat, taken=True), (CapacityQueued(),), counters=takes, otherwise=refused)


def without_fallback(seat: Seat, envelope: Envelope, now_ms: int) -> Decision[Seat]:
    return replace(with_fallback(seat, envelope, now_ms), otherwise=None)


def give_and_take(seat: Seat, envelope: Envelope, now_ms: int) -> Decision[Seat]:
    return replace(with_fallback(seat, envelope, now_ms), counters=(Give("coats", 1), Take("seats", 9, LIMIT)))


def a_runner(store: MemoryStore, decide: object = with_fallback) -> Runner[Seat]:
    hears = {CapacityQueued: its_subject}
    owned = Owned("seat", Seat, lambda _key: Seat(), decide, hears)  # type: ignore[arg-type]  # Any of the three.
    return Runner(owned, store=store, clock=ManualClock())


def ask(name: str) -> Envelope:
    return Envelope(EventId(f"ask-{name}"), CapacityQueued(), subject=name, time_ms=0)


def test_past_the_limit_the_fallback_stands_and_nothing_of_the_first_decision_happens() -> None:
    store = MemoryStore()
    runner = a_runner(store)

    seats = [runner.take(f"s{each}", ask(f"s{each}")) for each in range(LIMIT + 2)]

    assert [seat.taken for seat in seats] == [True] * LIMIT + [False] * 2
    assert [seat.refusals for seat in seats] == [0] * LIMIT + [1] * 2
    assert (store.counter("seats"), store.counter("coats")) == (LIMIT, LIMIT)
    told = [message.headers["ce-type"] for message in store.outbox.values()]
    assert told == ["capacity.queued.v1"] * LIMIT + ["capacity.waiting.v1"] * 2


def test_without_a_fallback_the_refusal_is_raised_and_nothing_changed() -> None:
    store = MemoryStore()
    runner = a_runner(store, without_fallback)
    for each in range(LIMIT):
        runner.take(f"s{each}", ask(f"s{each}"))

    with pytest.raises(QuotaExceeded):
        runner.take("late", ask("late"))

    assert (store.counter("seats"), store.counter("coats")) == (LIMIT, LIMIT)
    assert runner.state("late") is None


def test_a_decision_with_a_fallback_may_not_give_because_that_cannot_be_undone() -> None:
    with pytest.raises(AssertionError):
        a_runner(MemoryStore(), give_and_take).take("s", ask("s"))
