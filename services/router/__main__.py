"""``python -m services.router``: settings, real ports, serve."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Final

import uvloop

from libs.common import settings as reading
from libs.common.bus.streams import SLICES
from libs.common.client_address import trusted_proxies
from libs.common.clock import Clock, SystemClock
from libs.common.collector import calm_collector
from libs.common.errors import MillraceError
from libs.common.events.event import Owner
from libs.common.events.usage import UsageConfirmed
from libs.common.ids import SystemEntropy
from libs.common.process import Process
from libs.common.store.memory import MemoryStore
from libs.common.store.sql import SqlStore
from libs.common.telemetry import logging as telemetry
from libs.common.telemetry.logging import fields
from libs.common.units import MIB, SECOND_MS
from services.router.core import probing
from services.router.core.isolation import cache_salt
from services.router.core.room import Room
from services.router.service import RouterService, build
from services.router.shell import metrics
from services.router.shell.edge.server import SERVING_PAGE, Edge
from services.router.shell.edge.tls import tls_of
from services.router.shell.engines.table import RouteTable
from services.router.shell.hosts.among import AmongHosts
from services.router.shell.journal.log import LogUsageJournal
from services.router.shell.journal.orphans import adopt
from services.router.shell.limits.budgets import Budgets
from services.router.shell.limits.counts import counts_parts
from services.router.shell.limits.shared_limits import SharedLimits
from services.router.shell.outside import from_outside
from services.router.shell.ports import Ports, UsageJournal
from services.router.shell.request.account import Books
from services.router.shell.request.gateway import Gateway, Limits
from services.router.shell.seen.access_log import AccessLog
from services.router.shell.seen.board import ENDPOINTS_PAGE, endpoints_page
from services.router.shell.seen.spans import Tracer
from services.router.shell.settings import Role, RouterSettings
from services.router.shell.told.key_use import KeyUseReporter
from services.router.shell.told.load import LoadReporter
from services.router.shell.told.side_bus import SideBus
from services.router.shell.told.tables import copies_parts, tables_of
from services.router.shell.told.usage import UsageLoop, UsageSender
from services.router.shell.workers.secret import kept_secret
from services.router.shell.workers.supervisor import Supervisor
from services.router.shell.workers.team import Postings, Team, TeamTable

log = logging.getLogger(__name__)

Part = Callable[[], Awaitable[None]]
EXIT_WRONG: Final = 2


def main() -> int:
    """Serve until told to stop; 2 if it can't start."""
    try:
        settings = reading.read(RouterSettings)
        telemetry.configure(Owner.ROUTER, level=settings.log_level)
        kept_secret(settings.salt_path, SystemEntropy())  # Before there are several who would make it.
        if settings.worker_count == 1:
            return work(settings, None, 0)
        team = Team(settings.worker_count)
        run = partial(work, settings, team)
        return Supervisor(team.count, run, buried=team.bury, end_within_s=settings.end_within_s).run()
    except MillraceError as wrong:
        return _say_wrong(wrong)


def work(settings: RouterSettings, team: Team | None, number: int) -> int:
    """One worker, or the only one; its exit code."""
    try:
        uvloop.run(serve(settings.of_worker(number), team, number))
    except MillraceError as wrong:
        return _say_wrong(wrong)
    return 0


async def serve(settings: RouterSettings, team: Team | None, number: int) -> None:
    """Join everything and run it."""
    boot_id = SystemEntropy().token_bytes(5).hex()
    journal = journal_of(settings, number)
    gateway = gateway_of(settings, journal, boot_id, team, number)
    edge = edge_of(settings, gateway, is_shared=team is not None)
    gateway.budgets = budgets = Budgets(gateway.quotas, gateway.clock, instance=settings.instance, boot_id=boot_id)
    copies, bus = tables_of(settings, gateway)
    bus.watch(SLICES, budgets.change)
    usage = usage_of(settings, gateway, bus, boot_id)
    among = among_of(settings, gateway, team, number, bus, boot_id)

    async def drain() -> None:
        await edge.drain()
        await usage.flush(settings.flush_s)
        await budgets.give_back(bus.publish)
        await among.leave()

    parts: tuple[Part, ...] = (
        among.joined(edge.run),  # Listens only now: what it serves from was loaded before.
        usage.run,
        gateway.books.log.run,
        partial(gateway.books.tracer.run, settings.instance),
        partial(budgets.run, bus.publish),
        *reports_of(settings, gateway, bus, boot_id),
        *copies_parts(settings, copies, bus, saves=not number),
        *(() if number or settings.role is Role.ALONE else counts_parts(settings, gateway, bus, team, boot_id)),
        *(() if team is None else team_parts(team, number, gateway)),
        *among.parts(),
        calm_collector,
    )
    service = service_of(settings, gateway, team, number, among)
    others = () if number else settings.other_admin_ports
    board = partial(endpoints_page, gateway.table, metrics.MEASURES, gateway.clock, settings.instance, others)
    process: Process

    def stop() -> None:
        process.stop()

    process = Process(
        service,
        bus,
        settings,
        also=[partial(keep, each, stop) for each in parts],
        drain=drain,
        pages={ENDPOINTS_PAGE: board, SERVING_PAGE: edge.page},
        hears=not number and settings.role is not Role.OTHER,
    )
    await process.serve()
    journal.close()


def journal_of(settings: RouterSettings, number: int) -> LogUsageJournal:
    """This worker's, with what dead ones left; the first one takes in what belongs to nobody any more."""
    loop = asyncio.get_running_loop()
    journal = LogUsageJournal(settings.usage_db, loop=loop, waits_for_disk=settings.usage_sync)
    metrics.RECOVERED.inc(journal.recover())
    if not number:
        metrics.RECOVERED.inc(adopt(journal, settings.usage_db, workers=settings.worker_count))
    return journal


def edge_of(settings: RouterSettings, gateway: Gateway, *, is_shared: bool) -> Edge:
    """Where clients connect; bound, and not listening yet."""
    edge = Edge(
        gateway,
        host=settings.http_host,
        port=settings.http_port,
        drain_s=settings.drain_s,
        is_shared=is_shared,
        tls=tls_of(settings),
        is_behind_proxy=settings.proxy_protocol,
    )
    edge.bind()
    return edge


def gateway_of(
    settings: RouterSettings, journal: UsageJournal, boot_id: str, team: Team | None, number: int
) -> Gateway:
    """What requests need beside their connections."""
    gateway = Gateway(
        table=RouteTable(partial(cache_salt, secret := kept_secret(settings.salt_path, SystemEntropy()))),
        journal=journal,
        clock=SystemClock(),
        boot_id=boot_id,
        limits=Limits.of(settings),
        trusted=trusted_proxies(settings.trusted_proxies),
    )
    gateway.books = books_of(settings, gateway.clock)
    gateway.probed = partial(probing.opened, secret)
    gateway.domain = settings.endpoint_domain.lower()
    gateway.table.seed = int(boot_id, 16)
    gateway.room = Room(settings.bodies_mib * MIB)
    metrics.LIVE.set_function(gateway.table.live_total)
    metrics.SERVED.endpoints = gateway.table.endpoints
    if team is not None:
        gateway.limiter = SharedLimits(team.limits, worker=number, workers=team.count)
    return gateway


def among_of(
    settings: RouterSettings, gateway: Gateway, team: Team | None, number: int, bus: SideBus, boot_id: str
) -> AmongHosts:
    """What joins this host to the others that serve the same endpoints: its first worker does it for all."""
    plane = gateway.table if team is None else TeamTable(team, gateway.table)
    role, endpoints, instance = Role.ALONE if number else settings.role, gateway.table.endpoints, settings.instance
    return AmongHosts(plane, endpoints, gateway.clock, bus, role=role, instance=instance, boot_id=boot_id)


def service_of(
    settings: RouterSettings, gateway: Gateway, team: Team | None, number: int, among: AmongHosts
) -> RouterService:
    """The control half; it runs in the first worker of the first host, and all others have none."""

    def forward(told: UsageConfirmed) -> None:
        if team is not None:
            team.forward(settings.instance, told)
        among.forward(told)

    if number or settings.role is Role.OTHER:
        service = RouterService(
            name=Owner.ROUTER, store=MemoryStore(), runners=(), journal=gateway.journal, instance=settings.instance
        )
    else:
        store, outside = SqlStore(settings.database_url), from_outside(settings, gateway.clock)
        ports = Ports(
            store, gateway.clock, among.data_plane, outside, gateway.journal, settings.instance, settings.public_url
        )
        service = build(ports, resync_ms=round(settings.resync_s * SECOND_MS))
    service = replace(service, forward=forward)
    among.confirm = service.confirmed
    return service


def team_parts(team: Team, number: int, gateway: Gateway) -> tuple[Part, ...]:
    """What a worker does for the others: shows its table, and hears what it is told."""

    def confirm(request_ids: object) -> None:
        assert isinstance(request_ids, list)
        metrics.CONFIRMED.inc(gateway.journal.confirm(request_ids))

    def cut(endpoint_id: object) -> None:
        gateway.table.cut(str(endpoint_id))

    return (
        Postings(team, number, gateway.table, gateway.waiting.sweep).run,  # Whose share it is may have changed.
        partial(team.hear, number, {"confirm": confirm, "cut": cut}),
    )


def books_of(settings: RouterSettings, clock: Clock) -> Books:
    """What tells of requests: a line each, a span for some."""
    tracer = Tracer(url=settings.otlp_url.rstrip("/"), ratio=settings.trace_ratio)
    return Books(clock, log=AccessLog(settings.access_log), tracer=tracer)


def usage_of(settings: RouterSettings, gateway: Gateway, bus: SideBus, boot_id: str) -> UsageLoop:
    """What sends the bills, as soon as there is one."""
    resend_ms = round(settings.usage_resend_s * SECOND_MS)
    sender = UsageSender(
        gateway.journal, gateway.clock, instance=settings.instance, boot_id=boot_id, resend_ms=resend_ms
    )
    usage = UsageLoop(sender, bus.publish, batch_s=settings.usage_batch_s)
    gateway.on_finished = usage.poke
    return usage


def reports_of(settings: RouterSettings, gateway: Gateway, bus: SideBus, boot_id: str) -> tuple[Part, ...]:
    """What tells how busy endpoints are, and which keys were used."""
    load = LoadReporter(gateway.load, gateway.clock, instance=settings.instance, boot_id=boot_id)
    gateway.waiting.on_asleep = load.poke
    keys = KeyUseReporter(gateway.key_use, gateway.clock, instance=settings.instance, boot_id=boot_id)
    return (
        partial(load.run, bus.publish, settings.load_report_s),
        partial(keys.run, bus.publish, settings.key_use_report_s),
    )


async def keep(part: Part, stop: Callable[[], None]) -> None:
    """Run one part of the process; if it ends by a bug, so does the process, to be restarted whole."""
    try:
        await part()
    except asyncio.CancelledError:
        raise
    except Exception:
        log.exception("a part of the router failed; stopping to be restarted", extra=fields(service=Owner.ROUTER))
        stop()


def _say_wrong(wrong: MillraceError) -> int:
    sys.stderr.write(f"router: {wrong}\n")
    return EXIT_WRONG


if __name__ == "__main__":
    sys.exit(main())
