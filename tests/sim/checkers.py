"""What must hold in every run, after each step and at rest. Each promise has a planted bug that breaks it (bugs.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from libs.common.bus.streams import EVT
from libs.common.events.endpoint import EndpointStageChanged, OperationFinished, Stage
from libs.common.events.envelope import Envelope, from_wire
from libs.common.events.event import Owner
from libs.common.events.usage import Meter
from libs.twin import kinds
from libs.twin.objects import name_of
from services.endpoint_api.core.state import Outcome
from services.metering.core.windows import Windows
from services.metering.shell.audit import audit
from tests.sim.hosts import WINDOW_MS, RouterHost
from tests.sim.serving import under_by

if TYPE_CHECKING:
    from tests.sim.world import Simulation

Look = Callable[["Simulation"], str]

RANK: Final[Mapping[Stage, int]] = {stage: place for place, stage in enumerate(Stage) if stage is not Stage.FAILED}
SERVING: Final = frozenset({Stage.READY, Stage.DEGRADED})


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


NO_CLAIM: Final = "no claim without an endpoint"
READY_IS_REAL: Final = "no endpoint is ready without capacity and route"
NO_REGRESS: Final = "a status never regresses"
BILL_IS_TRUE: Final = "the ledger equals what was served"
COMMANDS_END: Final = "every command ends, once"


def checkers(simulation: Simulation) -> Sequence[Checker]:
    """Fresh checkers for one run."""
    told = Told(simulation)
    stages = _Stages(told)
    return (
        Checker(NO_CLAIM, nothing_outlives_deleted, claims_have_owners),
        Checker(READY_IS_REAL, ready_has_capacity_and_route, ready_has_capacity_and_route),
        Checker(NO_REGRESS, stages.look, stages.look),
        Checker(BILL_IS_TRUE, nobody_pays_too_much, bill_is_true),
        Checker(COMMANDS_END, partial(ends_only_once, told), partial(commands_end, told)),
    )


def nothing_outlives_deleted(simulation: Simulation) -> str:
    """Once an endpoint is deleted, the cloud holds nothing of it."""
    deleted = {each.id for each in simulation.customers.endpoints() if each.stage is Stage.DELETED}
    left = sorted(deleted & (_clusters(simulation) | set(_claims(simulation))))
    return f"{left} are deleted, but the cloud still holds them" if left else ""


def claims_have_owners(simulation: Simulation) -> str:
    """At rest, every cluster and claim belongs to an endpoint that is served, and counters say what is there."""
    served = {each.id for each in simulation.customers.endpoints() if each.stage in SERVING}
    held = _clusters(simulation) | set(_claims(simulation))
    if held != served:
        return f"held {sorted(held)}, served {sorted(served)}"
    counters = simulation.hosts[Owner.CAPACITY_MANAGER].store.counters
    gpus = sum(value for name, value in counters.items() if name.startswith("gpus/"))
    provided = sum(_claim_gpus(simulation).values())
    return "" if gpus == provided else f"the quota counts {gpus} GPUs, the cloud gives {provided}"


def ready_has_capacity_and_route(simulation: Simulation) -> str:
    """What is called ready has nodes that joined, and the router has it in its table."""
    router = simulation.hosts[Owner.ROUTER]
    assert isinstance(router, RouterHost)
    for endpoint in simulation.customers.endpoints():
        if endpoint.stage not in SERVING:
            continue
        if not _claims(simulation).get(endpoint.id):
            return f"{endpoint.id} is {endpoint.stage} without a joined node"
        if router.table.held(endpoint.id) is None:
            return f"{endpoint.id} is {endpoint.stage} without a route"
    return ""


class Told:
    """All events in the order in which the bus stored them, each read once."""

    def __init__(self, simulation: Simulation) -> None:
        self._stream = simulation.broker.streams[EVT]
        self.events: list[Envelope] = []
        self.finished: list[str] = []

    def catch_up(self) -> None:
        """Read what came since the last look."""
        for message in self._stream[len(self.events) :]:
            envelope = from_wire(message.headers, message.body)
            self.events.append(envelope)
            if isinstance(envelope.data, OperationFinished):
                self.finished.append(envelope.data.operation_id)


class _Stages:
    """Follows what is told of stages, as a frontend does: by the owner's sequence."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._read = 0
        self._changes: dict[str, dict[int, EndpointStageChanged]] = {}

    def look(self, _simulation: Simulation) -> str:
        """Every change goes forward; between ready and degraded it may go to and fro."""
        self._told.catch_up()
        for envelope in self._told.events[self._read :]:
            self._read += 1
            if not isinstance(envelope.data, EndpointStageChanged):
                continue
            changes = self._changes.setdefault(envelope.subject, {})
            changes[envelope.sequence] = envelope.data
            if broken := _regression(changes):
                return f"{envelope.subject}: {broken}"
        return ""


def _regression(changes: Mapping[int, EndpointStageChanged]) -> str:
    stages = [changes[sequence].stage for sequence in sorted(changes)]
    for before, after in pairwise(stages):
        if before is Stage.FAILED:
            if after not in (Stage.DRAINING, Stage.DELETING, Stage.DELETED):
                return f"{before} became {after}"
        elif after is not Stage.FAILED and RANK[after] <= RANK[before] and not {before, after} <= SERVING:
            return f"{before} became {after}"
    return ""


def nobody_pays_too_much(simulation: Simulation) -> str:
    """At no time is more in the ledger than the client got."""
    for request_id, billed in _billed(simulation).items():
        truth = simulation.traffic.truth[request_id]
        if billed > truth.tokens:
            return f"{request_id} got {truth.tokens} tokens and pays for {billed}"
    return ""


def bill_is_true(simulation: Simulation) -> str:
    """Complete answers exactly, interrupted ones up to a checkpoint below; GPU time exactly as nodes were held."""
    billed = _billed(simulation)
    for request_id, truth in simulation.traffic.truth.items():
        paid = billed.get(request_id)
        if paid is None:
            return f"{request_id} is not in the ledger"
        if not truth.tokens - under_by(truth) <= paid <= truth.tokens:
            return f"{request_id} got {truth.tokens} tokens and pays for {paid}"
    if not simulation.is_over:
        return ""  # GPU time runs, and windows are open.
    differences = audit(simulation.hosts[Owner.METERING].store, windows=Windows(WINDOW_MS))
    return "; ".join(map(str, differences[:3]))


def ends_only_once(told: Told, _simulation: Simulation) -> str:
    """No operation is told to have finished twice."""
    told.catch_up()
    twice = sorted(operation for operation, count in Counter(told.finished).items() if count > 1)
    return f"{twice} ended more than once" if twice else ""


def commands_end(told: Told, simulation: Simulation) -> str:
    """At rest every accepted command has ended, and was told to have."""
    told.catch_up()
    for endpoint in simulation.customers.endpoints():
        for operation in endpoint.operations:
            if operation.outcome is Outcome.RUNNING:
                return f"{operation.id} still runs"
            if operation.id not in told.finished:
                return f"{operation.id} ended and nobody was told"
    accepted = simulation.customers.accepted
    known = {operation.id for endpoint in simulation.customers.endpoints() for operation in endpoint.operations}
    lost = sorted(accepted.keys() - known)
    return f"{lost} were accepted and are unknown" if lost else ""


def _clusters(simulation: Simulation) -> set[str]:
    return {name_of(each) for each in simulation.twin.store.all(kinds.INSTANCES)}


def _claims(simulation: Simulation) -> dict[str, int]:
    """Joined nodes by endpoint."""
    found: dict[str, int] = {}
    for claim in simulation.twin.store.all(kinds.NODE_CLAIMS):
        owner = str(claim["spec"]["vClusterRef"])
        found[owner] = found.get(owner, 0) + _has_joined(claim)
    return found


def _claim_gpus(simulation: Simulation) -> dict[str, int]:
    gpus = {each.name: each.gpus for each in simulation.twin.options.node_types}
    return {name_of(each): gpus[each["spec"]["typeRef"]] for each in simulation.twin.store.all(kinds.NODE_CLAIMS)}


def _has_joined(claim: Mapping[str, Any]) -> bool:
    conditions = claim.get("status", {}).get("conditions", ())
    return any(each["type"] == "Joined" and each["status"] == "True" for each in conditions)


def _billed(simulation: Simulation) -> dict[str, int]:
    """Completion tokens in the ledger by request."""
    ledger = simulation.hosts[Owner.METERING].store.ledger
    billed: dict[str, int] = {}
    for each in ledger.values():
        if each.meter == Meter.COMPLETION_TOKENS:
            request_id = each.id.split("/")[1]
            billed[request_id] = billed.get(request_id, 0) + each.quantity
    return billed
