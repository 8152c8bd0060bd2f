"""``python -m services.runtime_deployer``: real bus, real database, real tenant clusters."""

from __future__ import annotations

import asyncio
import sys

from libs.common import settings as reading
from libs.common.bus.nats import NatsBus
from libs.common.clock import SystemClock
from libs.common.errors import Invalid, Rejected
from libs.common.events.event import Owner
from libs.common.process import Process
from libs.common.service import Service
from libs.common.store.sql import SqlStore
from libs.common.telemetry import logging as telemetry
from libs.common.units import SECOND_MS
from services.runtime_deployer.core.state import RUNTIME
from services.runtime_deployer.service import LIVE, build
from services.runtime_deployer.shell import metrics
from services.runtime_deployer.shell.caches import CacheWorld
from services.runtime_deployer.shell.connections import Connections, access_key_from
from services.runtime_deployer.shell.kubernetes import KubernetesClusters
from services.runtime_deployer.shell.ports import Ports
from services.runtime_deployer.shell.settings import Settings
from services.runtime_deployer.shell.templates import load_templates
from services.runtime_deployer.shell.weights import load_weights

COUNT_EVERY_S = 5.0  # How old the gauges of runtimes may be.


def main() -> int:
    """Run until told to stop; 2 if the settings are wrong."""
    try:
        settings = reading.read(Settings)
        ports = open_ports(settings)
    except Rejected as wrong:
        print(f"runtime-deployer: {wrong}", file=sys.stderr)  # noqa: T201
        return 2
    telemetry.configure(Owner.RUNTIME_DEPLOYER, level=settings.log_level)
    service = build(ports)
    bus = NatsBus(settings.nats_url, name=Owner.RUNTIME_DEPLOYER, threads=settings.handler_threads)
    Process(service, bus, settings, also=(lambda: count(service),)).run()
    return 0


def open_ports(settings: Settings) -> Ports:
    """The real world. Raises Invalid if the file of a template or a model is wrong."""
    connections = open_connections(settings)
    clusters = KubernetesClusters(
        connections, timeout_s=settings.kubernetes_timeout_s, warm_up_timeout_s=settings.warm_up_timeout_s
    )
    return Ports(
        store=SqlStore(settings.database_url),
        clock=SystemClock(),
        clusters=clusters,
        caches=CacheWorld(connections, timeout_s=settings.kubernetes_timeout_s),
        templates=load_templates(settings.templates_dir),
        weights=load_weights(settings.catalogue_dir) if settings.catalogue_dir is not None else {},
        resync_ms=round(settings.resync_s * SECOND_MS),
    )


def open_connections(settings: Settings) -> Connections:
    """The way to tenant clusters. Raises Invalid if the settings name none."""
    if settings.kubeconfig is not None:
        return Connections("", lambda: "", kubeconfig=settings.kubeconfig, limit=settings.connections_max)
    if not settings.platform_url or settings.platform_key_file is None:
        raise Invalid("set MILLRACE_PLATFORM_URL and MILLRACE_PLATFORM_KEY_FILE, or MILLRACE_KUBECONFIG")
    return Connections(
        settings.platform_url,
        access_key_from(settings.platform_key_file),
        ca_file=settings.platform_ca_file,
        limit=settings.connections_max,
    )


async def count(service: Service) -> None:
    """Keep the gauges that describe all runtimes fresh."""
    runner = service.runner(RUNTIME)
    while True:
        await asyncio.to_thread(lambda: metrics.count_runtimes(runner.every(scope=LIVE)))
        await asyncio.sleep(COUNT_EVERY_S)


if __name__ == "__main__":
    sys.exit(main())
