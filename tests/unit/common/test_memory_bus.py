"""The bus in memory, stepped by hand: who gets what, when again, and what becomes of what nobody can handle."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from libs.common.bus.memory import MemoryBroker, MemoryBus, matches
from libs.common.bus.port import Ack, Answer, Dead, Delivery, Message, Retry, bucket_delete, bucket_put
from libs.common.bus.streams import CONSUMERS, DEDUPE_S, DLQ, EVT, Consumer
from libs.common.clock import ManualClock

ALL = Consumer("all", EVT, ("mr.v1.evt.>",), ack_wait_s=30)
SOME = Consumer("some", EVT, ("mr.v1.evt.router.*.p00.>", "mr.v1.evt.metering.>"))


class Desk:
    """A consumer's handler that answers as told and keeps what it got."""

    def __init__(self, *answers: Answer) -> None:
        self._answers: Iterator[Answer] = iter(answers)
        self.got: list[Delivery] = []

    def __call__(self, delivery: Delivery) -> Answer:
        """Answer; an Ack when no other answer is left."""
        self.got.append(delivery)
        return next(self._answers, Ack())


class Scene:
    """A broker with one client, and a clock that stands still."""

    def __init__(self, **desks: Callable[[Delivery], Answer]) -> None:
        self.clock = ManualClock()
        self.broker = MemoryBroker(self.clock, (ALL, SOME))
        self.bus = MemoryBus(self.broker)
        for name, desk in desks.items():
            self.bus.subscribe(name, desk)
        self.bus.connect()

    def step(self, consumer: str = "all") -> int:
        """Deliver what is due; how many that was."""
        due = self.broker.due(consumer)
        for entry in due:
            self.broker.deliver(consumer, entry)
        return len(due)


def a_message(id: str, subject: str = "mr.v1.evt.router.route-published.p00.ep-1") -> Message:
    return Message(id, EVT, subject, b'{"a":1}', {"ce-id": id, "Nats-Msg-Id": id})


def test_a_message_goes_once_to_everybody_who_wants_it() -> None:
    everything, something = Desk(), Desk()
    it = Scene(all=everything, some=something)
    for id, subject in (
        ("m-1", "mr.v1.evt.router.route-published.p00.ep-1"),
        ("m-2", "mr.v1.evt.router.route-published.p01.ep-2"),
        ("m-3", "mr.v1.evt.metering.usage-recorded.p07.ep-1"),
    ):
        it.broker.store(a_message(id, subject))

    assert (it.step("all"), it.step("some")) == (3, 2)
    assert (it.step("all"), it.step("some")) == (0, 0)

    assert [each.message.id for each in everything.got] == ["m-1", "m-2", "m-3"]
    assert [each.message.id for each in something.got] == ["m-1", "m-3"]


def test_an_id_is_stored_once_within_the_window() -> None:
    it = Scene()

    assert it.broker.store(a_message("m-1"))
    it.clock.advance(DEDUPE_S * 1000 - 1)
    assert not it.broker.store(a_message("m-1"))
    it.clock.advance(1)
    assert it.broker.store(a_message("m-1"))

    assert len(it.broker.streams[EVT]) == 2


def test_a_retry_comes_after_its_delay_with_a_higher_attempt() -> None:
    desk = Desk(Retry(2.5, "busy"), Ack())
    it = Scene(all=desk)
    it.broker.store(a_message("m-1"))
    it.broker.store(a_message("m-2"))
    it.step()

    it.clock.advance(2_499)
    assert it.step() == 0
    it.clock.advance(1)
    assert it.step() == 1

    assert [(each.message.id, each.attempt) for each in desk.got] == [("m-1", 1), ("m-2", 1), ("m-1", 2)]


def test_what_was_not_answered_comes_again_after_the_wait() -> None:
    attempts: list[int] = []

    def die(delivery: Delivery) -> Answer:
        attempts.append(delivery.attempt)
        raise RuntimeError

    it = Scene(all=die)
    it.broker.store(a_message("m-1"))
    with pytest.raises(RuntimeError):
        it.step()

    it.clock.advance(29_999)
    assert it.step() == 0
    it.clock.advance(1)
    with pytest.raises(RuntimeError):
        it.step()

    assert attempts == [1, 2]


def test_what_nobody_can_handle_is_kept_with_its_bytes_and_the_reason() -> None:
    it = Scene(all=Desk(Retry(0), Dead("invalid: two\nlines")))
    it.broker.store(a_message("m-1"))
    it.step()
    it.step()

    (letter,) = it.broker.streams[DLQ]

    assert it.step() == 0
    assert letter.body == b'{"a":1}'
    assert letter.headers["ce-id"] == "m-1"
    assert letter.headers["mr-dead-reason"] == "invalid: two lines"
    assert letter.headers["mr-dead-consumer"] == "all"
    assert letter.headers["mr-dead-attempts"] == "2"
    assert letter.headers["mr-dead-subject"] == a_message("m-1").subject
    assert "Nats-Msg-Id" not in letter.headers


def test_what_is_dead_to_one_lives_for_another() -> None:
    desk = Desk()
    it = Scene(all=Desk(Dead("no")), some=desk)
    it.broker.store(a_message("m-1"))

    it.step("all")
    it.step("some")

    assert [each.message.id for each in desk.got] == ["m-1"]


def test_messages_wait_for_a_client_that_is_away() -> None:
    desk = Desk()
    it = Scene(all=desk)
    it.bus.disconnect()
    it.broker.store(a_message("m-1"))
    it.step()
    assert desk.got == []

    it.bus.connect()
    it.step()

    assert [(each.message.id, each.attempt) for each in desk.got] == [("m-1", 1)]


def test_an_answer_that_comes_late_harms_nobody() -> None:
    it = Scene(all=Desk())
    it.broker.store(a_message("m-1"))
    entry = it.broker.due("all")[0]
    it.step()

    it.broker.answer("all", entry, Ack())

    assert it.step() == 0


def test_a_bucket_tells_its_content_then_its_changes() -> None:
    heard: list[tuple[str, bytes | None]] = []
    it = Scene()
    it.broker.store(bucket_put(bucket="routes", key="ep-1", value=b"1", id="p-1"))
    it.broker.store(bucket_put(bucket="routes", key="ep-2", value=b"2", id="p-2"))
    it.broker.store(bucket_delete(bucket="routes", key="ep-2", id="p-3"))
    watcher = MemoryBus(it.broker)
    watcher.watch("routes", lambda key, value: heard.append((key, value)))

    watcher.connect()
    it.broker.store(bucket_put(bucket="routes", key="ep-1", value=b"3", id="p-4"))
    it.broker.store(bucket_put(bucket="keys", key="k-1", value=b"4", id="p-5"))
    it.broker.store(bucket_delete(bucket="routes", key="ep-1", id="p-6"))
    watcher.disconnect()
    it.broker.store(bucket_put(bucket="routes", key="ep-1", value=b"5", id="p-7"))

    assert heard == [("ep-1", b"1"), ("ep-1", b"3"), ("ep-1", None)]
    assert it.broker.buckets["routes"] == {"ep-1": b"5"}


def test_a_put_of_the_same_decision_does_not_undo_a_later_one() -> None:
    it = Scene()
    it.broker.store(bucket_put(bucket="routes", key="ep-1", value=b"old", id="p-1"))
    it.broker.store(bucket_put(bucket="routes", key="ep-1", value=b"new", id="p-2"))

    it.broker.store(bucket_put(bucket="routes", key="ep-1", value=b"old", id="p-1"))

    assert it.broker.buckets["routes"] == {"ep-1": b"new"}


def test_a_consumer_that_is_not_declared_is_a_mistake_that_is_seen() -> None:
    with pytest.raises(AssertionError, match="declare it"):
        MemoryBus(MemoryBroker(ManualClock())).subscribe("invented", Desk())


@pytest.mark.parametrize(
    ("pattern", "subject", "fits"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
        ("*.b", "a.b", True),
        ("a.b.c", "a.b", False),
        ("a.b", "a.b.c", False),
        ("a.b", "a.B", False),
    ],
)
def test_filters_are_those_of_nats(pattern: str, subject: str, fits: bool) -> None:
    assert matches(pattern, subject) is fits


def test_every_declared_consumer_has_its_place_in_a_new_broker() -> None:
    broker = MemoryBroker(ManualClock())

    assert set(broker.inboxes) == {each.name for each in CONSUMERS}
    assert all(each.stream in broker.streams for each in CONSUMERS)
