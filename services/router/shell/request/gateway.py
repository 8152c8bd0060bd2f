"""What a request needs beside its connection: keys, routes, journal, engines, limits of time; one per process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from libs.common.client_address import client_address
from libs.common.clock import Clock
from libs.common.events.tables import KeyEntry
from libs.common.key_use import KeyUse
from libs.common.keys import Keyring, Network
from services.router.core import balancing, refusals
from services.router.core.hosts import endpoint_of, name_in
from services.router.core.http_rules import Head
from services.router.core.limits import MinuteLimits
from services.router.core.load import LoadMeter
from services.router.core.room import Room
from services.router.shell.edge.arrivals import Arrivals
from services.router.shell.engines.table import RouteTable
from services.router.shell.engines.target import Target
from services.router.shell.engines.upstream import Pool
from services.router.shell.engines.waiting import Places, WaitingRoom
from services.router.shell.limits.budgets import Budgets
from services.router.shell.limits.quotas import QuotaTable
from services.router.shell.ports import Limiter, UsageJournal
from services.router.shell.request.account import Account, Books
from services.router.shell.request.standing import Standings
from services.router.shell.seen.outcomes import outcomes
from services.router.shell.settings import RouterSettings

SCOPE: Final = "inference"
Probed = Callable[[str, int], KeyEntry | None]  # What a key of routers themselves may see now; of any other nothing.


@dataclass(frozen=True, slots=True)
class Limits:
    """How long we wait for an engine, and for a client that does not read; how much a replica may have to do."""

    connect_s: float = 1.0
    first_byte_s: float = 30.0
    idle_s: float = 60.0
    total_s: float = 600.0
    places: Places = field(default_factory=Places)

    @staticmethod
    def of(settings: RouterSettings) -> Limits:
        """As an operator set them."""
        return Limits(
            connect_s=settings.connect_timeout_s,
            first_byte_s=settings.first_byte_timeout_s,
            idle_s=settings.idle_timeout_s,
            total_s=settings.total_timeout_s,
            places=Places(
                outstanding_max=settings.replica_requests_max,
                queue_s=settings.queue_s,
                wake_s=settings.wake_s,
                rules=balancing.Rules(zone=settings.zone),
            ),
        )


class Gateway:
    """The data plane's shared parts. Made in the running event loop."""

    def __init__(
        self,
        *,
        keyring: Keyring | None = None,
        table: RouteTable,
        journal: UsageJournal,
        clock: Clock,
        boot_id: str,
        limits: Limits | None = None,
        trusted: tuple[Network, ...] = (),
    ) -> None:
        self.keyring = keyring or Keyring()
        self.table = table
        self.journal = journal
        self.clock = clock
        self.limits = limits or Limits()
        self.quotas = QuotaTable(self.keyring)
        self.standings = Standings(table, self.quotas)
        self.limiter: Limiter = MinuteLimits()
        self.budgets: Budgets | None = None  # None: nobody grants slices, as in a test of the data plane alone.
        self.trusted = trusted
        self.books = Books(clock)
        self.probed: Probed = lambda _key, _now_ms: None
        self.domain = ""  # Below it, each endpoint has an address of its own; empty: none has.
        self.key_use = KeyUse()
        self.load = LoadMeter(clock.now_ms(), partial(outcomes, table))
        self.pool = Pool(connect_timeout_s=self.limits.connect_s)
        self.on_finished: Callable[[], None] = lambda: None  # A bill was written: the sender may look.
        self.is_stopping = False
        self.tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self.now_s: Callable[[], float] = self._loop.time  # For durations.
        self._boot_id = boot_id
        self._counter = itertools.count(1)
        self._refused = 0
        self.room = Room()
        self.arrivals = Arrivals(self._loop, f"req-{boot_id}-", self._counter)
        self.waiting = WaitingRoom(self.limits.places, self.now_s)
        table.post = self._loop.call_soon_threadsafe
        table.on_change = self._route_changed

    def _route_changed(self, target: Target, is_routed: bool) -> None:
        if is_routed and target.entry.wakes:
            self.load.introduce(target.entry.endpoint_id)
        self.waiting.changed(target, is_routed)

    def named(self, host: str, key: KeyEntry) -> str:
        """The endpoint that a Host header names; empty if it names none. Raises HttpRefusal if it is not the key's."""
        at = self.table.by_host.get(name_in(host))
        if at is None:
            return endpoint_of(host, self.domain)
        if (at.entry.tenant_id, at.entry.project_id) != (key.tenant_id, key.project_id):
            raise refusals.model_not_found(name_in(host))
        return at.entry.name

    def request_id(self) -> str:
        """A new id: unique by boot and count, so that nothing need be drawn."""
        return f"req-{self._boot_id}-{next(self._counter):x}"

    def retry_after_s(self, refusal: refusals.HttpRefusal) -> int | None:
        """When its client should ask again: not all at once."""
        self._refused += 1
        return refusals.spread(refusal, draw=balancing.drawn(self.table.seed, self._refused))

    def stranger(self, head: Head | None) -> Account:
        """What will be told of what ends at its ``head``, or before it could be read: no trace, whoever asks for it."""
        request_id, client_id = self.request_id(), "" if head is None else head.request_id
        return Account(self.books, self.clock.now_ms(), self.now_s(), request_id, client_id or request_id, None)

    def account(self, head: Head, now_ms: int | None = None) -> Account:
        """What will be told of a request that came ``now_ms``."""
        began_ms = self.clock.now_ms() if now_ms is None else now_ms
        request_id = f"req-{self._boot_id}-{next(self._counter):x}"
        tracer, traceparent = self.books.tracer, head.traceparent
        trace = tracer.begin(traceparent) if traceparent or tracer.is_on else None
        return Account(self.books, began_ms, self.now_s(), request_id, head.request_id or request_id, trace)

    def admit(self, bearer: str, peer: str = "", forwarded_for: str = "", *, looks: bool = False) -> KeyEntry:
        """Whose key it is, if it may be used from there; to look, one of ours does. Raises HttpRefusal."""
        address = client_address(peer, forwarded_for, self.trusted)
        now_ms = self.clock.now_ms()
        key = self.keyring.check(bearer, now_ms=now_ms, address=address)
        if key is None:
            key = self.probed(bearer, now_ms) if looks else None
            if key is None:
                raise refusals.invalid_key()
            return key  # A router's own look: no use of anybody's key.
        if SCOPE not in key.scopes:
            raise refusals.scope_missing()
        self.key_use.note(key.key_id, now_ms)
        return key
