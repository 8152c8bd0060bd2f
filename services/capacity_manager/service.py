"""capacity-manager, joined: one kind of thing, one reconciler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    EndpointRequested,
)
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event, Owner
from libs.common.events.runtime import ReplicasChanged, RuntimeRemoved
from libs.common.events.scale import ScaleDecided
from libs.common.ids import EndpointId
from libs.common.reconciler import Reconciler
from libs.common.runner import Owned, Runner, its_subject
from libs.common.service import Service
from services.capacity_manager.core.decide import Rules, decider
from services.capacity_manager.core.lifecycle import attention_of
from services.capacity_manager.core.plan import plan
from services.capacity_manager.core.state import CLAIM, LIVE, RELEASED, Claim
from services.capacity_manager.shell.collecting import Collector
from services.capacity_manager.shell.ports import Ports

HEARS: Final[Mapping[type[Event], Callable[[Envelope], Sequence[str]]]] = MappingProxyType(
    {
        kind: its_subject
        for kind in (
            EndpointRequested,
            EndpointDeletionRequested,
            EndpointFailed,
            EndpointPauseRequested,
            RuntimeRemoved,
            ReplicasChanged,
            ScaleDecided,
        )
    }
)


def build(ports: Ports) -> Service:
    """The service on these ports."""
    runner = Runner(owned(ports.rules), store=ports.store, clock=ports.clock)
    collector = Collector(runner, ports.capacity, ports.store, ports.clock, ports.caution)
    reconciler = Reconciler(
        runner,
        ports.capacity,
        plan,
        store=ports.store,
        clock=ports.clock,
        resync_ms=ports.resync_ms,
        survey=collector.survey,
    )
    return Service(Owner.CAPACITY_MANAGER, ports.store, (runner,), (reconciler,))


def owned(rules: Rules) -> Owned[Claim]:
    """The one kind of thing that the service owns."""
    return Owned(
        kind=CLAIM,
        state=Claim,
        empty=lambda key: Claim(EndpointId(key)),
        decide=decider(rules),
        hears=HEARS,
        scope=lambda claim: RELEASED if claim.is_released else LIVE,
        attention=attention_of,
    )
