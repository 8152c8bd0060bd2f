"""Operations: an accepted command from its acceptance to its one end."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from libs.common.events.endpoint import OperationFinished, Stage
from libs.common.events.event import Event
from libs.common.ids import EndpointId, OperationId
from services.endpoint_api.core.lifecycle import CREATING
from services.endpoint_api.core.state import Endpoint, Operation, Outcome, Verb

FINISHED_MAX: Final = 50  # Finished operations kept of one endpoint; bounds its record.
RUNNING: Final = frozenset({Verb.CREATE, Verb.UPDATE, Verb.SCALE, Verb.RESUME})  # They end when it is ready.
PAUSING: Final = frozenset({Verb.PAUSE, Verb.DRAIN})
CHANGING: Final = frozenset({Verb.UPDATE, Verb.SCALE})


def operation_id(endpoint_id: EndpointId, number: int) -> OperationId:
    """The id of an endpoint's operation, by its number: the endpoint is found from it."""
    return OperationId(f"op-{endpoint_id.removeprefix('ep-')}-{number}")


def begin(endpoint: Endpoint, verb: Verb, request: str, now_ms: int) -> Endpoint:
    """The endpoint with one more operation that runs, for its present generation."""
    number = int(endpoint.operations[-1].id.rpartition("-")[2]) + 1 if endpoint.operations else 1
    begun = Operation(operation_id(endpoint.id, number), verb, endpoint.generation, now_ms, request=request)
    return replace(endpoint, operations=(*_newest(endpoint.operations), begun))


def finish(
    endpoint: Endpoint, verbs: Collection[Verb], outcome: Outcome, message: str, now_ms: int
) -> tuple[Endpoint, tuple[Event, ...]]:
    """Bring the running operations of ``verbs`` to their end; one that ended already stays as it ended."""
    told: list[Event] = []
    operations: list[Operation] = []
    for each in endpoint.operations:
        done = each
        if each.finished_ms is None and each.verb in verbs:
            done = replace(each, finished_ms=max(now_ms, each.accepted_ms), outcome=outcome, message=message)
            told.append(
                OperationFinished(
                    tenant_id=endpoint.tenant_id,
                    operation_id=done.id,
                    verb=done.verb,
                    outcome=outcome,
                    message=message,
                )
            )
        operations.append(done)
    return replace(endpoint, operations=tuple(operations)) if told else endpoint, tuple(told)


def found(endpoint: Endpoint, operation_id: str) -> Operation | None:
    """One of the endpoint's operations; None if there is none of this id (any more)."""
    return next((each for each in endpoint.operations if each.id == operation_id), None)


def made_by(endpoint: Endpoint, request: str) -> Operation:
    """The operation that a command made; else the one that was on its way already, the newest."""
    mine = (each for each in endpoint.operations if each.request == request)
    runs = (each for each in reversed(endpoint.operations) if each.finished_ms is None)
    return next(mine, None) or next(runs, endpoint.operations[-1])


def is_cancellable(endpoint: Endpoint, operation: Operation) -> bool:
    """Whether a cancel would be accepted now: a deletion is final, and a change needs something to go back to."""
    if operation.finished_ms is not None or operation.verb is Verb.DELETE:
        return False
    return operation.verb not in CHANGING or endpoint.stage is Stage.UPDATING


def is_pausable(endpoint: Endpoint, operation: Operation) -> bool:
    """Whether it is a rollout on its way, which can be held where it is and let go on."""
    return operation.finished_ms is None and operation.verb in CHANGING and endpoint.stage is Stage.UPDATING


def progress(endpoint: Endpoint, operation: Operation) -> float:
    """How much of the way is behind it, 0 to 1, in stages; an operation that ended has no way left."""
    if operation.finished_ms is not None:
        return 1.0
    match endpoint.stage:
        case stage if stage in CREATING:
            return round(CREATING.index(stage) / len(CREATING), 2)
        case Stage.DELETING:
            return 0.5
        case _:
            return 0.0


def _newest(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    finished = [each.id for each in operations if each.finished_ms is not None]
    old = frozenset(finished[: max(0, len(finished) - FINISHED_MAX + 1)])
    return tuple(each for each in operations if each.id not in old)
