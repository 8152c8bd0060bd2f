"""What is served from, put together: routes, keys and quotas from the bus, and the copy of them on disk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from libs.common.bus.nats import NatsBus
from libs.common.bus.port import OnChange
from libs.common.bus.streams import KEYS, QUOTAS, ROUTES
from libs.common.clock import SystemClock
from libs.common.events.event import Owner
from libs.common.ids import SystemEntropy
from libs.common.key_news import learn_key
from libs.common.units import SECOND_MS
from services.router.shell.request.gateway import Gateway
from services.router.shell.settings import RouterSettings
from services.router.shell.told.copies import Copies
from services.router.shell.told.key_snapshots import key_snapshots_of
from services.router.shell.told.side_bus import SideBus
from services.router.shell.workers.secret import kept_secret

Part = Callable[[], Awaitable[None]]
BUS_WAIT_S: Final = 10.0  # A broker that is started together with us is worth waiting for,
BUS_WAIT_COPY_S: Final = 1.0  # unless there is a copy to serve from.


def tables_of(settings: RouterSettings, gateway: Gateway) -> tuple[Copies, SideBus]:
    """What is served from: the copy on disk, loaded if it is fresh, and the bus that tells it anew."""
    appliers: dict[str, OnChange] = {
        ROUTES: gateway.table.change,
        KEYS: partial(learn_key, gateway.keyring),
        QUOTAS: gateway.quotas.change,
    }

    def on_lost(bucket: str, key: str) -> None:
        if bucket == ROUTES:  # Ours: the control half sees it, and puts it again.
            gateway.table.lose(key)

    copies = Copies(
        settings.tables_path,
        gateway.clock,
        appliers,
        secret=kept_secret(settings.salt_path, SystemEntropy()),
        stale_ms=round(settings.copy_stale_s * SECOND_MS),
        on_lost=on_lost,
    )
    wait_s = BUS_WAIT_COPY_S if copies.load() else BUS_WAIT_S
    bus = SideBus(partial(NatsBus, settings.nats_url, name=Owner.ROUTER), wait_s=wait_s)
    for bucket in appliers:
        bus.watch(bucket, copies.watcher(bucket), copies.loser(bucket))
    return copies, bus


def copies_parts(settings: RouterSettings, copies: Copies, bus: SideBus, *, saves: bool) -> tuple[Part, ...]:
    """What keeps the copy true: the bus, and the snapshot of keys that is pulled beside it."""
    snapshots = key_snapshots_of(settings, copies.take, SystemClock())
    if snapshots is None:
        return (partial(copies.run, bus.connected, bus.is_healthy, saves=saves),)

    def is_told() -> bool:
        return bus.is_healthy() or snapshots.is_fresh()

    return (partial(copies.run, bus.connected, is_told, saves=saves), snapshots.run)
