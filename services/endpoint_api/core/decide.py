"""Decide where an endpoint stands after a command, a fact or a wake-up, and what the others hear of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from libs.common.decision import Decision, Give, Take
from libs.common.errors import Conflict, NotFound
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointRequested,
    EndpointStageChanged,
    OperationFinished,
    Stage,
)
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.events.facts import Fact, Facts, Heard
from libs.common.ids import EndpointId, OperationId, ProjectId, TenantId
from libs.common.runner import Woke
from libs.common.units import MINUTE_MS, SECOND_MS
from services.endpoint_api.core.commands import CreateEndpoint, DeleteEndpoint
from services.endpoint_api.core.explain import deadline_ms, why
from services.endpoint_api.core.hearing import hear
from services.endpoint_api.core.lifecycle import CREATING, LIFECYCLE, steps
from services.endpoint_api.core.state import Endpoint, Operation, Outcome, Verb, Visit, Words

DRAIN_MS: Final = 120 * SECOND_MS  # The longest generation we sell is 90 s; the rest is slack for slow readers.


def decide(endpoint: Endpoint, envelope: Envelope, now_ms: int) -> Decision[Endpoint]:
    """The endpoint after ``envelope``. Any order, any repeat; after `deleted` nothing changes and nothing is told."""
    if endpoint.stage is Stage.DELETED:
        return Decision(endpoint, generation=endpoint.generation)
    match envelope.data:
        case CreateEndpoint() as command:
            return _create(endpoint, command, now_ms)
        case DeleteEndpoint():
            return _delete(endpoint, now_ms)
        case Woke():
            return _settle(_give_up_if_late(endpoint, now_ms), now_ms)
        case _:
            return _settle(hear(endpoint, envelope), now_ms)


def endpoints_counter(tenant_id: str) -> str:
    """The store's counter of a tenant's endpoints that are not deleted."""
    return f"endpoints/{tenant_id}"


def operation_id(endpoint_id: EndpointId, generation: int) -> OperationId:
    """The id of the command that made ``generation``: the endpoint is found from it."""
    return OperationId(f"op-{endpoint_id.removeprefix('ep-')}-{generation}")


def _create(endpoint: Endpoint, command: CreateEndpoint, now_ms: int) -> Decision[Endpoint]:
    if endpoint.is_requested:
        raise Conflict(f"{endpoint.id} exists already and was made by another command", code="endpoint_exists")
    created = replace(
        endpoint,
        tenant_id=TenantId(command.tenant_id),
        project_id=ProjectId(command.project_id),
        name=command.name,
        spec=command.spec,
        placement=command.placement,
        generation=1,
        spec_generation=1,
        request_digest=command.request_digest,
        facts=_know(endpoint.facts, Fact.REQUESTED, 1, now_ms),
        visits=(Visit(Stage.REQUESTED, now_ms),),
        operations=(Operation(operation_id(endpoint.id, 1), Verb.CREATE, 1, now_ms),),
    )
    asked = EndpointRequested(
        tenant_id=command.tenant_id,
        project_id=command.project_id,
        name=command.name,
        spec=command.spec,
        placement=command.placement,
    )
    decision = _settle(created, now_ms, told=(asked,))
    taken = Take(endpoints_counter(command.tenant_id), 1, command.endpoints_max)
    return replace(decision, counters=(taken, *decision.counters))


def _delete(endpoint: Endpoint, now_ms: int) -> Decision[Endpoint]:
    if not endpoint.is_requested:
        raise NotFound(f"nobody asked for {endpoint.id}")
    if endpoint.facts.holds(Fact.DELETION_REQUESTED):
        return _settle(endpoint, now_ms)
    generation = endpoint.generation + 1
    superseded, ends = _finish(endpoint, Verb.CREATE, Outcome.SUPERSEDED, "the endpoint was deleted", now_ms)
    deleting = replace(
        superseded,
        generation=generation,
        facts=_know(endpoint.facts, Fact.DELETION_REQUESTED, generation, now_ms),
        operations=(
            *superseded.operations,
            Operation(operation_id(endpoint.id, generation), Verb.DELETE, generation, now_ms),
        ),
    )
    asked = EndpointDeletionRequested(
        tenant_id=endpoint.tenant_id, project_id=endpoint.project_id, drain_deadline_ms=DRAIN_MS
    )
    return _settle(deleting, now_ms, told=(asked, *ends))


def _give_up_if_late(endpoint: Endpoint, now_ms: int) -> Endpoint:
    """Past the deadline of a stage of a create, the deadline is a fact like any other. Nothing else can be late."""
    due_ms = deadline_ms(endpoint)
    if not endpoint.is_requested or endpoint.stage not in CREATING or due_ms is None or now_ms < due_ms:
        return endpoint
    row = LIFECYCLE.awaited(endpoint.stage)
    assert row is not None, endpoint.stage
    minutes = (due_ms - endpoint.visit.since_ms) // MINUTE_MS
    said = why(endpoint)
    message = (
        f"{row.owed_by} did not tell {row.fact} within {minutes} minutes; last said: {said.reason}, {said.message}"
    )
    facts = _know(endpoint.facts, Fact.DEADLINE_PASSED, endpoint.generation, now_ms)
    failure = endpoint.failure or Words("DeadlinePassed", message, endpoint.generation, 0)
    return replace(endpoint, facts=facts, failure=failure)


def _settle(endpoint: Endpoint, now_ms: int, told: tuple[Event, ...] = ()) -> Decision[Endpoint]:
    """Walk the table, enter every stage on the way, and tell each."""
    if not endpoint.is_requested:
        return Decision(endpoint)
    entered = steps(endpoint.stage, LIFECYCLE.path(endpoint.facts.holding()))
    for stage in entered:
        endpoint, more = _enter(endpoint, stage, now_ms)
        told = (*told, *more)
    gone = Stage.DELETED in entered
    return Decision(
        endpoint,
        events=told,
        generation=endpoint.generation,
        wake_at_ms=deadline_ms(endpoint) if endpoint.stage in CREATING else None,
        counters=(Give(endpoints_counter(endpoint.tenant_id), 1),) if gone else (),
    )


def _enter(endpoint: Endpoint, stage: Stage, now_ms: int) -> tuple[Endpoint, tuple[Event, ...]]:
    """The endpoint in ``stage``, and what is told of it: the stage, then what it ends."""
    moved = _move(endpoint, stage, now_ms)
    said = why(moved)
    told: tuple[Event, ...] = (
        EndpointStageChanged(
            tenant_id=moved.tenant_id,
            project_id=moved.project_id,
            name=moved.name,
            stage=stage,
            previous=endpoint.stage,
            since_ms=moved.visit.since_ms,
            previous_since_ms=endpoint.visit.since_ms,
            waiting_on=said.waiting_on,
            deadline_ms=deadline_ms(moved),
            reason=said.reason,
            message=said.message,
        ),
    )
    match stage:
        case Stage.READY:
            moved, ends = _finish(moved, Verb.CREATE, Outcome.SUCCEEDED, "", now_ms)
        case Stage.DELETED:
            moved, ends = _finish(moved, Verb.DELETE, Outcome.SUCCEEDED, "", now_ms)
        case Stage.FAILED:
            moved, ends = _finish(moved, Verb.CREATE, Outcome.FAILED, f"{said.reason}: {said.message}", now_ms)
            told = (*told, _failed(moved, said.reason, said.message))
        case _:
            ends = ()
    return moved, (*told, *ends)


def _move(endpoint: Endpoint, stage: Stage, now_ms: int) -> Endpoint:
    """Close the visit to the present stage and open one to ``stage``; a clock that went back costs no time."""
    left = endpoint.visit
    at_ms = max(now_ms, left.since_ms)
    closed = replace(left, spent_ms=left.spent_ms + at_ms - left.since_ms)
    others = tuple(each for each in endpoint.visits if each.stage not in (left.stage, stage))
    earlier = next((each for each in endpoint.visits if each.stage is stage), Visit(stage, at_ms))
    return replace(endpoint, stage=stage, visits=(*others, closed, replace(earlier, since_ms=at_ms)))


def _finish(
    endpoint: Endpoint, verb: Verb, outcome: Outcome, message: str, now_ms: int
) -> tuple[Endpoint, tuple[Event, ...]]:
    """Bring the running operation of ``verb`` to its end; one that ended already stays as it ended."""
    running = next((each for each in endpoint.operations if each.verb is verb and each.finished_ms is None), None)
    if running is None:
        return endpoint, ()
    done = replace(running, finished_ms=max(now_ms, running.accepted_ms), outcome=outcome, message=message)
    operations = tuple(done if each.id == done.id else each for each in endpoint.operations)
    told = OperationFinished(
        tenant_id=endpoint.tenant_id, operation_id=done.id, verb=verb, outcome=outcome, message=message
    )
    return replace(endpoint, operations=operations), (told,)


def _failed(endpoint: Endpoint, reason: str, message: str) -> EndpointFailed:
    return EndpointFailed(tenant_id=endpoint.tenant_id, project_id=endpoint.project_id, reason=reason, message=message)


def _know(facts: Facts, fact: Fact, generation: int, now_ms: int) -> Facts:
    """One of our own facts: the generation is its sequence, since each generation has it at most once."""
    return facts.learn(Heard(fact, True, generation, generation, now_ms))
