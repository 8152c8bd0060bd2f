"""What must hold in every run, after each step and at rest. Each promise has a planted bug that breaks it (bugs.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final

from libs.common.events.endpoint import EndpointStageChanged, Stage
from libs.common.events.event import Owner
from libs.common.events.usage import Meter
from services.endpoint_api.core.state import Outcome
from services.metering.core.windows import Windows
from services.metering.shell.audit import audit
from tests.sim import lives, naming
from tests.sim.hosts import WINDOW_MS, RouterHost
from tests.sim.looks import Checker, Told, claim_gpus, claims, clusters
from tests.sim.serving import under_by

if TYPE_CHECKING:
    from tests.sim.world import Simulation

RANK: Final[Mapping[Stage, int]] = {stage: place for place, stage in enumerate(Stage) if stage is not Stage.FAILED}
SERVING: Final = frozenset({Stage.READY, Stage.DEGRADED, Stage.UPDATING})
ENDING: Final = frozenset({Stage.DRAINING, Stage.DELETING, Stage.DELETED})


NO_CLAIM: Final = "no claim without an endpoint"
READY_IS_REAL: Final = "no endpoint is ready without capacity and route"
NO_REGRESS: Final = "a status never regresses"
BILL_IS_TRUE: Final = "the ledger equals what was served"
COMMANDS_END: Final = "every command ends, once"


def checkers(simulation: Simulation) -> Sequence[Checker]:
    """Fresh checkers for one run."""
    told = Told(simulation)
    stages, billed = _Stages(told), _Billed()
    return (
        Checker(NO_CLAIM, nothing_outlives_deleted, claims_have_owners),
        Checker(READY_IS_REAL, ready_has_capacity_and_route, ready_has_capacity_and_route),
        Checker(NO_REGRESS, stages.look, stages.look),
        Checker(BILL_IS_TRUE, billed.nobody_pays_too_much, billed.is_true),
        Checker(COMMANDS_END, partial(ends_only_once, told), partial(commands_end, told)),
        *lives.checkers(told),
        *naming.checkers(),
    )


def nothing_outlives_deleted(simulation: Simulation) -> str:
    """Once an endpoint is deleted, the cloud holds nothing of it."""
    deleted = {each.id for each in simulation.customers.endpoints() if each.stage is Stage.DELETED}
    left = sorted(deleted & (clusters(simulation) | claims(simulation).keys())) if deleted else ()
    return f"{left} are deleted, but the cloud still holds them" if left else ""


def claims_have_owners(simulation: Simulation) -> str:
    """At rest, every cluster and claim belongs to an endpoint that is served, and counters say what is there."""
    served = {each.id for each in simulation.customers.endpoints() if each.stage in SERVING}
    held = clusters(simulation) | set(claims(simulation))
    if held != served:
        return f"held {sorted(held)}, served {sorted(served)}"
    counters = simulation.hosts[Owner.CAPACITY_MANAGER].store.counters
    gpus = sum(value for name, value in counters.items() if name.startswith("gpus/"))
    provided = sum(claim_gpus(simulation).values())
    return "" if gpus == provided else f"the quota counts {gpus} GPUs, the cloud gives {provided}"


def ready_has_capacity_and_route(simulation: Simulation) -> str:
    """What is called ready has nodes that joined, and the router has it in its table."""
    router = simulation.hosts[Owner.ROUTER]
    assert isinstance(router, RouterHost)
    serving = [each for each in simulation.customers.endpoints() if each.stage in SERVING]
    joined = claims(simulation) if serving else {}
    for endpoint in serving:
        if not joined.get(endpoint.id):
            return f"{endpoint.id} is {endpoint.stage} without a joined node"
        if router.table.held(endpoint.id) is None:
            return f"{endpoint.id} is {endpoint.stage} without a route"
    return ""


class _Stages:
    """Follows what is told of stages, as a frontend does: by the owner's sequence."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._read = 0
        self._changes: dict[str, dict[int, tuple[int, Stage]]] = {}

    def look(self, _simulation: Simulation) -> str:
        """Within a generation every change goes forward; what serves may go to and fro; a delete is for ever."""
        self._told.catch_up()
        for envelope in self._told.events[self._read :]:
            self._read += 1
            if not isinstance(envelope.data, EndpointStageChanged):
                continue
            changes = self._changes.setdefault(envelope.subject, {})
            changes[envelope.sequence] = (envelope.generation, envelope.data.stage)
            if broken := _regression(changes):
                return f"{envelope.subject}: {broken}"
        return ""


def _regression(changes: Mapping[int, tuple[int, Stage]]) -> str:
    told = [changes[sequence] for sequence in sorted(changes)]
    for (before_generation, before), (generation, after) in pairwise(told):
        if before in ENDING and after not in ENDING:
            return f"{before} became {after}"
        if generation > before_generation or after is Stage.FAILED or {before, after} <= SERVING:
            continue  # Another generation walks anew.
        if before is Stage.FAILED or RANK[after] <= RANK[before]:
            return f"{before} became {after}"
    return ""


class _Billed:
    """Completion tokens in the ledger by request, and what clients got. The ledger only grows: a line is read once."""

    def __init__(self) -> None:
        self._read = 0
        self._tokens: Counter[str] = Counter()

    def nobody_pays_too_much(self, simulation: Simulation) -> str:
        """At no time is more in the ledger than the client got."""
        for request_id in self._catch_up(simulation):
            billed, truth = self._tokens[request_id], simulation.traffic.truth[request_id]
            if billed > truth.tokens:
                return f"{request_id} got {truth.tokens} tokens and pays for {billed}"
        return ""

    def is_true(self, simulation: Simulation) -> str:
        """Complete answers exactly, interrupted ones up to a checkpoint below; GPU time exactly as nodes were held."""
        self._catch_up(simulation)
        for request_id, truth in simulation.traffic.truth.items():
            if request_id not in self._tokens:
                return f"{request_id} is not in the ledger"
            paid = self._tokens[request_id]
            if not truth.tokens - under_by(truth) <= paid <= truth.tokens:
                return f"{request_id} got {truth.tokens} tokens and pays for {paid}"
        if not simulation.is_over:
            return ""  # GPU time runs, and windows are open.
        differences = audit(simulation.hosts[Owner.METERING].store, windows=Windows(WINDOW_MS))
        return "; ".join(map(str, differences[:3]))

    def _catch_up(self, simulation: Simulation) -> set[str]:
        """Read the new lines; whose they are."""
        ledger = simulation.hosts[Owner.METERING].store.ledger
        if len(ledger) == self._read:
            return set()
        news = set()
        for each in islice(ledger.values(), self._read, None):
            if each.meter == Meter.COMPLETION_TOKENS:
                request_id = each.id.split("/")[1]
                self._tokens[request_id] += each.quantity
                news.add(request_id)
        self._read = len(ledger)
        return news


def ends_only_once(told: Told, _simulation: Simulation) -> str:
    """No operation is told to have finished twice."""
    told.catch_up()
    if len(set(told.finished)) == len(told.finished):
        return ""
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
