"""The bus beside the data plane: its absence, at the start or later, never touches a request (reliability.md R4).

`start` waits a little for the broker and then returns, trying on by itself; until then nothing is stored or told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from libs.common.bus.port import Bus, Handler, Message, OnChange, OnLost
from libs.common.errors import Unavailable
from libs.common.tasks import end
from libs.common.telemetry.logging import fields

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0


class SideBus:
    """A bus that may come late. ``make`` gives a fresh connection for each attempt."""

    def __init__(self, make: Callable[[], Bus], *, wait_s: float) -> None:
        self.connected = asyncio.Event()
        self._make = make
        self._wait_s = wait_s
        self._handlers: list[tuple[str, Handler]] = []
        self._watches: list[tuple[str, OnChange, OnLost | None]] = []
        self._bus: Bus | None = None
        self._connecting: asyncio.Task[None] | None = None

    def subscribe(self, consumer: str, handler: Handler) -> None:
        """Have ``handler`` answer what is delivered to ``consumer``."""
        self._handlers.append((consumer, handler))

    def watch(self, bucket: str, on_change: OnChange, on_lost: OnLost | None = None) -> None:
        """Tell ``on_change`` every key of a bucket, then every change; ``on_lost`` what the broker lost of it."""
        self._watches.append((bucket, on_change, on_lost))

    async def start(self) -> None:
        """Connect; after ``wait_s`` go on without, and connect in the background."""
        self._connecting = asyncio.create_task(self._connect())
        await asyncio.wait({self._connecting}, timeout=self._wait_s)

    async def stop(self) -> None:
        """Finish what is being handled, then disconnect."""
        if self._connecting is not None:
            await end(self._connecting)
        if self._bus is not None:
            await self._bus.stop()

    async def publish(self, messages: Sequence[Message]) -> int:
        """Store messages in order and say how many are stored: none before the broker was found."""
        return await self._bus.publish(messages) if self._bus is not None else 0

    def is_healthy(self) -> bool:
        """Whether the broker was found and all is well with it."""
        return self._bus is not None and self._bus.is_healthy()

    async def _connect(self) -> None:
        while self._bus is None:
            bus = self._make()
            for consumer, handler in self._handlers:
                bus.subscribe(consumer, handler)
            for bucket, on_change, on_lost in self._watches:
                bus.watch(bucket, on_change, on_lost)
            try:
                await bus.start()
                self._bus = bus
            except Unavailable as away:
                log.warning("bus is away; serving from what is known", extra=fields(reason=str(away)))
                await asyncio.sleep(RETRY_S)
        self.connected.set()
