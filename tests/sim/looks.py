"""How the world is looked at: promises, what was told on the bus, what the cloud holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from libs.common.bus.streams import EVT
from libs.common.events.endpoint import OperationFinished
from libs.common.events.envelope import Envelope, from_wire
from libs.twin import kinds
from libs.twin.objects import name_of
from services.capacity_manager.shell.platform.shares import of as shares_of

if TYPE_CHECKING:
    from tests.sim.world import Simulation

Look = Callable[["Simulation"], str]


class Violation(AssertionError):
    """A promise was broken; the text names seed and promise, and how to repeat it."""

    def __init__(self, simulation: Simulation, promise: str, how: str) -> None:
        super().__init__(f"seed {simulation.seed}: {promise}: {how}  (repeat: make sim SEED={simulation.seed})")
        self.promise = promise


@dataclass(frozen=True, slots=True)
class Checker:
    """A promise, and the two looks that tell whether it holds; a look returns how it is broken, or nothing."""

    promise: str
    always: Look
    finally_: Look


class Told:
    """All events in the order in which the bus stored them, each read once."""

    def __init__(self, simulation: Simulation) -> None:
        self._stream = simulation.broker.streams[EVT]
        self._read = simulation.readings.by(from_wire)
        self.events: list[Envelope] = []
        self.finished: list[str] = []

    def catch_up(self) -> None:
        """Read what came since the last look."""
        for message in self._stream[len(self.events) :]:
            envelope = self._read(message.headers, message.body)
            self.events.append(envelope)
            if isinstance(envelope.data, OperationFinished):
                self.finished.append(envelope.data.operation_id)


def clusters(simulation: Simulation) -> set[str]:
    """Endpoints that the cloud holds a tenant cluster for: one named like them, or one that they share."""
    instances = simulation.twin.store.all(kinds.INSTANCES)
    return {endpoint for each in instances for endpoint in sharers(each)}


def sharers(instance: Mapping[str, Any]) -> tuple[str, ...]:
    """Whose a cluster is. One that is shared and that nobody has a share in is its own: it must go."""
    shares = tuple(shares_of(dict(instance)))
    return shares if shares else (name_of(dict(instance)),)


def claims(simulation: Simulation) -> dict[str, int]:
    """Joined nodes by endpoint."""
    found: dict[str, int] = {}
    owners = {name_of(each): sharers(each) for each in simulation.twin.store.all(kinds.INSTANCES)}
    for claim in simulation.twin.store.all(kinds.NODE_CLAIMS):
        cluster = str(claim["spec"]["vClusterRef"])
        for owner in owners.get(cluster, (cluster,)):
            found[owner] = found.get(owner, 0) + _has_joined(claim)
    return found


def claim_gpus(simulation: Simulation) -> dict[str, int]:
    """GPUs of every node claim."""
    gpus = {each.name: each.gpus for each in simulation.twin.options.node_types}
    return {name_of(each): gpus[each["spec"]["typeRef"]] for each in simulation.twin.store.all(kinds.NODE_CLAIMS)}


def _has_joined(claim: Mapping[str, Any]) -> bool:
    conditions = claim.get("status", {}).get("conditions", ())
    return any(each["type"] == "Joined" and each["status"] == "True" for each in conditions)
