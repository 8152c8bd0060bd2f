"""Runtime-deployer, joined: one kind of thing, one reconciler."""

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
from libs.common.reconciler import Reconciler
from libs.common.runner import Owned, Runner, its_subject
from libs.common.service import Service
from services.runtime_deployer.core.canary import answered
from services.runtime_deployer.core.decide import decider
from services.runtime_deployer.core.lifecycle import Stage, attention_of, stage_of
from services.runtime_deployer.core.plan import plan
from services.runtime_deployer.core.state import RUNTIME, Runtime
from services.runtime_deployer.core.templates import Template
from services.runtime_deployer.core.weights import Weights
from services.runtime_deployer.shell.ports import Ports

LIVE: Final = "live"
REMOVED: Final = "removed"

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


def build(ports: Ports) -> Service:
    """The service on these ports."""
    runner = Runner(owned(ports.templates, ports.weights), store=ports.store, clock=ports.clock)
    reconciler = Reconciler(
        runner, ports.clusters, plan, store=ports.store, clock=ports.clock, resync_ms=ports.resync_ms
    )
    return Service(Owner.RUNTIME_DEPLOYER, ports.store, (runner,), (reconciler,))


def owned(templates: Mapping[str, Template], weights: Mapping[str, Weights]) -> Owned[Runtime]:
    """The one kind of thing that the service owns."""
    return Owned(
        kind=RUNTIME,
        state=Runtime,
        empty=lambda key: Runtime(EndpointId(key)),
        decide=decider(templates, weights),
        hears=HEARS,
        scope=lambda runtime: REMOVED if stage_of(runtime) is Stage.REMOVED else LIVE,
        attention=attention_of,
    )
