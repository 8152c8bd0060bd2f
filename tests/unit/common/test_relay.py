"""What was committed leaves in order, and nothing is forgotten before the bus has it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from libs.common.bus.port import Message
from libs.common.relay import BATCH_MAX, Relay
from libs.common.store.memory import MemoryStore


class Line:
    """A bus that takes ``room`` messages and then no more."""

    def __init__(self, room: int = 10**6) -> None:
        self.room = room
        self.stored: list[str] = []
        self.offered: list[list[str]] = []

    def publish(self, messages: Sequence[Message]) -> int:
        """Store what there is room for."""
        self.offered.append([each.id for each in messages])
        taken = messages[: max(0, self.room)]
        self.room -= len(taken)
        self.stored += [each.id for each in taken]
        return len(taken)


class Killed(Exception):
    """The process died here."""


def a_store(count: int) -> MemoryStore:
    store = MemoryStore()
    with store.transaction() as unit:
        for number in range(count):
            unit.enqueue(Message(f"m-{number}", "MR_EVT", "s", b"{}"))
    return store


def names(first: int, behind: int) -> list[str]:
    return [f"m-{number}" for number in range(first, behind)]


def test_messages_leave_in_order_and_only_once() -> None:
    store, line = a_store(3), Line()
    relay = Relay(store, line.publish)

    assert [relay.run(), relay.run()] == [3, 0]
    assert line.stored == names(0, 3)


def test_it_stops_at_the_first_message_that_the_bus_has_not() -> None:
    store, line = a_store(5), Line(room=2)
    relay = Relay(store, line.publish)

    assert [relay.run(), relay.run()] == [2, 0]
    line.room = 10
    assert relay.run() == 3

    assert line.stored == names(0, 5)
    assert line.offered == [names(0, 5), names(2, 5), names(2, 5)]


def test_an_empty_outbox_leaves_the_bus_alone() -> None:
    line = Line()

    assert Relay(a_store(0), line.publish).run() == 0
    assert line.offered == []


def test_one_look_has_a_limit() -> None:
    line = Line()
    relay = Relay(a_store(BATCH_MAX + 5), line.publish)

    assert [relay.run(), relay.run(), relay.run()] == [BATCH_MAX, 5, 0]
    assert line.stored == names(0, BATCH_MAX + 5)


def test_a_crash_before_the_mark_sends_the_same_again() -> None:
    store, line = a_store(3), Line()

    def publish_and_die(messages: Sequence[Message]) -> int:
        line.publish(messages)
        raise Killed

    with pytest.raises(Killed):
        Relay(store, publish_and_die).run()
    Relay(store, line.publish).run()

    assert line.offered == [names(0, 3), names(0, 3)]
    assert store.pending(10) == []


def test_what_is_committed_while_the_bus_is_away_waits_its_turn() -> None:
    store, line = a_store(1), Line(room=0)
    relay = Relay(store, line.publish)
    relay.run()
    with store.transaction() as unit:
        unit.enqueue(Message("late", "MR_EVT", "s", b"{}"))

    line.room = 10
    relay.run()

    assert line.stored == ["m-0", "late"]
