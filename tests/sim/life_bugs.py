"""Bugs of endpoints that live: planted in how owners take a change, a pause and what follows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from libs.common.decision import Decision, Give
from libs.common.events.capacity import NodeReleased
from libs.common.events.endpoint import EndpointFailed, EndpointRequested
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event, Owner
from libs.common.events.facts import Fact
from libs.common.service import Service
from services.runtime_deployer.core.observed import Kind
from services.runtime_deployer.core.plan import Apply
from services.runtime_deployer.shell.connections import APPLY
from services.runtime_deployer.shell.kubernetes import FIELD_MANAGER, PATHS
from tests.sim.bugs import Bug, Decide, decides, spoils
from tests.sim.checkers import BILL_IS_TRUE, COMMANDS_END, NO_CLAIM, READY_IS_REAL
from tests.sim.hosts import Host
from tests.sim.lives import NEWEST_RUNS, NOTHING_OLDER, PAUSED_IS_EMPTY, TIME_IS_PAID
from tests.sim.world import AT_REST

FOR_EVER: Final = 1 << 30


def _tells_nothing_anew(decide: Decide) -> Decide:
    """A resume forgets to forget: what was told once counts as told."""

    def spoiled(state: Any, envelope: Envelope, now_ms: int) -> Decision[Any]:
        decision = decide(state, envelope, now_ms)
        if not isinstance(envelope.data, EndpointRequested) or not state.told:
            return decision
        return replace(decision, state=replace(decision.state, told=state.told), events=())

    return spoiled


def deaf_to(kind: type[Event], *, when: Callable[[Any], bool]) -> Callable[[Decide], Decide]:
    """An event is taken, and nothing comes of it."""

    def spoil(decide: Decide) -> Decide:
        def spoiled(state: Any, envelope: Envelope, now_ms: int) -> Decision[Any]:
            if isinstance(envelope.data, kind) and when(state):
                return Decision(state)
            return decide(state, envelope, now_ms)

        return spoiled

    return spoil


def _books_loading_to_nobody(decide: Decide) -> Decide:
    """The time until an endpoint is ready is in no account."""

    def spoiled(state: Any, envelope: Envelope, now_ms: int) -> Decision[Any]:
        decision = decide(state, envelope, now_ms)
        return replace(decision, lines=tuple(each for each in decision.lines if not each.account.endswith("/loading")))

    return spoiled


def _keeps_quota_while_paused(decide: Decide) -> Decide:
    """Holds the machines ready for the one who comes back."""

    def spoiled(state: Any, envelope: Envelope, now_ms: int) -> Decision[Any]:
        decision = decide(state, envelope, now_ms)
        if not _is_paused(state):
            return decision
        return replace(decision, counters=tuple(each for each in decision.counters if not isinstance(each, Give)))

    return spoiled


def _failure_is_for_ever(decide: Decide) -> Decide:
    """Takes a failure for the last word, whatever was asked for since."""

    def spoiled(state: Any, envelope: Envelope, now_ms: int) -> Decision[Any]:
        if isinstance(envelope.data, EndpointFailed):
            envelope = replace(envelope, generation=FOR_EVER)
        return decide(state, envelope, now_ms)

    return spoiled


class _WritesLate:
    """A world in which somebody who knows no better goes on writing a Deployment as it was before the last change."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._written: dict[str, Apply] = {}
        self._late: list[Apply] = []

    def observe(self, state: Any) -> Any:
        seen = self._world.observe(state)
        for late in self._late:
            path = f"{PATHS[late.manifest.kind]}/{late.manifest.name}"
            query = {"fieldManager": FIELD_MANAGER}
            body, connections = late.manifest.body, self._world._connections
            connections.ask(late.cluster, "PATCH", path, query=query, body=body, content_type=APPLY, timeout_s=1.0)
        return seen

    def apply(self, action: Any) -> None:
        self._world.apply(action)
        if isinstance(action, Apply) and action.manifest.kind is Kind.DEPLOYMENT:
            before = self._written.get(action.manifest.name)
            if before is not None and before.manifest.generation < action.manifest.generation:
                self._late.append(before)
            self._written[action.manifest.name] = action


def _without_adapters(decide: Decide) -> Decide:
    """Takes a request for its model alone."""

    def spoiled(state: Any, envelope: Envelope, now_ms: int) -> Decision[Any]:
        data = envelope.data
        if isinstance(data, EndpointRequested):
            spec = data.spec.model_copy(update={"adapters": ()})
            envelope = replace(envelope, data=data.model_copy(update={"spec": spec}))
        return decide(state, envelope, now_ms)

    return spoiled


def _writes_late(_host: Host, service: Service) -> Service:
    reconciler = service.reconcilers[0]
    reconciler._world = _WritesLate(reconciler._world)
    return service


def _is_paused(state: Any) -> bool:
    return state.facts.of(Fact.PAUSE_REQUESTED) is not None


def _is_known(state: Any) -> bool:
    return state.placement is not None


LIFE_BUGS: Final[Mapping[str, Bug]] = MappingProxyType(
    {
        "a resume forgets to forget what was told": Bug(
            decides(Owner.CAPACITY_MANAGER, "claim", _tells_nothing_anew), frozenset({AT_REST, COMMANDS_END})
        ),
        "a runtime is made once and never changed": Bug(
            decides(Owner.RUNTIME_DEPLOYER, "runtime", deaf_to(EndpointRequested, when=_is_known)),
            frozenset({AT_REST, NEWEST_RUNS}),
        ),
        "adapters are accepted and never loaded": Bug(
            decides(Owner.RUNTIME_DEPLOYER, "runtime", _without_adapters), frozenset({NEWEST_RUNS})
        ),
        "a write without a fence lands late": Bug(
            spoils(Owner.RUNTIME_DEPLOYER, _writes_late), frozenset({NOTHING_OLDER})
        ),
        "a pause keeps its quota": Bug(
            decides(Owner.CAPACITY_MANAGER, "claim", _keeps_quota_while_paused), frozenset({NO_CLAIM, PAUSED_IS_EMPTY})
        ),
        "a failure is never made good": Bug(
            decides(Owner.CAPACITY_MANAGER, "claim", _failure_is_for_ever), frozenset({AT_REST, READY_IS_REAL})
        ),
        "an account is left out": Bug(
            decides(Owner.METERING, "meter", _books_loading_to_nobody),
            frozenset({TIME_IS_PAID, BILL_IS_TRUE, AT_REST}),
        ),
        "a meter runs on after a pause": Bug(
            decides(Owner.METERING, "meter", deaf_to(NodeReleased, when=_is_paused)),
            frozenset({TIME_IS_PAID, BILL_IS_TRUE, AT_REST}),
        ),
    }
)
