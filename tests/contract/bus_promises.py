"""The promises of a bus, each as a plain function that raises AssertionError where a new, empty world breaks it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Protocol

from libs.common.bus.port import Ack, Answer, Bus, Dead, Delivery, Message, Retry, bucket_delete, bucket_put
from libs.common.bus.streams import DLQ, EVT, ROUTES, Consumer

ACK_WAIT_S: Final = 3  # A busy machine with a slow disk stands still for more than a second.
FIRST: Final = Consumer("test-first", EVT, ("mr.v1.evt.a.>",), ack_wait_s=ACK_WAIT_S)
SECOND: Final = Consumer("test-second", EVT, ("mr.v1.evt.a.>", "mr.v1.evt.b.>"), ack_wait_s=ACK_WAIT_S)
CONSUMERS: Final = (FIRST, SECOND)
PATIENCE_S: Final = 60.0  # Far beyond what is due, for a machine that is busy with other tests.


class World(Protocol):
    """A broker, and clients of it."""

    def bus(self) -> Bus:
        """A new client that is not started."""

    async def stored(self, stream: str) -> list[Message]:
        """What lies in a stream, in its order."""


@dataclass
class Hears:
    """A handler that notes what it is given, and when; it answers as told, or Ack."""

    answer: Callable[[Delivery], Answer] = lambda _delivery: Ack()
    deliveries: list[Delivery] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def __call__(self, delivery: Delivery) -> Answer:
        self.at_s.append(time.monotonic())
        self.deliveries.append(delivery)
        self.threads.add(threading.get_ident())
        return self.answer(delivery)

    @property
    def ids(self) -> list[str]:
        """The ids of what it was given, in order."""
        return [each.message.id for each in self.deliveries]


@contextlib.asynccontextmanager
async def running(bus: Bus) -> AsyncIterator[Bus]:
    """A bus while it is started."""
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


async def until(condition: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> None:
    """Wait for something to become true."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.01)


def a_message(id: str, *, about: str = "a", body: bytes = b'{"n": 1}') -> Message:
    return Message(id, EVT, f"mr.v1.evt.{about}.p00.x", body, {"ce-id": id, "ce-type": "thing.done.v1"})


async def what_publish_counted_is_stored(world: World) -> None:
    messages = [a_message("1"), a_message("2", body=bytes(range(256))), a_message("3", body=b"")]
    async with running(world.bus()) as bus:
        assert await bus.publish(messages) == 3

    assert await world.stored(EVT) == messages


async def an_id_is_stored_once(world: World) -> None:
    async with running(world.bus()) as one, running(world.bus()) as other:
        assert await one.publish([a_message("1"), a_message("1")]) == 2
        assert await other.publish([a_message("1"), a_message("2")]) == 2

    assert [each.id for each in await world.stored(EVT)] == ["1", "2"]


async def order_is_kept(world: World) -> None:
    ids = [f"{number}" for number in range(60)]
    async with running(world.bus()) as bus:
        assert await bus.publish([a_message(each) for each in ids[:50]]) == 50
        assert await bus.publish([a_message(each) for each in ids[40:]]) == 20

    assert [each.id for each in await world.stored(EVT)] == ids


async def every_consumer_gets_what_it_asked_for(world: World) -> None:
    first, second, bus = Hears(), Hears(), world.bus()
    bus.subscribe(FIRST.name, first)
    bus.subscribe(SECOND.name, second)
    async with running(bus):
        await bus.publish([a_message("a1"), a_message("b1", about="b"), a_message("c1", about="c"), a_message("a2")])
        await until(lambda: len(first.ids) >= 2 and len(second.ids) >= 3, "both heard theirs")
        await asyncio.sleep(0.2)

    assert sorted(first.ids) == ["a1", "a2"]
    assert sorted(second.ids) == ["a1", "a2", "b1"]
    given = next(each for each in first.deliveries if each.message.id == "a1")
    assert given == Delivery(a_message("a1"), FIRST.name, attempt=1)


async def a_consumer_goes_on_where_it_was(world: World) -> None:
    """What came before it was there, and nothing that it answered in a former life."""
    async with running(world.bus()) as bus:
        await bus.publish([a_message("1")])
    for wanted in (["1"], ["2", "3"]):
        heard, bus = Hears(), world.bus()
        bus.subscribe(FIRST.name, heard)
        async with running(bus):
            await until(lambda heard=heard, wanted=wanted: len(heard.ids) >= len(wanted), f"{wanted}")  # type: ignore[misc]
        assert sorted(heard.ids) == wanted
        async with running(world.bus()) as other:
            await other.publish([a_message("2"), a_message("3")])


async def an_answered_message_does_not_come_again(world: World) -> None:
    heard, bus = Hears(), world.bus()
    bus.subscribe(FIRST.name, heard)
    async with running(bus):
        await bus.publish([a_message("1")])
        await until(lambda: bool(heard.ids), "it was delivered")
        await asyncio.sleep(ACK_WAIT_S * 1.6)

    assert heard.ids == ["1"]


async def a_retry_comes_after_its_delay(world: World) -> None:
    delay_s = 0.7
    heard = Hears(lambda given: Retry(delay_s) if given.message.id == "late" and given.attempt < 3 else Ack())
    bus = world.bus()
    bus.subscribe(FIRST.name, heard)
    async with running(bus):
        await bus.publish([a_message("late"), a_message("other")])
        await until(lambda: heard.ids.count("late") == 3, "it was delivered three times")

    late = [index for index, each in enumerate(heard.deliveries) if each.message.id == "late"]
    assert [heard.deliveries[index].attempt for index in late] == [1, 2, 3]
    gaps_s = [heard.at_s[after] - heard.at_s[before] for before, after in pairwise(late)]
    assert all(delay_s * 0.95 <= gap_s < delay_s + PATIENCE_S for gap_s in gaps_s), gaps_s
    assert heard.ids.index("other") < late[1], "others wait for a retry"


async def a_dead_message_is_kept_whole(world: World) -> None:
    heard = Hears(lambda given: Dead("no such\nmodel: é") if given.attempt == 2 else Retry(0.0))
    bus = world.bus()
    bus.subscribe(FIRST.name, heard)
    async with running(bus):
        await bus.publish([a_message("1", body=b"\x00\xffnot json")])
        await until(lambda: len(heard.ids) >= 2, "it was tried twice")
        await asyncio.sleep(ACK_WAIT_S * 1.6)
        assert heard.ids == ["1", "1"], "it came again"

    letters = await world.stored(DLQ)
    assert len(letters) == 1
    letter = letters[0]
    assert letter.body == b"\x00\xffnot json"
    assert letter.subject == f"mr.v1.dlq.{FIRST.name}"
    assert letter.headers == {
        **a_message("1").headers,
        "mr-dead-reason": "no such model: \\xe9",
        "mr-dead-consumer": FIRST.name,
        "mr-dead-id": "1",
        "mr-dead-subject": a_message("1").subject,
        "mr-dead-stream": EVT,
        "mr-dead-attempts": "2",
    }


async def what_was_not_answered_comes_again(world: World) -> None:
    def answer(given: Delivery) -> Answer:
        if given.attempt == 1:
            raise ZeroDivisionError
        return Ack()

    heard, bus = Hears(answer), world.bus()
    bus.subscribe(FIRST.name, heard)
    async with running(bus):
        await bus.publish([a_message("1")])
        await until(lambda: len(heard.ids) >= 2, "it came again")

    assert [each.attempt for each in heard.deliveries] == [1, 2]
    assert heard.at_s[1] - heard.at_s[0] >= ACK_WAIT_S * 0.9


async def a_slow_handler_keeps_its_message(world: World) -> None:
    def answer(_given: Delivery) -> Answer:
        time.sleep(ACK_WAIT_S * 2.2)
        return Ack()

    heard, bus = Hears(answer), world.bus()
    bus.subscribe(FIRST.name, heard)
    async with running(bus):
        await bus.publish([a_message("1")])
        await until(lambda: bool(heard.ids), "it was delivered")
        await asyncio.sleep(ACK_WAIT_S * 3)

    assert heard.ids == ["1"]


async def a_watch_tells_what_is_then_what_changes(world: World) -> None:
    told: list[tuple[str, bytes | None]] = []
    async with running(world.bus()) as writer:
        await writer.publish([put("a", b"1"), put("b", b"1"), put("gone", b"1"), remove("gone"), put("a", b"2")])
        watcher = world.bus()
        watcher.watch(ROUTES, lambda key, value: told.append((key, value)))
        async with running(watcher):
            assert sorted(told) == [("a", b"2"), ("b", b"1")], "start returned before all was told"

            await writer.publish([put("c", b"1"), put("b", b"2"), remove("a")])
            await until(lambda: len(told) >= 5, "the changes were told")

    assert told[2:] == [("c", b"1"), ("b", b"2"), ("a", None)]


def put(key: str, value: bytes) -> Message:
    return bucket_put(bucket=ROUTES, key=key, value=value, id=f"put|{key}|{value!r}")


def remove(key: str) -> Message:
    return bucket_delete(bucket=ROUTES, key=key, id=f"remove|{key}")


PROMISES: Final = (
    what_publish_counted_is_stored,
    an_id_is_stored_once,
    order_is_kept,
    every_consumer_gets_what_it_asked_for,
    a_consumer_goes_on_where_it_was,
    an_answered_message_does_not_come_again,
    a_retry_comes_after_its_delay,
    a_dead_message_is_kept_whole,
    what_was_not_answered_comes_again,
    a_slow_handler_keeps_its_message,
    a_watch_tells_what_is_then_what_changes,
)
