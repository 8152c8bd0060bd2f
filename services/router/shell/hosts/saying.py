"""What a host says of itself: from what it serves, and what it still runs of what lets nobody in any more."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Final

from libs.common.bus.port import Message, bucket_delete, bucket_put
from libs.common.bus.streams import HOSTS
from libs.common.clock import Clock
from libs.common.events.tables import HostEntry, HostRoute, RouteEntry
from libs.common.units import SECOND_MS
from services.router.shell.ports import DataPlane
from services.router.shell.told.usage import PublishLater
from services.router.shell.workers.team import mark_of

LOOK_S: Final = 0.2
AGAIN_MS: Final = 2 * SECOND_MS
KEPT_MS: Final = 30 * SECOND_MS  # How long what ended is told of: the first host has to learn how much was cut.


class Sayings:
    """Makes the entry of this host; ``cutting``, where it has the control half, is what all are to end."""

    def __init__(
        self,
        data_plane: DataPlane,
        endpoints: Callable[[], Iterable[str]],
        clock: Clock,
        *,
        instance: str,
        boot_id: str,
        cutting: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._data_plane = data_plane
        self._endpoints = endpoints
        self._clock = clock
        self._instance = instance
        self._boot_id = boot_id
        self._cutting = cutting
        self._count = itertools.count()
        self._known: dict[str, int] = {}  # When something of each was served or ran the last time.
        self._marks: dict[str, tuple[RouteEntry, int]] = {}
        self._said: HostEntry | None = None
        self._is_over = False

    def note(self, endpoint_id: str, _value: bytes | None) -> None:
        """A route changed: it may be gone before we look, and a request of it run on. The watch's, in the loop."""
        self._known.setdefault(endpoint_id, self._clock.now_ms())

    def next(self) -> Message | None:
        """What is to be said now; None if it was said."""
        if self._is_over:
            return None
        entry, said = self._entry(), self._said
        if said is not None and entry.at_ms - said.at_ms < AGAIN_MS and _content(entry) == _content(said):
            return None
        self._said = entry
        return bucket_put(
            bucket=HOSTS, key=self._instance, value=entry.model_dump_json().encode(), id=self._id(next(self._count))
        )

    def farewell(self) -> Message:
        """It goes, and nothing of it runs: its last word."""
        self._is_over = True
        return bucket_delete(bucket=HOSTS, key=self._instance, id=self._id(next(self._count)))

    async def say(self, publish: PublishLater) -> None:
        """Say what is to be said. What the bus did not take is so still."""
        message = self.next()
        if message is not None and not await publish([message]):
            self._said = None

    async def run(self, publish: PublishLater) -> None:
        """Say until cancelled."""
        while True:
            await self.say(publish)
            await asyncio.sleep(LOOK_S)

    def _id(self, number: int) -> str:
        return f"{self._instance}|{self._boot_id}|host|{number}"

    def _entry(self) -> HostEntry:
        now_ms, routes = self._clock.now_ms(), {}
        for endpoint_id in sorted({*self._endpoints(), *self._known}):
            route = self._route(endpoint_id)
            if route.mark or route.live:
                self._known[endpoint_id] = now_ms
            elif now_ms - self._known.setdefault(endpoint_id, now_ms) > KEPT_MS:
                del self._known[endpoint_id]
                continue
            routes[endpoint_id] = route
        return HostEntry(
            instance=self._instance, boot_id=self._boot_id, at_ms=now_ms, routes=routes, cutting=self._cutting()
        )

    def _route(self, endpoint_id: str) -> HostRoute:
        held = self._data_plane.held(endpoint_id)  # Before `live`: what is not let in any more can't begin.
        if held is not None and not held.paused:
            return HostRoute(mark=self._mark(endpoint_id, held), lets_in=True)
        return HostRoute(
            mark=self._mark(endpoint_id, held),
            lets_in=False,
            live=self._data_plane.live(endpoint_id),
            cut=self._data_plane.streams_cut(endpoint_id),
        )

    def _mark(self, endpoint_id: str, held: RouteEntry | None) -> int:
        if held is None:
            self._marks.pop(endpoint_id, None)
            return 0
        known = self._marks.get(endpoint_id)
        if known is None or known[0] is not held:
            self._marks[endpoint_id] = known = (held, mark_of(held))
        return known[1]


def _content(entry: HostEntry) -> tuple[dict[str, HostRoute], tuple[str, ...]]:
    return entry.routes, entry.cutting
