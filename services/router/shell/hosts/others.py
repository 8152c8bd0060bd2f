"""The data planes of all hosts, as the control half on the first of them sees it.

A route is held when every host holds the same, and gone when none lets anybody in: as among the workers of one host
(`shell/workers/team.py`), but over the bus. A host that was silent for `SILENT_S` counts no more: it is gone, or cut
off, and serves from its copy what it may; its requests end with the engines they run on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from libs.common.events.tables import HostEntry, HostRoute, RouteEntry
from services.router.shell.ports import DataPlane
from services.router.shell.told.entries import entry_of
from services.router.shell.workers.team import mark_of

SILENT_S: Final = 15.0  # Seven of its words: longer than a broker takes to come back.
CUTTING_S: Final = 5.0  # How long a cut is told of; the control half asks for it again until nothing runs.
NOTHING: Final = HostRoute(mark=0, lets_in=False)


class Hosts:
    """What the other hosts said last. `change` is the watch's, in the event loop; `of` may be asked in any thread."""

    def __init__(self, instance: str, now_s: Callable[[], float], on_cut: Callable[[str], object]) -> None:
        self._instance = instance
        self._now_s = now_s
        self._on_cut = on_cut
        self._said: dict[str, tuple[HostEntry, float]] = {}

    def change(self, key: str, value: bytes | None) -> None:
        """A host said something, or said farewell."""
        if key == self._instance:
            return
        if value is None:
            self._said.pop(key, None)
            return
        entry = entry_of(HostEntry, key, value, otherwise="a host's word is unreadable; kept the one before")
        if entry is None:
            return
        self._said[key] = (entry, self._now_s())
        for endpoint_id in entry.cutting:
            self._on_cut(endpoint_id)

    def of(self, endpoint_id: str) -> list[HostRoute]:
        """What each that is there serves of the endpoint."""
        return [entry.routes.get(endpoint_id, NOTHING) for entry in self._there()]

    def heard(self) -> int:
        """How many are there."""
        return len(self._there())

    def _there(self) -> list[HostEntry]:
        since_s = self._now_s() - SILENT_S
        return [entry for entry, at_s in [*self._said.values()] if at_s > since_s]


class HostsTable:
    """The `DataPlane` of all hosts; ``own`` is that of this one."""

    def __init__(self, own: DataPlane, hosts: Hosts, now_s: Callable[[], float]) -> None:
        self._own = own
        self._hosts = hosts
        self._now_s = now_s
        self._cut_s: dict[str, float] = {}

    def held(self, endpoint_id: str) -> RouteEntry | None:
        """The route, if every host holds the same; as long as they differ, one of no generation that lets in."""
        own, others = self._own.held(endpoint_id), self._hosts.of(endpoint_id)
        if own is None:
            return _some_route(endpoint_id) if any(each.lets_in for each in others) else None
        mark = mark_of(own)
        return own if all(each.mark == mark for each in others) else _some_route(endpoint_id)

    def is_lost(self, endpoint_id: str) -> bool:
        """Whether the bus lost the route that our table still has; each host watches the same bucket."""
        return self._own.is_lost(endpoint_id)

    def live(self, endpoint_id: str) -> int:
        """How many requests run on the endpoint, on all hosts."""
        return self._own.live(endpoint_id) + sum(each.live for each in self._hosts.of(endpoint_id))

    def streams_cut(self, endpoint_id: str) -> int:
        """How many were cut, on all hosts."""
        return self._own.streams_cut(endpoint_id) + sum(each.cut for each in self._hosts.of(endpoint_id))

    def cut(self, endpoint_id: str) -> None:
        """End what runs on the endpoint, everywhere."""
        self._own.cut(endpoint_id)
        self._cut_s[endpoint_id] = self._now_s()

    def cutting(self) -> tuple[str, ...]:
        """What the others are to end."""
        since_s = self._now_s() - CUTTING_S
        self._cut_s = {each: at_s for each, at_s in [*self._cut_s.items()] if at_s > since_s}
        return tuple(sorted(self._cut_s))


def _some_route(endpoint_id: str) -> RouteEntry:
    return RouteEntry(
        endpoint_id=endpoint_id, tenant_id="", project_id="", name="", generation=0, model="", tier="", region="",
        replicas=(), published_at_ms=0,
    )  # fmt: skip
