"""``python -m services.autoscaler``: real bus, real database."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any, Final

from libs.common import settings as reading
from libs.common.bus.nats import NatsBus
from libs.common.clock import SystemClock
from libs.common.errors import MillraceError
from libs.common.events.event import Owner
from libs.common.process import Process
from libs.common.runner import Runner
from libs.common.store.sql import SqlStore
from libs.common.telemetry import logging as telemetry
from libs.common.telemetry.logging import fields
from services.autoscaler.service import SCALER, build
from services.autoscaler.shell import metrics
from services.autoscaler.shell.ports import Ports
from services.autoscaler.shell.settings import Settings

log = logging.getLogger(__name__)

EXIT_WRONG: Final = 2
COUNT_EVERY_S: Final = 15.0  # How old the gauges may be.


def main() -> int:
    """Run until told to stop; 2 if it can't start."""
    try:
        settings = reading.read(Settings)
        ports = Ports(SqlStore(settings.database_url), SystemClock(), settings.policy)
    except MillraceError as wrong:
        sys.stderr.write(f"autoscaler: {wrong}\n")
        return EXIT_WRONG
    telemetry.configure(Owner.AUTOSCALER, level=settings.log_level)
    service = build(ports)
    runner = service.runner(SCALER)

    async def count() -> None:
        while True:
            try:
                await asyncio.to_thread(count_once, runner, ports)
            except MillraceError as trouble:
                log.warning("count put off", extra=fields(reason=str(trouble)))
            await asyncio.sleep(COUNT_EVERY_S)

    Process(
        service,
        NatsBus(settings.nats_url, name=Owner.AUTOSCALER, threads=settings.handler_threads),
        settings,
        also=(count,),
    ).run()
    return 0


def count_once(runner: Runner[Any], ports: Ports) -> None:
    """Set the gauges from what is stored."""
    metrics.count(runner.every(), now_ms=ports.clock.now_ms(), policy=ports.policy)


if __name__ == "__main__":
    sys.exit(main())
