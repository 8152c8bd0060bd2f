"""Runtime-deployer, joined: runtimes, and the caches that their fetches fill; a reconciler each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from libs.common.events.capacity import ClusterReady, GpuReady, NodeDraining
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    EndpointRequested,
)
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event, Owner
from libs.common.events.route import RouteWithdrawn, TrafficObserved
from libs.common.events.scale import ScaleDecided
from libs.common.ids import EndpointId
from libs.common.reconciler import News, Reconciler
from libs.common.runner import Owned, Runner, its_subject
from libs.common.service import Service
from libs.common.units import SECOND_MS
from services.runtime_deployer.core import caches
from services.runtime_deployer.core.caches import CACHE, Cache
from services.runtime_deployer.core.canary import answered
from services.runtime_deployer.core.decide import decider
from services.runtime_deployer.core.lifecycle import Stage, attention_of, stage_of
from services.runtime_deployer.core.observed import Observed
from services.runtime_deployer.core.plan import plan
from services.runtime_deployer.core.state import RUNTIME, Runtime
from services.runtime_deployer.core.templates import Template
from services.runtime_deployer.core.using import news_for_caches
from services.runtime_deployer.core.weights import Weights
from services.runtime_deployer.shell.ports import Ports

LIVE: Final = "live"
REMOVED: Final = "removed"
CACHES_EVERY_MS: Final = 30 * SECOND_MS  # Whether they are there; nobody pays for a minute of one that is not.

ABOUT_ONE: Final = (
    EndpointRequested,
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    ClusterReady,
    GpuReady,
    RouteWithdrawn,
    ScaleDecided,
)


def those_on_the_node(envelope: Envelope) -> Sequence[str]:
    """Whose pods are to move: of a cluster that is shared the event names them, else it is about one."""
    assert isinstance(envelope.data, NodeDraining)
    return (envelope.subject,) if envelope.data.endpoints is None else envelope.data.endpoints


HEARS: Final[Mapping[type[Event], Callable[[Envelope], Sequence[str] | Mapping[str, Event]]]] = MappingProxyType(
    {**dict.fromkeys(ABOUT_ONE, its_subject), NodeDraining: those_on_the_node, TrafficObserved: answered}
)


OWNED_CACHES: Final = Owned(
    kind=CACHE,
    state=Cache,
    empty=Cache,
    decide=caches.decide,
    hears={},
    scope=caches.scope_of,
    attention=caches.attention_of,
)


def build(ports: Ports) -> Service:
    """The service on these ports."""
    runner = Runner(owned(ports.templates, ports.weights), store=ports.store, clock=ports.clock)
    cached = Runner(OWNED_CACHES, store=ports.store, clock=ports.clock)

    def passes_on(runtime: Runtime, observed: Observed) -> News:
        news = news_for_caches(runtime, observed)
        return [(cached, key, news[key]) for key in sorted(news)]

    reconciler = Reconciler(
        runner,
        ports.clusters,
        plan,
        store=ports.store,
        clock=ports.clock,
        resync_ms=ports.resync_ms,
        passes_on=passes_on,
    )
    watch = Reconciler(
        cached, ports.caches, caches.plan, store=ports.store, clock=ports.clock, resync_ms=CACHES_EVERY_MS
    )
    return Service(Owner.RUNTIME_DEPLOYER, ports.store, (runner, cached), (reconciler, watch))


def owned(templates: Mapping[str, Template], weights: Mapping[str, Weights]) -> Owned[Runtime]:
    """What runs for an endpoint."""
    return Owned(
        kind=RUNTIME,
        state=Runtime,
        empty=lambda key: Runtime(EndpointId(key)),
        decide=decider(templates, weights),
        hears=HEARS,
        scope=lambda runtime: REMOVED if stage_of(runtime) is Stage.REMOVED else LIVE,
        attention=attention_of,
    )
