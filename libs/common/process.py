"""A service as an operating-system process: bus, clock, world and outbox each in a loop of their own.

A loop sleeps until there is something for it: a commit wakes it (the outbox), or says until when it may sleep (the
clock), or what it saw last does (the world). What another process left is found by looking now and then all the same.
The event loop carries the bus and the admin page; everything that may wait for a database or the world runs in worker
threads. A thread of its own watches the event loop and ends the process if it stands still; a supervisor restarts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from libs.common import web
from libs.common.admin import AdminPages
from libs.common.bus.port import Answer, Bus, Delivery, Message
from libs.common.bus.streams import consumers_of
from libs.common.clock import SystemClock
from libs.common.service import Service
from libs.common.settings import CommonSettings
from libs.common.store.port import Committed
from libs.common.tasks import end
from libs.common.telemetry import metrics
from libs.common.telemetry.logging import fields
from libs.common.units import SECOND_MS

log = logging.getLogger(__name__)

LOOP_STALL_S: Final = 5.0  # reliability.md L11: a blocked loop can't report its own death, so a thread does.
EXIT_STALLED: Final = 70
PRUNE_S: Final = 3600.0  # What is pruned was kept for days; an hour more is nothing.
PUBLISH_TIMEOUT_S: Final = 10.0  # Beyond the bus's own timeout; only a lost loop gets here.
BEAT_S: Final = 1.0
HELD_UP_S: Final = 0.2  # How soon the bus is asked again to take what it did not.
FAILED_S: Final = 0.3  # After a round that raised.
PACE_S: Final = 0.05  # Between two looks that woke records: one that never has enough must not keep us busy.

Round = Callable[[], float]
"""One round of a loop; says how many seconds the next may wait, if nothing wakes it."""


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
        self._wake_clock = threading.Event()
        self._wake_pruner = threading.Event()
        self._wake_world = threading.Event()
        self._next_look_s = math.inf  # At the clock's records; infinite while it looks.
        self._world_rests = False
        self._commits = 0
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
        workers = [threading.Thread(target=self._every, args=each, name=each[0], daemon=True) for each in self._loops()]
        self._service.store.listen(self._committed)
        for worker in workers:
            worker.start()
        tasks = [asyncio.ensure_future(each()) for each in self._also]
        log.info("started", extra=fields(service=self._service.name, port=self._settings.admin_port))
        await beating
        if self._drain is not None:
            await self._drain()
        await self._shut_down(workers, [admin, *tasks])

    def wake(self) -> None:
        """Something happened: look at the world now rather than in a while."""
        self._wake_world.set()

    def stop(self) -> None:
        """Ask the process to end, from its own event loop."""
        self._stopping.set()

    async def _shut_down(self, workers: list[threading.Thread], tasks: list[asyncio.Future[None]]) -> None:
        self._ended.set()
        for each in (self._wake_relay, self._wake_clock, self._wake_pruner, self._wake_world):
            each.set()
        for worker in workers:
            await asyncio.to_thread(worker.join, PUBLISH_TIMEOUT_S)
        await self._bus.stop()
        await end(*tasks)
        self._handlers.shutdown(wait=True)
        self._service.store.close()
        log.info("stopped", extra=fields(service=self._service.name))

    def _deliver(self, delivery: Delivery) -> Answer:
        before = self._commits
        answer = self._answer(delivery)
        if self._commits != before:
            self.wake()
        return answer

    def _loops(self) -> Iterator[tuple[str, threading.Event, Round]]:
        yield "relay", self._wake_relay, self._relay_round()
        yield "tick", self._wake_clock, self._tick_round
        yield "prune", self._wake_pruner, self._prune_round
        if self._service.reconcilers:
            yield "reconcile", self._wake_world, self._reconcile_round

    def _committed(self, left: Committed) -> None:
        """In the thread that committed."""
        self._commits += 1
        if self._world_rests:
            self._wake_world.set()
        if left.is_outgoing:
            self._wake_relay.set()
        if left.wake_at_ms is not None and left.wake_at_ms < self._next_look_s * SECOND_MS:
            self._wake_clock.set()

    def _every(self, name: str, wake: threading.Event, round_: Round) -> None:
        while not self._ended.is_set():
            wake.clear()  # Before the round reads: a wake that comes during it must not be lost.
            try:
                wait_s = round_()
            except Exception:
                metrics.LOOP_FAILURES.labels(service=self._service.name, loop=name).inc()
                log.exception("loop round failed", extra=fields(action=name))
                self._ended.wait(FAILED_S)
                continue
            if not self._ended.is_set():  # Set before the wakes are: one that we cleared is not missed.
                wake.wait(wait_s)

    def _relay_round(self) -> Round:
        relay = self._service.relay(self._publish)

        def round_() -> float:
            sent = relay.run()
            metrics.OUTBOX_SENT.labels(service=self._service.name).inc(sent)
            if relay.is_held_up:
                return HELD_UP_S
            return 0.0 if sent else self._settings.rest_s

        return round_

    def _tick_round(self) -> float:
        self._next_look_s = math.inf
        ticked = self._service.tick(ahead_ms=round(self._settings.rest_s * SECOND_MS))
        if ticked.woken:
            self.wake()
            self._ended.wait(PACE_S)
        now_s = SystemClock().now_ms() / SECOND_MS
        look_s = now_s + self._settings.rest_s
        if ticked.next_ms is not None:
            look_s = min(look_s, ticked.next_ms / SECOND_MS)
        self._next_look_s = look_s
        return max(0.0, look_s - now_s)

    def _prune_round(self) -> float:
        self._service.store.prune(SystemClock().now_ms())
        return PRUNE_S

    def _reconcile_round(self) -> float:
        self._world_rests, before = False, self._commits
        with metrics.RECONCILE_SECONDS.labels(service=self._service.name).time():
            applied = self._service.reconcile()
        metrics.RECONCILE_ACTIONS.labels(service=self._service.name).inc(applied)
        self._world_rests = self._service.is_at_rest
        if self._commits != before:  # After we said that it rests: a commit from now on wakes us.
            self._world_rests = False
        return self._settings.rest_s if self._world_rests else self._settings.reconcile_s

    def _publish(self, messages: Sequence[Message]) -> int:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(self._bus.publish(messages), self._loop).result(PUBLISH_TIMEOUT_S)

    async def _beat_until_stopped(self) -> None:
        while not self._stopping.is_set():
            self._beat_s = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._stopping.wait()
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
