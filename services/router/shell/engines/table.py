"""The data plane's own table of routes, and what runs on each: what new requests see, and what the control half asks.

Changes come from the bus, in any thread; requests look from the event loop. One short lock makes "is it routed?" and
"one more is running" a single step, so that a withdrawn route without live requests stays without.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from pydantic import ValidationError

from libs.common.events.tables import RouteEntry
from libs.common.telemetry.logging import fields
from services.router.shell import metrics
from services.router.shell.engines.target import Cuttable, Target

log = logging.getLogger(__name__)


class RouteTable:
    """The routes that are served, and the requests that run on them.

    ``post`` runs something in the event loop; without one (a simulation) it is run at once. ``salt_of`` says what keeps
    a tenant's prefixes apart in the engines' caches; nothing, in a simulation.
    """

    def __init__(self, salt_of: Callable[[str], str] = lambda _tenant_id: "") -> None:
        self._salt_of = salt_of
        self._lock = threading.Lock()
        self._targets: dict[str, Target] = {}
        self._bearers: dict[tuple[str, str, str], dict[str, Target]] = {}
        self._by_name: dict[tuple[str, str, str], Target] = {}  # Of the bearers of a name the one put up last.
        self.by_host: dict[str, Target] = {}  # By the host names that tenants gave them.
        self._running: dict[str, set[Cuttable]] = {}
        self._cut: dict[str, int] = {}
        self._lost: set[str] = set()
        self.edition = object()  # Another one after each change: what was found in the same one need not be looked up.
        self.post: Callable[[Callable[[], None]], object] = lambda job: job()
        self.on_change: Callable[[Target, bool], None] = lambda _target, _is_routed: None  # In the event loop.
        self.seed = 0  # What chance begins with: another one in each process, so that they do not choose alike.

    def change(self, endpoint_id: str, value: bytes | None) -> None:
        """A key of the `routes` bucket was set or deleted. A value that we can't read changes nothing."""
        self._lost.discard(endpoint_id)
        try:
            entry = None if value is None else RouteEntry.model_validate_json(value)
        except ValidationError:
            log.warning("route entry is unreadable; kept the one before", extra=fields(endpoint_id=endpoint_id))
            return
        with self._lock:
            target = self._targets.pop(endpoint_id, None)
            if target is not None:
                self._name(target.entry, None)
                self._move(target, target.entry.hostname, entry.hostname if entry else "")
            if entry is not None:
                if target is None:
                    running = self._running.setdefault(endpoint_id, set())
                    salt = self._salt_of(entry.tenant_id)
                    target = Target(entry, seed=self.seed, cache_salt=salt, running=running)
                    self._move(target, "", entry.hostname)
                else:
                    target.change(entry)
                self._targets[endpoint_id] = target
                self._name(entry, target)
            elif not self._running.get(endpoint_id):
                self._running.pop(endpoint_id, None)
            count, self.edition = len(self._targets), object()
        metrics.ROUTES.set(count)
        if target is not None:
            changed, is_routed = target, entry is not None
            self.post(lambda: self.on_change(changed, is_routed))

    def _name(self, entry: RouteEntry, target: Target | None) -> None:
        """The endpoint bears this name, or no longer. Should two for a moment, one of them is on its way out."""
        name = (entry.tenant_id, entry.project_id, entry.name)
        bearers = self._bearers.setdefault(name, {})
        if target is None:
            bearers.pop(entry.endpoint_id, None)
        else:
            bearers[entry.endpoint_id] = target
        if bearers:
            last = max(bearers.values(), key=lambda each: (each.entry.published_at_ms, each.entry.endpoint_id))
            self._by_name[name] = last
        else:
            del self._bearers[name]
            self._by_name.pop(name, None)

    def _move(self, target: Target, was: str, hostname: str) -> None:
        """It is called by another host name. One that left it to another endpoint can't take it back by this."""
        if was == hostname:
            return
        if self.by_host.get(was) is target:
            del self.by_host[was]
        if hostname:
            self.by_host[hostname] = target

    def find(self, *, tenant_id: str, project_id: str, name: str) -> RouteEntry | None:
        """The route that this name has for this project."""
        with self._lock:
            target = self._by_name.get((tenant_id, project_id, name))
        return target.entry if target else None

    def of_project(self, *, tenant_id: str, project_id: str) -> list[RouteEntry]:
        """The routes of a project that may serve."""
        with self._lock:
            return [
                each.entry
                for each in self._targets.values()
                if (each.entry.tenant_id, each.entry.project_id) == (tenant_id, project_id) and not each.entry.paused
            ]

    def enter(self, request: Cuttable, *, tenant_id: str, project_id: str, name: str) -> Target | None:
        """Count ``request`` as running on the endpoint of that name; None if there is none.

        One that is paused lets nothing in: it is found, and the request is not counted.
        """
        with self._lock:
            target = self._by_name.get((tenant_id, project_id, name))
            if target is not None and not target.entry.paused:
                target.running.add(request)
        return target

    def enter_again(self, request: Cuttable, target: Target, edition: object) -> bool:
        """Count it as running where one like it was let in; False, and nothing, if that was in another edition."""
        with self._lock:
            if edition is not self.edition:
                return False
            target.running.add(request)
        return True

    def leave(self, request: Cuttable, endpoint_id: str) -> None:
        """It runs no longer."""
        with self._lock:
            running = self._running.get(endpoint_id)
            if running is not None:
                running.discard(request)
                if not running and endpoint_id not in self._targets:
                    del self._running[endpoint_id]

    def held(self, endpoint_id: str) -> RouteEntry | None:
        """The route as requests see it."""
        target = self._targets.get(endpoint_id)
        return target.entry if target else None

    def endpoints(self) -> tuple[str, ...]:
        """Whose routes there are, or whose requests run still."""
        with self._lock:
            return (*self._targets, *(each for each in self._running if each not in self._targets))

    def lose(self, endpoint_id: str) -> None:
        """The bucket lost it: it is served on, and whoever owns the route is to put it again."""
        self._lost.add(endpoint_id)

    def is_lost(self, endpoint_id: str) -> bool:
        """Whether the bucket lost the route."""
        return endpoint_id in self._lost

    def targets(self) -> list[Target]:
        """Every route, as requests see it."""
        return list(self._targets.values())

    def live(self, endpoint_id: str) -> int:
        """How many requests run on the endpoint."""
        with self._lock:
            return len(self._running.get(endpoint_id, ()))

    def unbilled_tokens(self, endpoint_id: str) -> int:
        """What clients of the endpoint have got of answers that still run."""
        with self._lock:
            running = list(self._running.get(endpoint_id, ()))
        return sum(each.unbilled_tokens() for each in running)

    def live_total(self) -> int:
        """How many requests run."""
        with self._lock:
            return sum(len(each) for each in self._running.values())

    def streams_cut(self, endpoint_id: str) -> int:
        """How many were cut."""
        return self._cut.get(endpoint_id, 0)

    def cut(self, endpoint_id: str) -> None:
        """End what runs on the endpoint."""
        self.post(lambda: self._cut_now(endpoint_id))

    def cut_all(self) -> None:
        """End everything that runs: the process is going."""
        for endpoint_id in list(self._running):
            self.cut(endpoint_id)

    def _cut_now(self, endpoint_id: str) -> None:
        with self._lock:
            running = list(self._running.get(endpoint_id, ()))
        for each in running:
            self._cut[endpoint_id] = self._cut.get(endpoint_id, 0) + 1
            each.cut()
