"""One router among those of several hosts: its parts, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from libs.common.bus.streams import CONFIRMED, HOSTS, ROUTES
from libs.common.clock import Clock
from libs.common.events.usage import UsageConfirmed
from services.router.shell import metrics
from services.router.shell.hosts.confirming import Confirmed, Confirming
from services.router.shell.hosts.others import Hosts, HostsTable
from services.router.shell.hosts.saying import Sayings
from services.router.shell.ports import DataPlane
from services.router.shell.settings import Role
from services.router.shell.told.side_bus import SideBus

Part = Callable[[], Awaitable[None]]


class AmongHosts:
    """In the first worker of each host. ``own`` is the data plane of this host, ``endpoints`` what it may serve.

    One that is alone tells nobody anything, and hears nobody.
    """

    def __init__(
        self,
        own: DataPlane,
        endpoints: Callable[[], tuple[str, ...]],
        clock: Clock,
        bus: SideBus,
        *,
        role: Role,
        instance: str,
        boot_id: str,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._own = own
        self._bus = bus
        self._role = role
        self.confirm: Callable[[UsageConfirmed], object] = lambda _told: None  # What to do with what is for this host.
        self._confirming = Confirming(instance=instance, boot_id=boot_id, loop=loop)
        hosts = Hosts(instance, loop.time, self._cut)
        table = HostsTable(own, hosts, loop.time)
        self._sayings = Sayings(own, endpoints, clock, instance=instance, boot_id=boot_id, cutting=table.cutting)
        self.data_plane: DataPlane = own if role is Role.ALONE else table
        if role is not Role.ALONE:
            bus.watch(HOSTS, hosts.change)
            metrics.HOSTS_HEARD.set_function(hosts.heard)
            bus.watch(ROUTES, self._sayings.note)
        if role is Role.OTHER:
            bus.watch(CONFIRMED, Confirmed(instance, lambda told: self.confirm(told)).change)

    def forward(self, told: UsageConfirmed) -> None:
        """Pass on a confirmation that is not for this host."""
        if self._role is Role.FIRST:
            self._confirming.forward(told)

    def parts(self) -> tuple[Part, ...]:
        """What runs beside the data plane."""
        if self._role is Role.ALONE:
            return ()
        saying = partial(self._sayings.run, self._bus.publish)
        return (saying, partial(self._confirming.run, self._bus.publish)) if self._role is Role.FIRST else (saying,)

    def joined(self, serve: Part) -> Part:
        """``serve``, when the first host knows that it has to wait for our word; without a bus it can't."""

        async def join_and_serve() -> None:
            if self._role is not Role.ALONE:
                await self._sayings.say(self._bus.publish)
            await serve()

        return join_and_serve

    async def leave(self) -> None:
        """It serves no more: the others need not wait for its word."""
        if self._role is not Role.ALONE:
            await self._bus.publish([self._sayings.farewell()])

    def _cut(self, endpoint_id: str) -> None:
        """The first host's word. What lets requests in is no longer what it spoke of."""
        held = self._own.held(endpoint_id)
        if held is None or held.paused:
            self._own.cut(endpoint_id)
