"""Telling which keys were used, every few seconds, to the minute: for `last_used_at`, never for a bill."""

from __future__ import annotations

import asyncio
from typing import Final

from libs.common.bus.port import Message
from libs.common.bus.streams import message_of
from libs.common.clock import Clock
from libs.common.events.envelope import Envelope
from libs.common.events.route import KeyUsed, UsedKey
from libs.common.ids import event_id
from libs.common.key_use import KeyUse
from services.router.shell.told.usage import PublishLater

USES_MAX: Final = 500  # Of one message: 40 KB.
ROUND_MAX: Final = 20  # Messages of one round; what is left is told in the next.


class KeyUseReporter:
    """Turns a `KeyUse` into events. What the bus did not take is told in the next round."""

    def __init__(self, use: KeyUse, clock: Clock, *, instance: str, boot_id: str) -> None:
        self._use = use
        self._clock = clock
        self._instance = instance
        self._boot_id = boot_id
        self._count = 0

    async def round(self, publish: PublishLater) -> int:
        """Tell what is untold; returns how many keys were told."""
        told = 0
        for _ in range(ROUND_MAX):
            uses = self._use.untold(USES_MAX)
            if not uses or not await publish([self._message(uses)]):
                break
            self._use.told(uses, self._clock.now_ms())
            told += len(uses)
        return told

    async def run(self, publish: PublishLater, period_s: float) -> None:
        """Tell until cancelled."""
        while True:
            await asyncio.sleep(period_s)
            await self.round(publish)

    def _message(self, uses: tuple[tuple[str, int], ...]) -> Message:
        self._count += 1
        keys = tuple(UsedKey(key_id=key_id, last_used_ms=at_ms) for key_id, at_ms in uses)
        return message_of(
            Envelope(
                id=event_id(f"{self._instance}|{self._boot_id}|{self._count}", "router|keyuse", 0),
                data=KeyUsed(instance=self._instance, keys=keys),
                subject=self._instance,
                time_ms=self._clock.now_ms(),
                sequence=self._count,
            )
        )
