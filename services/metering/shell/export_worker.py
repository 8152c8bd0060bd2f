"""The exports of a running process: each in a loop of its own, so that a receiver that is away holds up no other."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from libs.common.clock import Clock
from libs.common.events.event import Owner
from libs.common.store.port import Store
from libs.common.telemetry import metrics
from libs.common.telemetry.logging import fields
from services.metering.shell.exporters.configured import read_exports
from services.metering.shell.exporting import Exporting
from services.metering.shell.settings import Settings

log = logging.getLogger(__name__)

STATUS_S: Final = 15.0  # How often what waits is counted; it reads every key that does.
TROUBLE_S: Final = 5.0


def exports_of(settings: Settings, store: Store, clock: Clock) -> tuple[Exporting, ...]:
    """The configured exports over a store; none if no file is set."""
    if settings.exports_file is None:
        return ()
    configured = read_exports(settings.exports_file, clock)
    return tuple(Exporting(each.receiver, each.sender, store=store, clock=clock) for each in configured)


async def keep_exporting(exports: tuple[Exporting, ...], *, period_s: float) -> None:
    """Work on all of them until cancelled."""
    await asyncio.gather(*(_keep(each, period_s) for each in exports))


async def _keep(export: Exporting, period_s: float) -> None:
    counted_s = -STATUS_S
    loop = asyncio.get_running_loop()
    while True:
        try:
            busy = await asyncio.to_thread(export.run)
            if loop.time() - counted_s >= STATUS_S:
                await asyncio.to_thread(export.status)
                counted_s = loop.time()
        except Exception:
            metrics.LOOP_FAILURES.labels(service=Owner.METERING, loop="export").inc()
            log.exception("export round failed", extra=fields(action=export.receiver.name))
            busy = 0
            await asyncio.sleep(TROUBLE_S)
        if not busy:
            await asyncio.sleep(period_s)
