"""python -m services.endpoint_api: settings, real ports, serve."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final

from libs.common import key_snapshot, web
from libs.common.bus.nats import NatsBus
from libs.common.client_address import trusted_proxies
from libs.common.clock import SystemClock
from libs.common.errors import Invalid, MillraceError, Unavailable
from libs.common.events.event import Owner
from libs.common.ids import SystemEntropy
from libs.common.process import Process
from libs.common.settings import read
from libs.common.store.sql import SqlStore
from libs.common.telemetry.logging import configure, fields
from services.endpoint_api.service import EndpointApi, build
from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.auth import Authenticator
from services.endpoint_api.shell.bootstrap import record_bootstrap
from services.endpoint_api.shell.catalogue import read_catalogue
from services.endpoint_api.shell.dns import Dns, servers_of
from services.endpoint_api.shell.doors.bus import BusDoor
from services.endpoint_api.shell.issuers import read_issuers
from services.endpoint_api.shell.key_snapshots import KeySnapshots, signer_of
from services.endpoint_api.shell.metrics import count_stages
from services.endpoint_api.shell.oidc import Oidc
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.refilling import Refilling
from services.endpoint_api.shell.routes.app import create_app
from services.endpoint_api.shell.secrets import MASTER_BYTES
from services.endpoint_api.shell.settings import Settings

log = logging.getLogger(__name__)

EXIT_SETTINGS: Final = 2


def main() -> None:
    """Run until told to stop; a wrong setting, catalogue or bootstrap file ends it with one line."""
    try:
        settings = read(Settings)
        configure(Owner.ENDPOINT_API, level=settings.log_level)
        process = assemble(settings)
    except MillraceError as wrong:
        sys.stderr.write(f"endpoint-api: {wrong}\n")
        sys.exit(EXIT_SETTINGS)
    process.run()


def assemble(settings: Settings) -> Process:
    """Everything joined. Raises Invalid for a file that is wrong, Unavailable if the database is away."""
    ports = Ports(
        store=SqlStore(settings.database_url),
        clock=SystemClock(),
        catalogue=read_catalogue(settings.catalogue_dir),
        entropy=SystemEntropy(),
        endpoints_max=settings.endpoints_max,
        keys_max=settings.keys_max,
        master_secret=_master_secret(settings),
        webhooks_to_loopback=settings.webhooks_to_loopback,
        trusted_proxies=trusted_proxies(settings.trusted_proxies),
        dns=Dns(servers_of(settings.dns_servers), SystemEntropy()),
    )
    service = build(ports)
    api = Api(service, ports)
    if settings.bootstrap_file is not None:
        record_bootstrap(api, settings.bootstrap_file)
    app = create_app(
        api,
        Authenticator(service, ports, Oidc(read_issuers(settings.oidc_file), ports.clock)),
        entropy=ports.entropy,
    )
    serve = partial(web.serve, app, host=settings.http_host, port=settings.http_port)
    count = partial(
        _count_for_ever,
        partial(count_stages, service.runner("endpoint"), ports.store, ports.clock),
        settings.stages_poll_s,
    )
    learn = partial(_count_for_ever, _all_of(api.learner.run), settings.learn_poll_s)
    prove = partial(_count_for_ever, api.proofs.run, settings.proofs_poll_s)
    bus = NatsBus(settings.nats_url, name=Owner.ENDPOINT_API, threads=settings.handler_threads)
    snapshots = _snapshots(service, ports, settings)
    shown = () if snapshots is None else (partial(_count_for_ever, snapshots.refresh, settings.key_snapshot_s),)
    return Process(
        service,
        bus,
        settings,
        deliver=BusDoor(service, api, ports).deliver,
        also=[serve, count, learn, prove, api.dispatcher.run, *_keeping(service, ports, bus, settings), *shown],
        pages=None if snapshots is None else {key_snapshot.PATH: snapshots.page},
    )


def _keeping(
    service: EndpointApi, ports: Ports, bus: NatsBus, settings: Settings
) -> Iterator[Callable[[], Awaitable[None]]]:
    """What keeps keys: when they were used, and that the buckets hold what is recorded."""
    assert service.key_uses is not None
    refilling = Refilling(service.runner("key"), service.runner("tenant"), ports.clock)
    for bucket, mirror in refilling.mirrors.items():
        bus.watch(bucket, mirror.change, mirror.lose)
    yield partial(_count_for_ever, _all_of(service.key_uses.run), settings.keys_poll_s)
    yield partial(_count_for_ever, refilling.run, settings.refill_s)


def _snapshots(service: EndpointApi, ports: Ports, settings: Settings) -> KeySnapshots | None:
    """What shows the snapshot of keys, if there is something to sign it with."""
    if settings.key_snapshot_signing_file is None:
        return None
    signer = signer_of(settings.key_snapshot_signing_file)
    return KeySnapshots(service.runner("key"), ports.clock, signer, epoch=settings.key_snapshot_epoch)


def _master_secret(settings: Settings) -> bytes:
    if settings.secret_file is None:
        return b""
    try:
        found = settings.secret_file.read_bytes().strip()
    except OSError:
        raise Invalid("the secret file can't be read") from None
    if len(found) < MASTER_BYTES:
        raise Invalid(f"the secret file must hold at least {MASTER_BYTES} bytes")
    return found


def _all_of(page: Callable[[], int]) -> Callable[[], None]:
    """Pages until there is none left."""

    def pages() -> None:
        while page():
            pass

    return pages


async def _count_for_ever(count: Callable[[], object], period_s: float) -> None:
    while True:
        try:
            await asyncio.to_thread(count)
        except Unavailable as later:
            log.warning("not counted or learned", extra=fields(reason=str(later)))
        await asyncio.sleep(period_s)


if __name__ == "__main__":
    main()
