"""Budgets beside the data plane: slices come by a bucket, what was spent and is needed goes out as events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from libs.common.bus.port import Message
from libs.common.bus.streams import message_of
from libs.common.clock import Clock
from libs.common.errors import Unavailable
from libs.common.events.envelope import Envelope
from libs.common.events.route import BudgetDrawn, Draw
from libs.common.events.tables import KeyEntry, RouteEntry, SliceEntry
from libs.common.ids import event_id
from libs.common.units import SECOND_MS
from services.router.core.budgets import Held, Short, Slices
from services.router.shell.limits.quotas import QuotaTable
from services.router.shell.told.entries import entry_of

PublishLater = Callable[[Sequence[Message]], Awaitable[int]]
WAIT_S: Final = 1.0  # Between two tellings of what was spent; a need is told at once, and again after this.
PAUSE_S: Final = 0.05  # Between two tellings of needs: a flood of refusals is one question.
DRAWS_MAX: Final = 500  # Of one message, far below what the bus takes: keys have budgets too, and may be many.
IDLE_S: Final = 30.0  # After so long without a request everything is given back: another router may need it.


class Budgets:
    """The budgets of this process: admits against slices, and keeps them filled."""

    def __init__(self, quotas: QuotaTable, clock: Clock, *, instance: str, boot_id: str) -> None:
        self._quotas = quotas
        self._clock = clock
        self._instance = instance
        self._boot_id = boot_id
        self._slices = Slices()
        self._news = asyncio.Event()
        self._used_s = 0.0
        self._count = 0

    def reserve(self, entry: RouteEntry, key: KeyEntry, *, tokens: int, least: int) -> Held | Short | None:
        """Take the most that a request may use off the slices of its budgets; None if there are no budgets.

        Where a budget ends with fewer, but with ``least`` or more, it is these.
        """
        budgets = self._quotas.terms_of(entry).budgets
        if key.budget:
            budgets = (*budgets, key.budget)
        if not budgets:
            return None
        said = self._slices.reserve(budgets, period=self._period(), tokens=tokens, least=least)
        self._used_s = asyncio.get_running_loop().time()
        self._news.set()
        return said

    def settle(self, held: Held, *, tokens: int) -> None:
        """The request is over."""
        self._slices.settle(held, tokens=tokens)

    def change(self, key: str, value: bytes | None) -> None:
        """A key of the bucket was set or deleted; only what is for this boot is ours."""
        if value is None or not key.startswith(f"{self._instance}."):
            return
        entry = entry_of(SliceEntry, key, value, otherwise="slice is unreadable; kept the one before")
        if entry is not None and entry.boot_id == self._boot_id:
            self._slices.granted(entry.budget, entry.period, total=entry.granted, left=entry.left)

    async def run(self, publish: PublishLater) -> None:
        """Tell until cancelled."""
        loop, looked_s = asyncio.get_running_loop(), 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WAIT_S):
                    await self._news.wait()
            self._news.clear()
            if loop.time() - looked_s >= WAIT_S:  # Keys may have thousands of budgets.
                looked_s = loop.time()
                for budget, limit in self._quotas.budgets():
                    self._slices.expect(budget, self._period(), limit)
            if self._used_s and loop.time() - self._used_s > IDLE_S:
                self._slices.give_back()
                self._used_s = 0.0
            if await self.tell(publish):
                await asyncio.sleep(PAUSE_S)

    async def tell(self, publish: PublishLater) -> bool:
        """Tell what is untold; whether there was something."""
        draws = self._slices.draws()
        with contextlib.suppress(Unavailable):
            for first in range(0, len(draws), DRAWS_MAX):
                some = draws[first : first + DRAWS_MAX]
                if await publish([self._message(some)]):
                    self._slices.told(some)
        return bool(draws)

    async def give_back(self, publish: PublishLater) -> None:
        """Return what is left, for a last time: nobody else may spend what this boot holds."""
        self._slices.give_back()
        await self.tell(publish)

    def _period(self) -> str:
        return datetime.fromtimestamp(self._clock.now_ms() / SECOND_MS, UTC).strftime("%Y-%m")

    def _message(self, draws: tuple[Draw, ...]) -> Message:
        self._count += 1
        return message_of(
            Envelope(
                id=event_id(f"{self._instance}|{self._boot_id}|{self._count}", "router|draw", 0),
                data=BudgetDrawn(instance=self._instance, boot_id=self._boot_id, draws=draws),
                subject=self._instance,
                time_ms=self._clock.now_ms(),
                sequence=self._count,
            )
        )
