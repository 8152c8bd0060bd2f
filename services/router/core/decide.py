"""What the router decides of a route: when it is put up, when it is said to serve, when it is said to be gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from libs.common.bus.streams import ROUTES
from libs.common.decision import Decision, Put
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    EndpointRequested,
)
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.events.facts import Fact
from libs.common.events.route import RoutePublished, RouteWithdrawn
from libs.common.events.runtime import CacheWarmed, ReplicasChanged
from libs.common.events.tables import RouteEntry
from libs.common.runner import Woke
from libs.common.units import SECOND_MS
from services.router.core.lifecycle import LEAVING, SERVING, RouteStage
from services.router.core.state import Endpoint, Route, RouteSeen

FAILED_DRAIN_MS: Final = 5 * SECOND_MS  # A failed endpoint may still finish an answer or two; nobody asked for longer.
REPUT_MS: Final = 5 * SECOND_MS  # A put is durable; said again only for a bucket that lost it.


def decide(route: Route, envelope: Envelope, now_ms: int, *, url: str) -> Decision[Route]:
    """Take in one event and say what follows; any order, any repeat."""
    heard = envelope.heard()
    if heard is not None:
        route = replace(route, facts=route.facts.learn(heard))
    route = _learn(route, envelope)
    route = _drain(route, now_ms)
    route, puts = _keep_entry(route, envelope, now_ms)
    route, events = _tell(route, envelope.data, url)
    return Decision(
        route,
        events=events,
        generation=route.generation,
        puts=puts,
        wake_at_ms=_wake_at_ms(route, now_ms),
    )


def _learn(route: Route, envelope: Envelope) -> Route:
    data = envelope.data
    if isinstance(data, EndpointRequested | EndpointDeletionRequested | EndpointPauseRequested | EndpointFailed):
        route = replace(route, generation=max(route.generation, envelope.generation))
    if isinstance(data, EndpointRequested):
        known = route.facts.of(Fact.REQUESTED)
        if known is not None and known.generation == envelope.generation:
            route = replace(route, endpoint=_endpoint(data))
    elif isinstance(data, EndpointDeletionRequested | EndpointPauseRequested):
        route = replace(route, drain_ms=data.drain_deadline_ms)
    elif isinstance(data, EndpointFailed):
        route = replace(route, drain_ms=route.drain_ms or FAILED_DRAIN_MS)
    elif isinstance(data, CacheWarmed | ReplicasChanged) and envelope.sequence > route.replicas_sequence:
        replicas = tuple(sorted(data.replicas, key=lambda each: (each.name, each.url)))
        route = replace(route, replicas=replicas, replicas_sequence=envelope.sequence)
    return route


def _endpoint(data: EndpointRequested) -> Endpoint:
    return Endpoint(
        tenant_id=data.tenant_id,
        project_id=data.project_id,
        name=data.name,
        model=data.spec.model,
        tier=data.spec.tier,
        region=data.spec.region,
    )


def _drain(route: Route, now_ms: int) -> Route:
    """The deadline runs from when we first heard; live streams may use it up, new requests may not."""
    if route.stage is not RouteStage.DRAINING:
        return replace(route, drain_deadline_ms=None)
    if route.drain_deadline_ms is None:
        return replace(route, drain_deadline_ms=now_ms + route.drain_ms)
    return route


def _keep_entry(route: Route, envelope: Envelope, now_ms: int) -> tuple[Route, tuple[Put, ...]]:
    """Put the entry when it changed, and again when the data plane lacks it; delete it likewise."""
    if route.stage in SERVING:
        wanted = _wanted(route, now_ms)
        if wanted != route.entry or _lacks(route, envelope, wanted):
            put = Put(ROUTES, route.endpoint_id, wanted.model_dump_json().encode())
            return replace(route, entry=wanted), (put,)
    elif route.stage in LEAVING and (route.entry is not None or _lacks(route, envelope, None)):
        return replace(route, entry=None), (Put(ROUTES, route.endpoint_id, None),)
    return route, ()


def _lacks(route: Route, envelope: Envelope, wanted: RouteEntry | None) -> bool:
    """Whether a look at the table, or at the clock, says that it should be told again."""
    data = envelope.data
    if isinstance(data, RouteSeen):
        # What was just put is still on its way; only a table that had it already can have lost it.
        return route.stage is RouteStage.PUBLISHED and _is_of(data, route) and data.held != wanted
    return isinstance(data, Woke)


def _wanted(route: Route, now_ms: int) -> RouteEntry:
    endpoint = route.endpoint
    assert endpoint is not None, f"{route.endpoint_id} is to be served, so it was asked for"
    return RouteEntry(
        endpoint_id=route.endpoint_id,
        tenant_id=endpoint.tenant_id,
        project_id=endpoint.project_id,
        name=endpoint.name,
        generation=route.generation,
        model=endpoint.model,
        tier=endpoint.tier,
        region=endpoint.region,
        replicas=route.replicas,
        published_at_ms=route.entry.published_at_ms if route.entry else now_ms,
    )


def _tell(route: Route, data: Event, url: str) -> tuple[Route, tuple[Event, ...]]:
    """Facts are told from what was seen in the table, never from what was sent to it."""
    if not isinstance(data, RouteSeen) or not _is_of(data, route):
        return route, ()
    if route.stage is RouteStage.PUBLISHING and data.held is not None and data.held.generation == route.generation:
        return replace(route, told_published=route.generation), (RoutePublished(url=url),)
    if route.stage is RouteStage.DRAINING and data.held is None and data.is_idle:
        told = replace(route, told_withdrawn=route.generation, drain_deadline_ms=None)
        return told, (RouteWithdrawn(streams_cut=data.streams_cut),)
    return route, ()


def _is_of(seen: RouteSeen, route: Route) -> bool:
    return seen.stage is route.stage and seen.generation == route.generation


def _wake_at_ms(route: Route, now_ms: int) -> int | None:
    """Only what waits for the table to follow; a route in service or gone has no clock."""
    return now_ms + REPUT_MS if route.stage in (RouteStage.PUBLISHING, RouteStage.DRAINING) else None
