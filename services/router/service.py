"""Joins the router's core to its ports: the routes it owns, and the confirmations it waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    EndpointRequested,
)
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event, Owner
from libs.common.events.runtime import CacheWarmed, ReplicasChanged
from libs.common.events.usage import UsageConfirmed
from libs.common.reconciler import Reconciler
from libs.common.runner import Owned, Runner, its_subject
from libs.common.service import Service
from libs.common.store.port import Attention
from libs.common.units import SECOND_MS
from services.router.core.decide import decide
from services.router.core.lifecycle import RouteStage
from services.router.core.plan import plan
from services.router.core.state import Route
from services.router.shell import metrics
from services.router.shell.ports import Ports, UsageJournal
from services.router.shell.world import RoutesInPlace

HEARS: Final[tuple[type[Event], ...]] = (
    EndpointRequested,
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    CacheWarmed,
    ReplicasChanged,
)
ATTENTION: Final[Mapping[RouteStage, Attention]] = {
    RouteStage.PUBLISHING: Attention.NOW,
    RouteStage.PUBLISHED: Attention.WATCH,
    RouteStage.DRAINING: Attention.NOW,
}


@dataclass(frozen=True, slots=True)
class RouterService(Service):
    """A service that also hears what the ledger confirms; that concerns its journal, not a record."""

    journal: UsageJournal | None = None
    instance: str = ""
    forward: Callable[[UsageConfirmed], object] = lambda _told: None

    def handle(self, envelope: Envelope) -> None:
        """Apply an event. Raises Unavailable if the journal does not answer; the confirmation then comes again."""
        if isinstance(envelope.data, UsageConfirmed):
            self.confirmed(envelope.data)
        else:
            Service.handle(self, envelope)

    def confirmed(self, told: UsageConfirmed) -> None:
        """The ledger has these requests. Raises as `handle`."""
        assert self.journal is not None
        if told.instance == self.instance:
            metrics.CONFIRMED.inc(self.journal.confirm(told.request_ids))
        else:  # Another worker's, or another host's.
            self.forward(told)


def owned_routes(public_url: str) -> Owned[Route]:
    """Routes as the runner keeps them."""
    return Owned(
        kind="route",
        state=Route,
        empty=Route,
        decide=partial(decide, url=public_url),
        hears=dict.fromkeys(HEARS, its_subject),
        attention=lambda route: ATTENTION.get(route.stage, Attention.NONE),
    )


def build(ports: Ports, *, resync_ms: int = 5 * SECOND_MS) -> RouterService:
    """The router's control half over these ports."""
    runner = Runner(owned_routes(ports.public_url), store=ports.store, clock=ports.clock)
    reconciler = Reconciler(
        runner,
        RoutesInPlace(ports.data_plane, ports.outside),
        plan,
        store=ports.store,
        clock=ports.clock,
        resync_ms=resync_ms,
    )
    return RouterService(
        name=Owner.ROUTER,
        store=ports.store,
        runners=(runner,),
        reconcilers=(reconciler,),
        journal=ports.journal,
        instance=ports.instance,
    )
