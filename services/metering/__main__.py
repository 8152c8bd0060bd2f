"""``python -m services.metering``: the service; with a verb (``shell/operating.py``), what an operator asks of it."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from libs.common import settings as reading
from libs.common import web
from libs.common.bus.nats import NatsBus
from libs.common.bus.streams import KEYS, QUOTAS
from libs.common.clock import SystemClock
from libs.common.collector import calm_collector
from libs.common.errors import MillraceError
from libs.common.events.event import Owner
from libs.common.key_news import learn_key
from libs.common.process import Process
from libs.common.store.sql import SqlStore
from libs.common.telemetry import logging as telemetry
from libs.common.telemetry.logging import fields
from libs.common.units import HOUR_S, SECOND_MS
from services.metering.service import build
from services.metering.shell.accounting import Accounts
from services.metering.shell.api import create_app
from services.metering.shell.budgeting import Budgets
from services.metering.shell.closing import Closing
from services.metering.shell.export_worker import exports_of, keep_exporting
from services.metering.shell.operating import Desk, operate
from services.metering.shell.ports import Ports
from services.metering.shell.prices import read_prices
from services.metering.shell.purse import BUDGET, Purses
from services.metering.shell.reconciling import findings, show
from services.metering.shell.routes import Reader
from services.metering.shell.settings import Settings
from services.metering.shell.watch import look

log = logging.getLogger(__name__)

EXIT_WRONG: Final = 2
# Threads that come back from the database have Python's lock within this, not within the five milliseconds of the
# default: beside handlers that work through a backlog, a look at the ledger would take seconds.
SWITCH_S: Final = 0.0005


def main(arguments: Sequence[str]) -> int:
    """Serve until told to stop, or do what a verb says; 1 if that found a difference, 2 if it can't be done."""
    try:
        settings = reading.read(Settings)
        ports = Ports(SqlStore(settings.database_url), SystemClock(), settings.windows)
        if arguments:
            return operate(arguments, Desk(settings, ports, partial(build, ports)))
        serve(settings, ports)
    except MillraceError as wrong:
        sys.stderr.write(f"metering: {wrong}\n")
        return EXIT_WRONG
    return 0


def serve(settings: Settings, ports: Ports) -> None:
    """Run the service, its read API and its own audit until told to stop."""
    telemetry.configure(Owner.METERING, level=settings.log_level)
    sys.setswitchinterval(SWITCH_S)
    prices = read_prices(settings.prices_file) if settings.prices_file else None
    service = build(replace(ports, prices=prices))
    bus = NatsBus(settings.nats_url, name=Owner.METERING, threads=settings.handler_threads)
    bus.watch(KEYS, partial(learn_key, ports.limits.keyring))
    bus.watch(QUOTAS, ports.limits.change)
    span_ms = settings.audit_span_s * SECOND_MS
    exports = exports_of(settings, ports.store, ports.clock)
    closing = Closing(ports.store, ports.clock, late_ms=settings.late_ms)
    find = partial(findings, ports, closing, exports)
    budgets = Budgets(ports.limits, Purses(ports.limits, ports.store, prices), service.runner(BUDGET), ports.clock)
    app = create_app(
        Reader(ports.store, ports.limits.keyring, ports.clock, prices), Accounts(closing, find, prices), budgets
    )

    async def answer() -> None:
        await web.serve(app, host=settings.http_host, port=settings.http_port)

    async def watch() -> None:
        while True:
            await asyncio.sleep(settings.audit_s)
            try:
                await asyncio.to_thread(look, ports.store, ports.clock, ports.windows, span_ms=span_ms)
            except MillraceError as trouble:
                log.warning("audit put off", extra=fields(reason=str(trouble)))

    async def reconcile() -> None:
        while True:
            await asyncio.sleep(settings.reconcile_h * HOUR_S)
            try:
                await asyncio.to_thread(show, partial(find, None))
            except MillraceError as trouble:
                log.warning("reconciliation put off", extra=fields(reason=str(trouble)))

    async def export() -> None:
        await keep_exporting(exports, period_s=settings.export_s)

    Process(service, bus, settings, also=(calm_collector, answer, watch, reconcile, export)).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
