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
from libs.common.events.route import RoutePublished, RouteWaiting, RouteWithdrawn
from libs.common.events.runtime import CacheWarmed, Replica, ReplicasChanged
from libs.common.events.tables import RouteEntry
from libs.common.reconciler import Delayed
from libs.common.runner import Woke
from libs.common.units import SECOND_MS
from services.router.core import hosts
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
    route = _put_in_effect(route)
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
    match envelope.data:
        case EndpointRequested() as data:
            known = route.facts.of(Fact.REQUESTED)
            is_newest = known is not None and known.generation == envelope.generation
            return replace(route, asked=_endpoint(data)) if is_newest else route
        case EndpointDeletionRequested() | EndpointPauseRequested() as end:
            return _ended(route, envelope.generation, end.drain_deadline_ms)
        case EndpointFailed():
            return _ended(route, envelope.generation, FAILED_DRAIN_MS)
        case CacheWarmed() as warmed:
            return _replicas(route, envelope, warmed.replicas, envelope.generation)
        case ReplicasChanged() as changed:
            return _replicas(route, envelope, changed.replicas, changed.warmed_generation, replacing=changed.replacing)
    return route


def _ended(route: Route, generation: int, drain_ms: int) -> Route:
    """The newest end says how long streams may run; one that follows another may shorten that, never lengthen it."""
    if generation <= route.drain_generation:
        return route
    return replace(route, drain_ms=drain_ms, drain_generation=generation)


def _replicas(
    route: Route, envelope: Envelope, replicas: tuple[Replica, ...], warmed_generation: int, *, replacing: bool = False
) -> Route:
    route = replace(route, warmed_generation=max(route.warmed_generation, warmed_generation))
    if envelope.sequence <= route.replicas_sequence:
        return route
    replicas = tuple(sorted(replicas, key=lambda each: (each.name, each.url)))
    return replace(route, replicas=replicas, replicas_sequence=envelope.sequence, replacing=replacing)


def _put_in_effect(route: Route) -> Route:
    """What was asked for last holds as soon as the runtime is warm for it; until then what held before."""
    generation = route.asked_generation
    if route.asked is None or route.is_ended or not route.endpoint_generation < generation <= route.warmed_generation:
        return route
    return replace(route, endpoint=route.asked, endpoint_generation=generation)


def _endpoint(data: EndpointRequested) -> Endpoint:
    return Endpoint(
        tenant_id=data.tenant_id,
        project_id=data.project_id,
        name=data.name,
        model=data.spec.model,
        tier=data.spec.tier,
        region=data.spec.region,
        limits=data.spec.limits,
        surfaces=data.placement.surfaces,
        interrupted=data.placement.interrupted,
        wakes=data.spec.scaling.idle_to_zero_s is not None,
        adapters=tuple(each.name for each in data.spec.adapters),
        tenancy=data.placement.tenancy,
        hostname=data.spec.hostname,
    )


def _drain(route: Route, now_ms: int) -> Route:
    """The deadline runs from when we first heard; live streams may use it up, new requests may not."""
    if route.stage is not RouteStage.DRAINING:
        return replace(route, drain_deadline_ms=None)
    latest_ms = now_ms + route.drain_ms
    if route.drain_deadline_ms is None or latest_ms < route.drain_deadline_ms:
        return replace(route, drain_deadline_ms=latest_ms)
    return route


def _keep_entry(route: Route, envelope: Envelope, now_ms: int) -> tuple[Route, tuple[Put, ...]]:
    """Put the entry when it changed, and again when the data plane lacks it; delete it likewise."""
    wanted = _wanted(route, now_ms)
    if wanted == route.entry and not _lacks(route, envelope, wanted):
        return route, ()
    value = None if wanted is None else wanted.model_dump_json().encode()
    return replace(route, entry=wanted), (Put(ROUTES, route.endpoint_id, value),)


def _lacks(route: Route, envelope: Envelope, wanted: RouteEntry | None) -> bool:
    """Whether a look at the table, or at the clock, says that it should be told again."""
    data, stage = envelope.data, route.stage
    if stage not in SERVING and stage not in LEAVING:
        return False
    if isinstance(data, RouteSeen):
        # What was just put is still on its way; only a table that had it already can have lost it.
        is_news = stage is RouteStage.PUBLISHED and _is_of(data, route)
        return is_news and (data.is_lost or data.held != wanted)
    return isinstance(data, Woke)


def _wanted(route: Route, now_ms: int) -> RouteEntry | None:
    """What the data plane should hold: the endpoint in effect; that it is paused; or, when it ends or began, nothing.

    What was asked for anew and is not warm yet is found, without replicas unless some still run.
    """
    stage = route.stage
    if stage in SERVING:
        return _entry(route, route.endpoint, now_ms)
    if stage in LEAVING:
        return _entry(route, route.endpoint or route.asked, now_ms) if route.is_paused else None
    if route.entry is None:
        return None
    return route.entry.model_copy(update={"paused": False, "replicas": route.replicas, "replacing": route.replacing})


def _entry(route: Route, endpoint: Endpoint | None, now_ms: int) -> RouteEntry | None:
    if endpoint is None:
        return None
    return RouteEntry(
        endpoint_id=route.endpoint_id,
        tenant_id=endpoint.tenant_id,
        project_id=endpoint.project_id,
        name=endpoint.name,
        generation=route.generation,
        model=endpoint.model,
        tier=endpoint.tier,
        region=endpoint.region,
        replicas=() if route.is_paused else route.replicas,
        published_at_ms=route.entry.published_at_ms if route.entry else now_ms,
        limits=endpoint.limits,
        surfaces=endpoint.surfaces,
        interrupted=endpoint.interrupted,
        paused=route.is_paused,
        wakes=endpoint.wakes,
        adapters=endpoint.adapters,
        tenancy=endpoint.tenancy,
        hostname=endpoint.hostname,
        replacing=route.replacing and not route.is_paused,
    )


def _tell(route: Route, data: Event, url: str) -> tuple[Route, tuple[Event, ...]]:
    """Facts are told from what was seen in the table and from outside, never from what was sent there."""
    if isinstance(data, Delayed):
        return _explain(route, data)
    if not isinstance(data, RouteSeen) or not _is_of(data, route):
        return route, ()
    stage = data.stage  # The route's own, or what was seen says nothing of it.
    if stage is RouteStage.PUBLISHING and _is_seen_serving(data, route):
        assert data.held is not None, "what serves is held"
        told = replace(route, told_published=route.generation, hindered="")
        return told, (RoutePublished(url=hosts.url_at(url, data.held.hostname)),)
    if stage is RouteStage.DRAINING and not data.lets_in and data.is_idle:
        told = replace(route, told_withdrawn=route.generation, drain_deadline_ms=None)
        return told, (RouteWithdrawn(streams_cut=data.streams_cut),)
    return route, ()


def _is_seen_serving(seen: RouteSeen, route: Route) -> bool:
    return seen.held is not None and seen.held.generation == route.generation and seen.is_met_outside


def _explain(route: Route, why: Delayed) -> tuple[Route, tuple[Event, ...]]:
    """Why it is not published yet, when the reason changes; it is the world's word, and tried again by itself."""
    hindered = f"{route.generation} {why.code}"
    if route.stage is not RouteStage.PUBLISHING or route.hindered == hindered:
        return route, ()
    return replace(route, hindered=hindered), (RouteWaiting(reason=why.code, message=why.message),)


def _is_of(seen: RouteSeen, route: Route) -> bool:
    return seen.stage is route.stage and seen.generation == route.generation


def _wake_at_ms(route: Route, now_ms: int) -> int | None:
    """Only what waits for the table to follow; a route in service or gone has no clock."""
    return now_ms + REPUT_MS if route.stage in (RouteStage.PUBLISHING, RouteStage.DRAINING) else None
