"""capacity-manager, joined: claims of endpoints, pools of the clusters that they share, and a reconciler each."""

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
from libs.common.events.scale import PoolTargeted, ScaleDecided
from libs.common.ids import EndpointId
from libs.common.reconciler import Reconciler
from libs.common.runner import Owned, Runner, its_subject
from libs.common.service import Service
from services.capacity_manager.core import pool_decide
from services.capacity_manager.core.decide import Rules, decider
from services.capacity_manager.core.lifecycle import attention_of
from services.capacity_manager.core.observed import Observed
from services.capacity_manager.core.plan import Action, plan
from services.capacity_manager.core.pool_decide import planner
from services.capacity_manager.core.pools import POOL, Pool, PoolRules, PoolSeen, scope_of
from services.capacity_manager.core.pools import attention_of as pool_attention_of
from services.capacity_manager.core.state import CLAIM, LIVE, RELEASED, Claim
from services.capacity_manager.core.tenancy import is_pool_id
from services.capacity_manager.shell.collecting import Collector
from services.capacity_manager.shell.ports import Capacity, Ports


def its_endpoint(envelope: Envelope) -> Sequence[str]:
    """The endpoint whose own cluster it is about."""
    return () if is_pool_id(envelope.subject) else (envelope.subject,)


def its_pool(envelope: Envelope) -> Sequence[str]:
    """The pool that it is about."""
    return (envelope.subject,) if is_pool_id(envelope.subject) else ()


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
    | {PoolTargeted: its_endpoint}
)


class ClaimWorld:
    """The `World` of claims. Whoever sees a shared cluster has its pool taken in."""

    def __init__(self, capacity: Capacity, collector: Collector) -> None:
        self._capacity = capacity
        self._collector = collector

    def observe(self, state: Claim) -> Observed:
        """What is there of it. Raises Unavailable."""
        seen = self._capacity.observe(state)
        self._collector.take_in(state, seen)
        return seen

    def apply(self, action: Action) -> None:
        """Do one thing; doing it again changes nothing."""
        self._capacity.apply(action)


class PoolWorld:
    """The `World` of pools."""

    def __init__(self, capacity: Capacity, rules: PoolRules) -> None:
        self._capacity = capacity
        self._rules = rules

    def observe(self, state: Pool) -> PoolSeen:
        """What is there of it. Raises Unavailable."""
        return self._capacity.observe_pool(state, self._rules.of(state.tier).wanted(state.word) + state.surplus)

    def apply(self, action: Action) -> None:
        """Do one thing; doing it again changes nothing."""
        self._capacity.apply(action)


def build(ports: Ports) -> Service:
    """The service on these ports."""
    runner = Runner(owned(ports.rules), store=ports.store, clock=ports.clock)
    pools = Runner(owned_pools(ports.pools), store=ports.store, clock=ports.clock)
    collector = Collector(runner, pools, ports.capacity, ports.store, ports.clock, ports.caution)
    reconciler = Reconciler(
        runner,
        ClaimWorld(ports.capacity, collector),
        plan,
        store=ports.store,
        clock=ports.clock,
        resync_ms=ports.resync_ms,
        survey=collector.survey,
    )
    keeper = Reconciler(
        pools,
        PoolWorld(ports.capacity, ports.pools),
        planner(ports.pools),
        store=ports.store,
        clock=ports.clock,
        resync_ms=ports.resync_ms,
        survey=collector.pool_marks,
    )
    return Service(Owner.CAPACITY_MANAGER, ports.store, (runner, pools), (reconciler, keeper))


def owned_pools(rules: PoolRules) -> Owned[Pool]:
    """What of shared clusters is no endpoint's: found by the survey; it hears only how many nodes to keep warm."""
    return Owned(
        kind=POOL,
        state=Pool,
        empty=Pool,
        decide=pool_decide.decider(rules),
        hears={PoolTargeted: its_pool},
        scope=scope_of,
        attention=pool_attention_of,
    )


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
