"""The worlds in which the promises of a bus are checked: in memory, on a real server, and each with a planted fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

from libs.common.bus.memory import MemoryBroker, MemoryBus
from libs.common.bus.nats import NatsBus, Patience
from libs.common.bus.port import Ack, Answer, Bus, Dead, Delivery, Handler, Message, OnChange, OnLost, Retry
from libs.common.bus.provision import Wanted, provision
from libs.common.clock import SystemClock
from tests.contract.bus_promises import CONSUMERS, World
from tests.support.nats import stored


class MemoryWorld:
    """Clients of one memory broker."""

    def __init__(self) -> None:
        self._broker = MemoryBroker(SystemClock(), CONSUMERS)

    def bus(self) -> Bus:
        return MemoryBus(self._broker)

    async def stored(self, stream: str) -> list[Message]:
        return list(self._broker.streams[stream])


@dataclass
class NatsWorld:
    """Clients of one real server."""

    url: str
    patience: Patience | None = None

    async def prepare(self) -> NatsWorld:
        await provision(self.url, wanted=Wanted(consumers=CONSUMERS))
        return self

    def bus(self) -> NatsBus:
        return NatsBus(self.url, name="test", consumers=CONSUMERS, patience=self.patience)

    async def stored(self, stream: str) -> list[Message]:
        return await stored(self.url, stream)


class Faulty:
    """A bus that passes everything on; the faults below change one thing each."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def start(self) -> None:
        await self._bus.start()

    async def stop(self) -> None:
        await self._bus.stop()

    async def publish(self, messages: Sequence[Message]) -> int:
        return await self._bus.publish(messages)

    def subscribe(self, consumer: str, handler: Handler) -> None:
        self._bus.subscribe(consumer, lambda delivery: self.answered(handler, delivery))

    def answered(self, handler: Handler, delivery: Delivery) -> Answer:
        return handler(delivery)

    def watch(self, bucket: str, on_change: OnChange, on_lost: OnLost | None = None) -> None:
        self._bus.watch(bucket, on_change, on_lost)

    def is_healthy(self) -> bool:
        return self._bus.is_healthy()


class AcksFirst(Faulty):
    """Acknowledges before handling: what the handler says, or that it died, is lost."""

    def answered(self, handler: Handler, delivery: Delivery) -> Answer:
        try:
            handler(delivery)
        except Exception:
            return Ack()
        return Ack()


class ForgetsDelay(Faulty):
    """Retries at once."""

    def answered(self, handler: Handler, delivery: Delivery) -> Answer:
        answer = handler(delivery)
        return Retry(0.0) if isinstance(answer, Retry) else answer


class ForgetsWhy(Faulty):
    """Parks what is dead without its reason."""

    def answered(self, handler: Handler, delivery: Delivery) -> Answer:
        answer = handler(delivery)
        return Dead("dead") if isinstance(answer, Dead) else answer


class DropsTheDead(Faulty):
    """Takes dead for done."""

    def answered(self, handler: Handler, delivery: Delivery) -> Answer:
        answer = handler(delivery)
        return Ack() if isinstance(answer, Dead) else answer


class DrawsIds(Faulty):
    """Gives every message an id of its own at each attempt to publish it."""

    numbers = count()

    async def publish(self, messages: Sequence[Message]) -> int:
        return await self._bus.publish([replace(each, id=f"drawn-{next(self.numbers)}") for each in messages])


class Reorders(Faulty):
    """Publishes a batch last things first."""

    async def publish(self, messages: Sequence[Message]) -> int:
        return await self._bus.publish(list(reversed(messages)))


class CountsWithoutStoring(Faulty):
    """Says of the last message of a batch that it is stored, and does not store it."""

    async def publish(self, messages: Sequence[Message]) -> int:
        await self._bus.publish(messages[:-1])
        return len(messages)


class WatchesFromNow(Faulty):
    """Tells changes, but not what there was."""

    is_started = False

    async def start(self) -> None:
        await self._bus.start()
        self.is_started = True

    def watch(self, bucket: str, on_change: OnChange, on_lost: OnLost | None = None) -> None:
        self._bus.watch(bucket, lambda key, value: on_change(key, value) if self.is_started else None, on_lost)


class MissesDeletes(Faulty):
    """Tells what was set, not what was deleted."""

    def watch(self, bucket: str, on_change: OnChange, on_lost: OnLost | None = None) -> None:
        self._bus.watch(bucket, lambda key, value: on_change(key, value) if value is not None else None, on_lost)


@dataclass
class FaultyWorld:
    """A world whose clients all have one fault."""

    world: World
    fault: Callable[[Bus], Bus]

    def bus(self) -> Bus:
        return self.fault(self.world.bus())

    async def stored(self, stream: str) -> list[Message]:
        return await self.world.stored(stream)
