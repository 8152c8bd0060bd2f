"""``python -m services.capacity_manager``: real bus, real database, real vCluster Platform."""

from __future__ import annotations

import asyncio
import sys

from libs.common import settings as reading
from libs.common.bus.nats import NatsBus
from libs.common.clock import SystemClock
from libs.common.errors import Rejected
from libs.common.events.event import Owner
from libs.common.process import Process
from libs.common.service import Service
from libs.common.store.sql import SqlStore
from libs.common.telemetry import logging as telemetry
from libs.common.units import SECOND_MS
from services.capacity_manager.service import LIVE, build
from services.capacity_manager.shell import metrics
from services.capacity_manager.shell.platform import Platform, PlatformClient
from services.capacity_manager.shell.ports import Ports
from services.capacity_manager.shell.settings import Settings

COUNT_EVERY_S = 5.0  # How old the gauges of claims may be.


def main() -> int:
    """Run until told to stop; 2 if the settings are wrong."""
    try:
        settings = reading.read(Settings)
        ports = open_ports(settings)
    except Rejected as wrong:
        print(f"capacity-manager: {wrong}", file=sys.stderr)  # noqa: T201
        return 2
    telemetry.configure(Owner.CAPACITY_MANAGER, level=settings.log_level)
    service = build(ports)
    bus = NatsBus(settings.nats_url, name=Owner.CAPACITY_MANAGER, threads=settings.handler_threads)
    Process(service, bus, settings, also=(lambda: count(service, ports),)).run()
    return 0


def open_ports(settings: Settings) -> Ports:
    """The real world."""
    client = PlatformClient(
        url=settings.platform_url,
        key_file=settings.platform_key_file,
        ca_file=settings.platform_ca_file,
        connect_s=settings.platform_connect_s,
        read_s=settings.platform_read_s,
    )
    return Ports(
        store=SqlStore(settings.database_url),
        clock=SystemClock(),
        capacity=Platform(client),
        rules=settings.rules(),
        resync_ms=round(settings.resync_s * SECOND_MS),
    )


async def count(service: Service, ports: Ports) -> None:
    """Keep the gauges that describe all claims fresh."""
    (runner,) = service.runners
    while True:
        await asyncio.to_thread(lambda: metrics.count_claims(runner.every(scope=LIVE), now_ms=ports.clock.now_ms()))
        await asyncio.sleep(COUNT_EVERY_S)


if __name__ == "__main__":
    sys.exit(main())
