"""The loops of a process sleep until there is something for them: here nothing is ever looked at unasked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import pytest

from libs.common.bus.port import Message
from libs.common.clock import Clock, SystemClock
from libs.common.decision import Decide, Decision
from libs.common.events.envelope import Envelope
from libs.common.events.event import Owner
from libs.common.process import Process
from libs.common.reconciler import Reconciler
from libs.common.runner import Runner, Woke
from libs.common.service import Service
from libs.common.settings import CommonSettings
from libs.common.store.memory import MemoryStore
from libs.common.units import SECOND_MS
from tests.support.ports import free_port
from tests.support.tally import Added, Counted, Tally, a_runner, add, added

NEVER_S: Final = 3_600.0  # Longer than any test: what only looking unasked would find is not found.
WAIT_S: Final = 60.0


class Line:
    """A bus that first refuses so many batches."""

    def __init__(self, refuses: int = 0) -> None:
        self.refuses = refuses
        self.stored: list[Message] = []

    async def start(self) -> None:
        """Nothing to connect to."""

    async def stop(self) -> None:
        """Nothing to leave."""

    async def publish(self, messages: Sequence[Message]) -> int:
        """Store them, or none."""
        if self.refuses:
            self.refuses -= 1
            return 0
        self.stored += messages
        return len(messages)

    def subscribe(self, consumer: str, handler: object) -> None:
        """Nothing is ever delivered."""

    def watch(self, bucket: str, on_change: object, on_lost: object = None) -> None:
        """Nothing ever changes."""

    def is_healthy(self) -> bool:
        """As well as ever."""
        return True


class Shelf:
    """A world in which things are counted, one more at each look."""

    def __init__(self) -> None:
        self.looks = 0

    def observe(self, _state: Tally) -> Counted:
        """One more than the last time."""
        self.looks += 1
        return Counted(count=self.looks)

    def apply(self, action: None) -> None:
        """Nothing is ever planned."""


class Stand:
    """A process of tallies that runs, and what is around it."""

    def __init__(self, *, decide: Decide[Tally] = add, refuses: int = 0, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self.store, self.bus, self.shelf = MemoryStore(), Line(refuses), Shelf()
        self.runner: Runner[Tally] = a_runner(self.store, clock, decide)
        reconciler = Reconciler(
            self.runner,
            self.shelf,
            lambda _state, _seen, _now_ms: (),
            store=self.store,
            clock=clock,
            resync_ms=round(NEVER_S * SECOND_MS),
        )
        service = Service(Owner.METERING, self.store, (self.runner,), (reconciler,))
        settings = CommonSettings(
            database_url="", admin_port=free_port(), rest_s=NEVER_S, reconcile_s=0.01, nats_url="nats://none"
        )
        self.process = Process(service, self.bus, settings, hears=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run it, until it has looked at everything once and rests."""
        serving = asyncio.create_task(self.process.serve())
        await until(lambda: self.process._world_rests and self.process._next_look_s < float("inf"))
        yield
        self.process.stop()
        async with asyncio.timeout(WAIT_S):
            await serving

    async def add(self, amount: int) -> None:
        """Commit something from a thread that is none of the process's loops."""
        await asyncio.to_thread(self.runner.take, "t-1", added(1, amount))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.01)


async def test_what_a_commit_put_into_the_outbox_leaves_at_once() -> None:
    stand = Stand()

    async with stand.running():
        await stand.add(0)
        await until(lambda: len(stand.bus.stored) == 1)


async def test_what_the_bus_did_not_take_is_offered_again_soon() -> None:
    stand = Stand(refuses=3)

    async with stand.running():
        await stand.add(0)
        await until(lambda: len(stand.bus.stored) == 1)


async def test_a_thing_in_motion_is_looked_at_until_it_rests() -> None:
    stand = Stand()

    async with stand.running():
        before = stand.shelf.looks
        await stand.add(before + 3)
        await until(lambda: stand.process._world_rests and not stand.store.outbox)
        assert stand.shelf.looks == before + 3


@pytest.mark.parametrize("after_ms", [0, 80, 400])
async def test_a_wake_up_is_met_to_the_moment_it_was_set_for(after_ms: int) -> None:
    def sleeper(state: Tally, envelope: Envelope, now_ms: int) -> Decision[Tally]:
        if isinstance(envelope.data, Added):
            return Decision(state, wake_at_ms=now_ms + after_ms)
        woken_ms.append(now_ms)
        assert isinstance(envelope.data, Woke | Counted)
        return Decision(replace(state, woken=state.woken + 1))

    woken_ms: list[int] = []
    stand = Stand(decide=sleeper)

    async with stand.running():
        asked_ms = SystemClock().now_ms()
        await stand.add(0)
        await until(lambda: bool(woken_ms))

    assert woken_ms[0] >= asked_ms + after_ms
