"""``python -m services.capacity_manager``: real bus, real database, real vCluster Platform."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from typing import Final

from libs.common import settings as reading
from libs.common.bus.nats import NatsBus
from libs.common.clock import SystemClock
from libs.common.errors import MillraceError
from libs.common.events.event import Owner
from libs.common.process import Process
from libs.common.runner import Runner
from libs.common.service import Service
from libs.common.store.sql import SqlStore
from libs.common.telemetry import logging as telemetry
from libs.common.units import SECOND_MS
from services.capacity_manager.core.checkup import checkup
from services.capacity_manager.core.cluster_template import Recipe
from services.capacity_manager.core.pools import POOL, Pool
from services.capacity_manager.core.state import CLAIM, LIVE, Claim
from services.capacity_manager.core.stocks import stocks
from services.capacity_manager.core.tiers import TierSight
from services.capacity_manager.service import build, owned, owned_pools
from services.capacity_manager.shell import metrics, restoring
from services.capacity_manager.shell.doctor import log_findings
from services.capacity_manager.shell.node_life import Desk, operate
from services.capacity_manager.shell.platform import Breaker, Platform, PlatformClient
from services.capacity_manager.shell.platform.adapter import CLAIMS_EVERYWHERE, INSTANCES_EVERYWHERE
from services.capacity_manager.shell.platform.examining import examine
from services.capacity_manager.shell.platform.following import follow
from services.capacity_manager.shell.platform.snapshotting import Snapshots
from services.capacity_manager.shell.ports import Ports
from services.capacity_manager.shell.settings import Settings
from services.capacity_manager.shell.templates import read_recipes, read_templates
from services.capacity_manager.shell.tiers import read_tiers

FOLLOWED: Final = (INSTANCES_EVERYWHERE, CLAIMS_EVERYWHERE)
COUNT_EVERY_S = 5.0  # How old the gauges of claims may be.


def main(argv: Sequence[str] = ()) -> int:
    """Run until told to stop, or do what an operator asks; 2 if the settings are wrong, or that can't be done."""
    try:
        settings = reading.read(Settings)
        if argv:
            return operate_on(settings, argv)
        client = open_client(settings)
        recipes = read_recipes(settings.templates_dir)
        tiers = read_tiers(settings.catalogue_dir, recipes) if settings.catalogue_dir else ()
        ports = open_ports(settings, client, tiers, recipes)
    except MillraceError as wrong:
        print(f"capacity-manager: {wrong}", file=sys.stderr)  # noqa: T201
        return 2
    telemetry.configure(Owner.CAPACITY_MANAGER, level=settings.log_level)
    service = build(ports)
    bus = NatsBus(settings.nats_url, name=Owner.CAPACITY_MANAGER, threads=settings.handler_threads)
    process = Process(
        service,
        bus,
        settings,
        also=(
            lambda: count(service, ports),
            lambda: asyncio.to_thread(say_what_is_missing, client, settings, tiers),
            *(_following(client, path, service, lambda: process.wake()) for path in FOLLOWED),
        ),
    )
    process.run()
    return 0


def operate_on(settings: Settings, argv: Sequence[str]) -> int:
    """A verb on the service's records, beside whatever runs. Raises MillraceError."""
    clock = SystemClock()
    recipes = read_recipes(settings.templates_dir)
    tiers = read_tiers(settings.catalogue_dir, recipes) if settings.catalogue_dir else ()
    rules, client = settings.pools(tiers, recipes), open_client(settings)
    with closing(SqlStore(settings.database_url)) as store, closing(client):
        claims = Runner(owned(settings.rules()), store=store, clock=clock)
        platform = Platform(client, installation=settings.installation)
        if argv[0] in restoring.VERBS:
            return restoring.operate(argv, restoring.RestoreDesk(claims, Snapshots(client, platform)))
        pools = Runner(owned_pools(rules), store=store, clock=clock)
        return operate(argv, Desk(claims, pools, clock, rules, lambda pool: platform.observe_pool(pool, 0)))


def open_client(settings: Settings) -> PlatformClient:
    """The way to the Platform."""
    return PlatformClient(
        url=settings.platform_url,
        key_file=settings.platform_key_file,
        ca_file=settings.platform_ca_file,
        connect_s=settings.platform_connect_s,
        read_s=settings.platform_read_s,
        breaker=Breaker(time.monotonic),
    )


def open_ports(
    settings: Settings, client: PlatformClient, tiers: tuple[TierSight, ...], recipes: tuple[Recipe, ...]
) -> Ports:
    """The real world."""
    return Ports(
        store=SqlStore(settings.database_url),
        clock=SystemClock(),
        capacity=Platform(client, templates=read_templates(settings.templates_dir), installation=settings.installation),
        rules=settings.rules(tiers),
        caution=settings.caution(),
        pools=settings.pools(tiers, recipes),
        resync_ms=round(settings.resync_s * SECOND_MS),
    )


def say_what_is_missing(client: PlatformClient, settings: Settings, tiers: tuple[TierSight, ...]) -> None:
    """Log, once, what the Platform lacks; a service that waits for it starts all the same."""
    log_findings(checkup(examine(client, url=settings.platform_url, tiers=tiers)))


def _following(
    client: PlatformClient, path: str, service: Service, wake: Callable[[], None]
) -> Callable[[], Awaitable[None]]:
    """A task that has an endpoint looked at as soon as something of it changes on the Platform."""
    reconciler = service.reconcilers[0]

    def tell(endpoint_id: str) -> None:
        reconciler.poke(endpoint_id)
        wake()

    async def run() -> None:
        ended = threading.Event()
        threading.Thread(target=follow, args=(client, path, tell, ended), name="follow", daemon=True).start()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    return run


async def count(service: Service, ports: Ports) -> None:
    """Keep the gauges that describe all claims fresh."""
    claims, pools = service.runner(CLAIM), service.runner(POOL)
    while True:
        await asyncio.to_thread(count_once, claims, pools, ports.clock.now_ms())
        await asyncio.sleep(COUNT_EVERY_S)


def count_once(claims: Runner[Claim], pools: Runner[Pool], now_ms: int) -> None:
    """Set the gauges from all that holds anything."""
    live = tuple(claims.every(scope=LIVE))
    metrics.count_claims(live, now_ms=now_ms)
    metrics.count_stocks(stocks(pools.every(scope=LIVE), live, now_ms))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
