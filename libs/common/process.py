"""A service as an operating-system process: bus, clock, world and outbox each in a loop of their own.

The event loop carries the bus and the admin page; everything that may wait for a database or the world runs in worker
threads. A thread of its own watches the event loop and ends the process if it stands still; a supervisor restarts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from libs.common import web
from libs.common.admin import AdminPages
from libs.common.bus.port import Answer, Bus, Delivery, Message
from libs.common.bus.streams import consumers_of
from libs.common.clock import SystemClock
from libs.common.service import Service
from libs.common.settings import CommonSettings
from libs.common.tasks import end
from libs.common.telemetry import metrics
from libs.common.telemetry.logging import fields

log = logging.getLogger(__name__)

LOOP_STALL_S: Final = 5.0  # reliability.md L11: a blocked loop can't report its own death, so a thread does.
EXIT_STALLED: Final = 70
PRUNE_S: Final = 3600.0  # What is pruned was kept for days; an hour more is nothing.
PUBLISH_TIMEOUT_S: Final = 10.0  # Beyond the bus's own timeout; only a lost loop gets here.


class Process:
    """Runs one service until SIGTERM or SIGINT."""

    def __init__(
        self,
        service: Service,
        bus: Bus,
        settings: CommonSettings,
        *,
        also: Sequence[Callable[[], Awaitable[None]]] = (),
        drain: Callable[[], Awaitable[None]] | None = None,
        deliver: Callable[[Delivery], Answer] | None = None,
        pages: Mapping[str, Callable[[], bytes]] | None = None,
        hears: bool = True,
    ) -> None:
        """``hears``: whether it drinks from the service's consumers; of a service's processes one does."""
        self._service = service
        self._bus = bus
        self._settings = settings
        self._also = also
        self._answer = deliver or service.deliver
        self._hears = hears
        self._drain = drain  # Awaited after the signal and before anything ends, so while the bus still works.
        self._admin = AdminPages(bus.is_healthy, pages or {})
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beat_s = time.monotonic()
        self._wake_relay = threading.Event()
        self._wake_world = threading.Event()
        self._ended = threading.Event()
        self._handlers = ThreadPoolExecutor(settings.handler_threads, thread_name_prefix="handler")

    def run(self) -> None:
        """Run until told to stop."""
        asyncio.run(self.serve())

    async def serve(self) -> None:
        """Run in the running event loop until told to stop."""
        self._loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(each, self._stopping.set)
        for consumer in consumers_of(self._service.name) if self._hears else ():
            self._bus.subscribe(consumer.name, self._deliver)
        threading.Thread(target=self._watch_loop, name="watchdog", daemon=True).start()
        beating = asyncio.create_task(self._beat_until_stopped())  # Waiting for the bus is no standing still.
        admin = asyncio.create_task(self._serve_admin())
        await self._bus.start()
        workers = [
            threading.Thread(target=self._every, args=each, name=each[0], daemon=True)
            for each in (
                ("relay", self._settings.relay_poll_s, self._wake_relay, self._relay_round()),
                ("tick", self._settings.tick_s, None, self._tick_round),
                ("prune", PRUNE_S, None, lambda: self._service.store.prune(SystemClock().now_ms())),
                ("reconcile", self._settings.reconcile_s, self._wake_world, self._reconcile_round),
            )
        ]
        for worker in workers:
            worker.start()
        tasks = [asyncio.ensure_future(each()) for each in self._also]
        log.info("started", extra=fields(service=self._service.name, port=self._settings.admin_port))
        await beating
        if self._drain is not None:
            await self._drain()
        await self._shut_down(workers, [admin, *tasks])

    def wake(self) -> None:
        """Something was committed: look into the outbox and at the world now rather than at the next poll."""
        self._wake_relay.set()
        self._wake_world.set()

    def stop(self) -> None:
        """Ask the process to end, from its own event loop."""
        self._stopping.set()

    async def _shut_down(self, workers: list[threading.Thread], tasks: list[asyncio.Future[None]]) -> None:
        self._ended.set()
        self.wake()
        for worker in workers:
            await asyncio.to_thread(worker.join, PUBLISH_TIMEOUT_S)
        await self._bus.stop()
        await end(*tasks)
        self._handlers.shutdown(wait=True)
        self._service.store.close()
        log.info("stopped", extra=fields(service=self._service.name))

    def _deliver(self, delivery: Delivery) -> Answer:
        answer = self._answer(delivery)
        self.wake()
        return answer

    def _every(self, name: str, period_s: float, wake: threading.Event | None, round_: Callable[[], int]) -> None:
        while not self._ended.is_set():
            if wake is not None:
                wake.clear()  # Before the round reads: a wake that comes during it must not be lost.
            try:
                busy = round_()
            except Exception:
                metrics.LOOP_FAILURES.labels(service=self._service.name, loop=name).inc()
                log.exception("loop round failed", extra=fields(action=name))
                busy = 0
                self._ended.wait(period_s)
            if not busy or name != "relay":
                (wake or self._ended).wait(period_s)

    def _relay_round(self) -> Callable[[], int]:
        relay = self._service.relay(self._publish)

        def round_() -> int:
            sent = relay.run()
            metrics.OUTBOX_SENT.labels(service=self._service.name).inc(sent)
            return sent

        return round_

    def _tick_round(self) -> int:
        woken = self._service.tick().woken
        if woken:
            self.wake()
        return woken

    def _reconcile_round(self) -> int:
        with metrics.RECONCILE_SECONDS.labels(service=self._service.name).time():
            applied = self._service.reconcile()
        metrics.RECONCILE_ACTIONS.labels(service=self._service.name).inc(applied)
        self._wake_relay.set()
        return applied

    def _publish(self, messages: Sequence[Message]) -> int:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(self._bus.publish(messages), self._loop).result(PUBLISH_TIMEOUT_S)

    async def _beat_until_stopped(self) -> None:
        while not self._stopping.is_set():
            self._beat_s = time.monotonic()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 0.5)
        self._beat_s = float("inf")

    def _watch_loop(self) -> None:
        while not self._ended.wait(1.0):
            if time.monotonic() - self._beat_s > LOOP_STALL_S:
                log.critical(
                    "event loop stands still; exiting to be restarted", extra=fields(service=self._service.name)
                )
                os._exit(EXIT_STALLED)

    async def _serve_admin(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await web.serve(self._admin, host=self._settings.admin_host, port=self._settings.admin_port)
