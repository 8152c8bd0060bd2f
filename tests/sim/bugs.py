"""Bugs that are planted to show that the checkers see: each is one that somebody, somewhere, shipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import msgspec

from libs.common.bus.port import Ack, Answer, Delivery
from libs.common.decision import Decision, Line
from libs.common.events.capacity import CapacityQueued
from libs.common.events.catalog import heard_by
from libs.common.events.endpoint import EndpointStageChanged, OperationFinished, Stage
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event, Owner
from libs.common.events.examples import examples
from libs.common.events.facts import Fact
from libs.common.events.runtime import ReplicasChanged
from libs.common.relay import Publish, Relay
from libs.common.service import Service
from services.capacity_manager.core.plan import DeleteCluster
from services.router.core.serving import Row
from services.router.shell.journal.memory import MemoryUsageJournal
from tests.sim.checkers import BILL_IS_TRUE, COMMANDS_END, NO_CLAIM, NO_REGRESS, READY_IS_REAL
from tests.sim.hosts import Host
from tests.sim.world import AT_REST, Simulation

Decide = Callable[[Any, Envelope, int], Decision[Any]]


@dataclass(frozen=True, slots=True)
class Bug:
    """How it is planted, and the promises of which it must be seen to break one."""

    plant: Callable[[Simulation], None]
    breaks: frozenset[str]


def spoils(owner: Owner, spoil: Callable[[Host, Service], Service]) -> Callable[[Simulation], None]:
    """Spoil a service each time it is born."""

    def plant(simulation: Simulation) -> None:
        host = simulation.hosts[owner]
        make = host.make
        host.make = lambda born: spoil(born, make(born))

    return plant


def decides(owner: Owner, kind: str, spoil: Callable[[Decide], Decide]) -> Callable[[Simulation], None]:
    """Spoil what a service decides of one kind of thing."""

    def spoil_runner(_host: Host, service: Service) -> Service:
        runner = next(each for each in service.runners if each.owned.kind == kind)
        runner.owned = replace(runner.owned, decide=spoil(runner.owned.decide))
        return service

    return spoils(owner, spoil_runner)


class _AcceptedIsGone:
    """A world in which a delete that was asked for is a delete that happened; it never even leaves."""

    def __init__(self, world: Any) -> None:
        self._world = world

    def observe(self, state: Any) -> Any:
        seen = self._world.observe(state)
        return seen.model_copy(update={"cluster": None, "nodes": ()}) if state.is_unwanted else seen

    def apply(self, action: Any) -> None:
        if not isinstance(action, DeleteCluster):
            self._world.apply(action)


def _forgets_claims(_host: Host, service: Service) -> Service:
    reconciler = service.reconcilers[0]
    reconciler._world = _AcceptedIsGone(reconciler._world)
    return service


def _ready_when_queued(decide: Decide) -> Decide:
    """Takes a place in the queue for everything that comes after it."""
    facts = [each for each in examples() if each.fact is not None and each.holds and type(each) in ON_THE_WAY]

    def spoiled(state: Any, envelope: Envelope, now_ms: int) -> Decision[Any]:
        decision = decide(state, envelope, now_ms)
        if not isinstance(envelope.data, CapacityQueued):
            return decision
        events = decision.events
        for each in facts:
            further = decide(decision.state, replace(envelope, data=each, sequence=1), now_ms)
            decision, events = further, events + further.events
        return replace(decision, events=events)

    return spoiled


ON_THE_WAY: Final = frozenset(
    each
    for each in heard_by(Owner.ENDPOINT_API)
    if each.fact
    in {
        Fact.CAPACITY_RESERVED,
        Fact.CLUSTER_READY,
        Fact.NODES_JOINED,
        Fact.GPU_READY,
        Fact.IMAGE_PULLED,
        Fact.MODEL_DOWNLOADED,
        Fact.MODEL_LOADED,
        Fact.CACHE_WARMED,
        Fact.ROUTE_PUBLISHED,
    }
)


def _stage_is_assigned(decide: Decide) -> Decide:
    """Says `ready` whenever replicas are reported, instead of walking the facts."""

    def spoiled(state: Any, envelope: Envelope, now_ms: int) -> Decision[Any]:
        decision = decide(state, envelope, now_ms)
        if not isinstance(envelope.data, ReplicasChanged):
            return decision
        told = EndpointStageChanged(
            tenant_id="acme", project_id="default", name="", stage=Stage.READY, previous=Stage.READY, since_ms=now_ms
        )
        return replace(decision, events=(*decision.events, told))

    return spoiled


def _deletes_end_silently(decide: Decide) -> Decide:
    def is_told(event: Event) -> bool:
        return not (isinstance(event, OperationFinished) and event.verb == "delete")

    def spoiled(state: Any, envelope: Envelope, now_ms: int) -> Decision[Any]:
        decision = decide(state, envelope, now_ms)
        return replace(decision, events=tuple(each for each in decision.events if is_told(each)))

    return spoiled


def _bills_again_what_comes_again(decide: Decide) -> Decide:
    """Numbers its lines by the message rather than by the request."""

    def spoiled(state: Any, envelope: Envelope, now_ms: int) -> Decision[Any]:
        decision = decide(state, envelope, now_ms)
        return replace(decision, lines=tuple(_renamed(each, envelope) for each in decision.lines))

    return spoiled


def _renamed(line: Line, envelope: Envelope) -> Line:
    prefix, request_id, meter = line.id.split("/", 2)
    return replace(line, id=f"{prefix}/{request_id}/{meter}/{envelope.id}")


class _CountsCheckpointsToo(MemoryUsageJournal):
    """Adds the last word to what was noted on the way."""

    def finish(self, row: Row) -> Any:
        _, noted = self.file.live[row.request_id]
        tokens = row.completion_tokens + noted.completion_tokens
        return super().finish(msgspec.structs.replace(row, completion_tokens=tokens))


class _DisconnectIsFree(MemoryUsageJournal):
    """Refunds whoever hangs up."""

    def finish(self, row: Row) -> Any:
        free = row.finish == "client_disconnect"
        return super().finish(msgspec.structs.replace(row, completion_tokens=0) if free else row)


def _usage_in_memory(simulation: Simulation) -> None:
    """What was served is known to the process alone until it is sent."""
    host = simulation.hosts[Owner.ROUTER]
    die = host.die

    def die_and_forget() -> None:
        die()
        host.journal_file.live.clear()  # type: ignore[attr-defined]

    host.die = die_and_forget  # type: ignore[method-assign]


def _journals(kind: type[MemoryUsageJournal]) -> Callable[[Simulation], None]:
    def plant(simulation: Simulation) -> None:
        simulation.hosts[Owner.ROUTER].journal_kind = kind  # type: ignore[attr-defined]

    return plant


class _Hasty(Service):
    """Acknowledges, then works: what fails then is gone."""

    def deliver(self, delivery: Delivery) -> Answer:
        if delivery.attempt == 1 and hash_of(delivery.message.id) % 6 == 0:
            return Ack()  # It died in between, this time.
        return Service.deliver(self, delivery)


def hash_of(text: str) -> int:
    """The same in every process, unlike `hash`."""
    return int(text.replace("-", "")[:8], 16) if text[:8].replace("-", "").isalnum() and _is_hex(text[:8]) else 1


def _is_hex(text: str) -> bool:
    return all(each in "0123456789abcdef" for each in text)


def _acks_first(_host: Host, service: Service) -> Service:
    return _Hasty(service.name, service.store, service.runners, service.reconcilers)


class _Trusting(Relay):
    """Believes that what it published is stored."""

    def run(self) -> int:
        pending = self._store.pending(128)
        self._store.mark_sent([each.position for each in pending])
        return self._publish([each.message for each in pending])


class _RelaysOnce(Service):
    def relay(self, publish: Publish) -> Relay:
        return _Trusting(self.store, publish)


def _relays_once(_host: Host, service: Service) -> Service:
    return _RelaysOnce(service.name, service.store, service.runners, service.reconcilers)


BUGS: Final[Mapping[str, Bug]] = MappingProxyType(
    {
        "a delete that was accepted counts as done": Bug(
            spoils(Owner.CAPACITY_MANAGER, _forgets_claims), frozenset({NO_CLAIM})
        ),
        "a place in the queue counts as capacity": Bug(
            decides(Owner.ENDPOINT_API, "endpoint", _ready_when_queued), frozenset({READY_IS_REAL})
        ),
        "a stage is assigned from an event": Bug(
            decides(Owner.ENDPOINT_API, "endpoint", _stage_is_assigned), frozenset({NO_REGRESS})
        ),
        "a batch that comes again is billed again": Bug(
            decides(Owner.METERING, "producer", _bills_again_what_comes_again), frozenset({BILL_IS_TRUE, AT_REST})
        ),
        "a checkpoint is billed beside the final count": Bug(
            _journals(_CountsCheckpointsToo), frozenset({BILL_IS_TRUE})
        ),
        "a client that hangs up pays nothing": Bug(_journals(_DisconnectIsFree), frozenset({BILL_IS_TRUE})),
        "usage lives in memory": Bug(_usage_in_memory, frozenset({BILL_IS_TRUE})),
        "deletes end and nobody is told": Bug(
            decides(Owner.ENDPOINT_API, "endpoint", _deletes_end_silently), frozenset({COMMANDS_END})
        ),
        "a message is acknowledged before it is handled": Bug(
            spoils(Owner.CAPACITY_MANAGER, _acks_first), frozenset({AT_REST})
        ),
        "the relay trusts the bus": Bug(
            spoils(Owner.ENDPOINT_API, _relays_once), frozenset({AT_REST, NO_REGRESS, COMMANDS_END, READY_IS_REAL})
        ),
    }
)
