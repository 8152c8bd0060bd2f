"""Telling how busy endpoints are, every few seconds while any of them is."""

from __future__ import annotations

import asyncio
import contextlib

from libs.common.bus.port import Message
from libs.common.bus.streams import message_of
from libs.common.clock import Clock
from libs.common.events.envelope import Envelope
from libs.common.events.route import TrafficObserved
from libs.common.ids import event_id
from services.router.core.load import LoadMeter
from services.router.shell.told.usage import PublishLater


class LoadReporter:
    """Turns a `LoadMeter` into reports. A report that the bus did not take is lost: the next one is as good."""

    def __init__(self, meter: LoadMeter, clock: Clock, *, instance: str, boot_id: str) -> None:
        self._meter = meter
        self._clock = clock
        self._instance = instance
        self._boot_id = boot_id
        self._count = 0
        self._early = asyncio.Event()

    def poke(self) -> None:
        """Somebody waits for an endpoint that sleeps: the next report is due now."""
        self._early.set()

    def next_report(self) -> Message | None:
        """The report on the time since the last one; None if there was no traffic to tell of."""
        from_ms, now_ms = self._meter.from_ms, self._clock.now_ms()
        endpoints = self._meter.report(now_ms)
        if not endpoints:
            return None
        self._count += 1
        told = TrafficObserved(instance=self._instance, from_ms=from_ms, to_ms=now_ms, endpoints=endpoints)
        cause = f"{self._instance}|{self._boot_id}|{self._count}"
        return message_of(
            Envelope(
                id=event_id(cause, "router|load", 0),
                data=told,
                subject=self._instance,
                time_ms=now_ms,
                sequence=self._count,
            )
        )

    async def run(self, publish: PublishLater, period_s: float) -> None:
        """Report until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(period_s):
                    await self._early.wait()
            self._early.clear()
            report = self.next_report()
            if report is not None:
                await publish([report])
