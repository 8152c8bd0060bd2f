"""The bus in memory: the same promises, no broker. A simulation steps it by hand; `start` steps it by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from libs.common.bus.dead_letter import dead_letter
from libs.common.bus.port import Answer, Dead, Delivery, Handler, Message, OnChange, OnLost, Retry
from libs.common.bus.streams import CONSUMERS, STREAMS, Consumer
from libs.common.clock import Clock
from libs.common.tasks import end
from libs.common.units import SECOND_MS

PUMP_S: Final = 0.005  # How often a started bus looks for due deliveries; small beside any test's patience.


@dataclass(slots=True)
class Entry:
    """A stored message as one consumer sees it."""

    message: Message
    due_ms: int
    attempt: int = 0


@dataclass(slots=True)
class _Inbox:
    consumer: Consumer
    handler: Handler | None = None
    entries: list[Entry] = field(default_factory=list)


class MemoryBroker:
    """What survives a client: streams, dedupe, consumers' positions and buckets. One per world."""

    def __init__(self, clock: Clock, consumers: Sequence[Consumer] = CONSUMERS) -> None:
        self._clock = clock
        self.streams: dict[str, list[Message]] = {each.name: [] for each in STREAMS}
        self.buckets: dict[str, dict[str, bytes]] = {}
        self.inboxes = {each.name: _Inbox(each) for each in consumers}
        self._heard_by: dict[tuple[str, str], Sequence[_Inbox]] = {}  # By stream and subject; consumers don't change.
        self._seen: dict[tuple[str, str], int] = {}
        self._dedupe_ms = {each.name: each.dedupe_s * SECOND_MS for each in STREAMS}
        self.watchers: dict[str, list[OnChange]] = {}

    def store(self, message: Message) -> bool:
        """Keep the message, unless one with its id was kept within the stream's window. True if it is new."""
        now_ms = self._clock.now_ms()
        seen_ms = self._seen.get((message.stream, message.id))
        if seen_ms is not None and now_ms - seen_ms < self._dedupe_ms.get(message.stream, 600 * SECOND_MS):
            return False
        self._seen[(message.stream, message.id)] = now_ms
        if message.subject.startswith("$KV."):
            self._put(message)
            return True
        self.streams[message.stream].append(message)
        for inbox in self._hearing(message.stream, message.subject):
            inbox.entries.append(Entry(message, now_ms))
        return True

    def _hearing(self, stream: str, subject: str) -> Sequence[_Inbox]:
        found = self._heard_by.get((stream, subject))
        if found is None:
            found = self._heard_by[stream, subject] = [
                each
                for each in self.inboxes.values()
                if each.consumer.stream == stream
                and any(matches(one, subject) for one in each.consumer.filter_subjects)
            ]
        return found

    def _put(self, message: Message) -> None:
        _, bucket, key = message.subject.split(".", 2)
        value = None if message.headers.get("KV-Operation") == "DEL" else message.body
        if value is None:
            self.buckets.setdefault(bucket, {}).pop(key, None)
        else:
            self.buckets.setdefault(bucket, {})[key] = value
        for told in self.watchers.get(bucket, ()):
            told(key, value)

    def due(self, consumer: str) -> list[Entry]:
        """What may be delivered to a consumer now, oldest first."""
        now_ms = self._clock.now_ms()
        return [each for each in self.inboxes[consumer].entries if each.due_ms <= now_ms]

    def deliver(self, consumer: str, entry: Entry) -> Answer | None:
        """Hand one entry to the consumer's handler and note the answer; an exception leaves it to come again."""
        inbox = self.inboxes[consumer]
        if inbox.handler is None:
            return None
        entry.attempt += 1
        entry.due_ms = self._clock.now_ms() + inbox.consumer.ack_wait_s * SECOND_MS
        answer = inbox.handler(Delivery(entry.message, consumer, entry.attempt))
        self.answer(consumer, entry, answer)
        return answer

    def answer(self, consumer: str, entry: Entry, answer: Answer) -> None:
        """Note what a handler said of an entry."""
        if isinstance(answer, Retry):
            entry.due_ms = self._clock.now_ms() + round(answer.delay_s * SECOND_MS)
            return
        if isinstance(answer, Dead):
            self.store(dead_letter(entry.message, consumer=consumer, reason=answer.reason, attempt=entry.attempt))
        entries = self.inboxes[consumer].entries
        if entry in entries:
            entries.remove(entry)


@lru_cache(maxsize=4096)  # Few subjects, each asked again with every message.
def matches(pattern: str, subject: str) -> bool:
    """Whether a NATS subject filter matches: ``*`` is one token, a last ``>`` is one or more."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, want in enumerate(wanted):
        if want == ">":
            return len(given) > index
        if index >= len(given) or want not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


class MemoryBus:
    """A client of a `MemoryBroker`, with the promises of the port."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._mine: dict[str, Handler] = {}
        self._watches: list[tuple[str, OnChange]] = []
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, consumer: str, handler: Handler) -> None:
        """Have ``handler`` answer what is delivered to ``consumer``."""
        assert consumer in self._broker.inboxes, f"no consumer {consumer!r}: declare it in streams.py"
        self._mine[consumer] = handler

    def watch(self, bucket: str, on_change: OnChange, on_lost: OnLost | None = None) -> None:
        """Tell ``on_change`` every key of a bucket, then every change. It loses nothing."""
        del on_lost
        self._watches.append((bucket, on_change))

    def connect(self) -> None:
        """Bind the handlers and tell the watches the present content, without starting to deliver by itself."""
        for consumer, handler in self._mine.items():
            self._broker.inboxes[consumer].handler = handler
        for bucket, on_change in self._watches:
            for key, value in sorted(self._broker.buckets.get(bucket, {}).items()):
                on_change(key, value)
            self._broker.watchers.setdefault(bucket, []).append(on_change)

    def disconnect(self) -> None:
        """Unbind everything, as the death of a process does."""
        for consumer in self._mine:
            self._broker.inboxes[consumer].handler = None
        for bucket, on_change in self._watches:
            with contextlib.suppress(ValueError):
                self._broker.watchers.get(bucket, []).remove(on_change)

    async def start(self) -> None:
        """Connect and deliver in the background."""
        self.connect()
        self._task = asyncio.create_task(self._pump())

    async def stop(self) -> None:
        """Stop delivering and disconnect."""
        if self._task is not None:
            await end(self._task)
            self._task = None
        self.disconnect()

    async def publish(self, messages: Sequence[Message]) -> int:
        """Store the messages in order; all are stored, always."""
        for message in messages:
            self._broker.store(message)
        return len(messages)

    def is_healthy(self) -> bool:
        """Whether it is delivering."""
        return self._task is not None and not self._task.done()

    async def _pump(self) -> None:
        while True:
            for consumer in self._mine:
                for entry in self._broker.due(consumer):
                    # A handler that raised has not answered: the entry comes again after ack_wait, as on the broker.
                    with contextlib.suppress(Exception):
                        self._broker.deliver(consumer, entry)
            await asyncio.sleep(PUMP_S)
