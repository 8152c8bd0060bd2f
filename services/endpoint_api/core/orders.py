"""What each accepted command makes of an endpoint: its new desire, the facts it forgets, its operation."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from libs.common.errors import Conflict
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointPauseRequested,
    EndpointRequested,
    EndpointSpec,
    Placement,
    Stage,
)
from libs.common.events.event import Event
from libs.common.events.facts import Fact, Facts, Heard
from libs.common.events.tenant import Quotas
from libs.common.ids import ProjectId, TenantId
from services.endpoint_api.core.changes import kind_of_change
from services.endpoint_api.core.commands import (
    DRAIN_MS,
    CancelOperation,
    CreateEndpoint,
    HoldOperation,
    PauseEndpoint,
    UpdateEndpoint,
)
from services.endpoint_api.core.forgetting import Change, raised, remembered
from services.endpoint_api.core.lifecycle import HALTED, SERVED
from services.endpoint_api.core.operations import begin, finish, found, is_cancellable, is_pausable
from services.endpoint_api.core.refusal import Outpaced
from services.endpoint_api.core.settling import Draft
from services.endpoint_api.core.state import Endpoint, Outcome, Verb, Visit

EVERY_VERB: Final = frozenset(Verb)


def create(endpoint: Endpoint, command: CreateEndpoint, request: str, now_ms: int) -> Draft:
    """The first desire."""
    if endpoint.is_requested:
        raise Conflict(f"{endpoint.id} exists already and was made by another command", code="endpoint_exists")
    created = replace(
        endpoint,
        tenant_id=TenantId(command.tenant_id),
        project_id=ProjectId(command.project_id),
        name=command.name,
        request_digest=command.request_digest,
        domain=command.domain,
        visits=(Visit(Stage.REQUESTED, now_ms),),
    )
    created = _wants(created, command.spec, command.placement, Change.ANEW, now_ms)
    return Draft(begin(created, Verb.CREATE, request, now_ms), (_requested(created),), command.quotas)


def update(endpoint: Endpoint, command: UpdateEndpoint, request: str, now_ms: int) -> Draft:
    """Another spec: rolled out where it serves, kept for later where it is paused, a repair where it failed."""
    if command.made_from != endpoint.generation:
        raise Outpaced(f"{endpoint.id} is at generation {endpoint.generation}, not {command.made_from}")
    assert endpoint.spec is not None, endpoint.id
    verb = Verb(command.verb)
    change = kind_of_change(endpoint.spec, command.spec)
    if change is Change.NONE:
        return _done(endpoint, verb, "nothing changed: it is as asked already", request, now_ms)
    if endpoint.stage in HALTED:
        kept = replace(
            endpoint,
            spec=command.spec,
            placement=command.placement,
            domain=command.domain,
            generation=endpoint.generation + 1,
            good=None,
        )
        return _done(kept, verb, "recorded; it takes effect when the endpoint is resumed", request, now_ms)
    ended, ends = _supersede(endpoint, f"replaced by a newer {verb}", now_ms)
    if endpoint.stage is Stage.FAILED:
        change = Change.ANEW
    wanted = replace(_wants(ended, command.spec, command.placement, change, now_ms), domain=command.domain)
    wanted = begin(replace(wanted, is_going_back=False), verb, request, now_ms)
    return Draft(wanted, (_requested(wanted), *ends), command.quotas, starts_over=change is Change.ANEW)


def pause(endpoint: Endpoint, command: PauseEndpoint, request: str, now_ms: int) -> Draft:
    """Kept, but nothing runs. Asked again, it is on its way or done already."""
    verb = Verb(command.verb)
    if endpoint.stage is Stage.PAUSING:
        return Draft(endpoint)
    if endpoint.stage is Stage.PAUSED:
        return _done(endpoint, verb, "nothing changed: it is paused already", request, now_ms)
    ended, ends = _supersede(endpoint, f"replaced by a newer {verb}", now_ms)
    paused, told = _pause(ended, command.drain_deadline_ms, now_ms)
    return Draft(begin(paused, verb, request, now_ms), (told, *ends))


def resume(endpoint: Endpoint, quotas: Quotas, request: str, now_ms: int) -> Draft:
    """Back to life, from its first stage on."""
    if endpoint.stage not in (*HALTED, Stage.FAILED):
        return _done(endpoint, Verb.RESUME, "nothing changed: it is neither paused nor failed", request, now_ms)
    ended, ends = _supersede(endpoint, "replaced by a resume", now_ms)
    back = _anew(ended, now_ms)
    return Draft(begin(back, Verb.RESUME, request, now_ms), (_requested(back), *ends), quotas, starts_over=True)


def delete(endpoint: Endpoint, drain_deadline_ms: int, request: str, now_ms: int) -> Draft:
    """Gone for ever. What an end before it was answered with still counts."""
    ended, ends = _supersede(endpoint, "the endpoint was deleted", now_ms)
    going, told = _delete(ended, drain_deadline_ms, now_ms)
    return Draft(begin(going, Verb.DELETE, request, now_ms), (told, *ends))


def cancel(endpoint: Endpoint, command: CancelOperation, request: str, now_ms: int) -> Draft:
    """Undo what an operation is doing; what undoes it can be followed in turn. Raises Conflict where nothing can."""
    operation = found(endpoint, command.operation_id)
    if operation is None or operation.finished_ms is not None:
        raise Conflict("this operation has ended already; ask for the change that you want", code="operation_finished")
    if operation.verb is Verb.DELETE:
        raise Conflict("a deletion always goes on to its end; create another endpoint", code="deletion_is_final")
    if not is_cancellable(endpoint, operation):
        message = "nothing was ready yet that it could go back to; update it again, pause it or delete it"
        raise Conflict(message, code="not_cancellable")
    only, said = {operation.verb}, "cancelled on request"
    match operation.verb:
        case Verb.CREATE:
            ended, ends = finish(endpoint, only, Outcome.CANCELLED, f"{said}; the endpoint is deleted", now_ms)
            undone = delete(ended, DRAIN_MS, request, now_ms)
        case Verb.PAUSE | Verb.DRAIN:
            ended, ends = finish(endpoint, only, Outcome.CANCELLED, f"{said}; the endpoint is resumed", now_ms)
            undone = resume(ended, command.quotas, request, now_ms)
        case Verb.RESUME:
            ended, ends = finish(endpoint, only, Outcome.CANCELLED, f"{said}; the endpoint is paused", now_ms)
            paused, told = _pause(ended, DRAIN_MS, now_ms)
            undone = Draft(begin(paused, Verb.PAUSE, request, now_ms), (told,))
        case _:
            return go_back(endpoint, Outcome.CANCELLED, said, now_ms)
    return replace(undone, told=(*undone.told, *ends))


def hold(endpoint: Endpoint, command: HoldOperation, now_ms: int) -> Draft:
    """A rollout held where it is, or let go on; asked again, nothing changes. Raises Conflict where there is none."""
    operation = found(endpoint, command.operation_id)
    if operation is None or operation.finished_ms is not None:
        raise Conflict("this operation has ended already; ask for the change that you want", code="operation_finished")
    if not is_pausable(endpoint, operation):
        raise Conflict("only an update that replaces replicas can be paused, while it does", code="not_pausable")
    if command.is_held is endpoint.rollout_paused:
        return Draft(endpoint)
    assert endpoint.spec is not None, endpoint.id
    assert endpoint.placement is not None, endpoint.id
    wanted = _wants(endpoint, endpoint.spec, endpoint.placement, Change.IN_PLACE, now_ms)
    held = replace(wanted, rollout_paused=command.is_held)
    return Draft(held, (_requested(held),))


def go_back(endpoint: Endpoint, outcome: Outcome, reason: str, now_ms: int) -> Draft:
    """Ask anew for what was ready last; the operation that led away from it ends as ``outcome``."""
    good = endpoint.good
    assert good is not None, f"{endpoint.id} is updating but was never ready"
    message = f"{reason}; the endpoint goes back to {good.spec.model} on {good.placement.runtime_template}"
    ended, ends = finish(endpoint, EVERY_VERB, outcome, message, now_ms)
    back = replace(
        _wants(ended, good.spec, good.placement, Change.ROLL, now_ms), domain=good.domain, is_going_back=True
    )
    return Draft(back, (_requested(back), *ends))


def know(facts: Facts, fact: Fact, generation: int, now_ms: int) -> Facts:
    """One of our own facts: the generation is its sequence, since each generation has it at most once."""
    return facts.learn(Heard(fact, True, generation, generation, now_ms))


def _wants(endpoint: Endpoint, spec: EndpointSpec, placement: Placement, change: Change, now_ms: int) -> Endpoint:
    """The endpoint with a new generation of desire, and without the facts that this makes void."""
    generation = endpoint.generation + 1
    floors = raised(endpoint.floors, change, generation)
    facts = know(remembered(endpoint.facts, floors, change), Fact.REQUESTED, generation, now_ms)
    if endpoint.stage in SERVED and change is not Change.ANEW:
        facts = know(facts, Fact.UPDATE_REQUESTED, generation, now_ms)
    rolls = change in (Change.ROLL, Change.RELOAD, Change.ANEW)
    is_told_anew = rolls or change is Change.READDRESS
    return replace(
        endpoint,
        spec=spec,
        placement=placement,
        generation=generation,
        floors=floors,
        facts=facts,
        failure=None if is_told_anew else endpoint.failure,
        degraded=None if rolls else endpoint.degraded,
        asked_ms=now_ms,
        rollout_paused=False,
    )


def _anew(endpoint: Endpoint, now_ms: int) -> Endpoint:
    assert endpoint.spec is not None, endpoint.id
    assert endpoint.placement is not None, endpoint.id
    back = _wants(endpoint, endpoint.spec, endpoint.placement, Change.ANEW, now_ms)
    return replace(back, good=None, is_going_back=False, waiting=None, ready=None, decided=None)


def _pause(endpoint: Endpoint, drain_deadline_ms: int, now_ms: int) -> tuple[Endpoint, Event]:
    ended = _end(endpoint, Fact.PAUSE_REQUESTED, now_ms)
    told = EndpointPauseRequested(
        tenant_id=endpoint.tenant_id, project_id=endpoint.project_id, drain_deadline_ms=drain_deadline_ms
    )
    return ended, told


def _delete(endpoint: Endpoint, drain_deadline_ms: int, now_ms: int) -> tuple[Endpoint, Event]:
    ended = _end(endpoint, Fact.DELETION_REQUESTED, now_ms)
    told = EndpointDeletionRequested(
        tenant_id=endpoint.tenant_id, project_id=endpoint.project_id, drain_deadline_ms=drain_deadline_ms
    )
    return ended, told


def _end(endpoint: Endpoint, fact: Fact, now_ms: int) -> Endpoint:
    """It shall hold nothing. Where it already should not, what was given back stays given back."""
    generation = endpoint.generation + 1
    is_first = endpoint.stage not in (*HALTED, Stage.FAILED)
    floors = raised(endpoint.floors, Change.END, generation) if is_first else endpoint.floors
    facts = know(remembered(endpoint.facts, floors, Change.END), fact, generation, now_ms)
    return replace(endpoint, generation=generation, floors=floors, facts=facts, asked_ms=now_ms)


def _supersede(endpoint: Endpoint, message: str, now_ms: int) -> tuple[Endpoint, tuple[Event, ...]]:
    return finish(endpoint, EVERY_VERB, Outcome.SUPERSEDED, message, now_ms)


def _done(endpoint: Endpoint, verb: Verb, message: str, request: str, now_ms: int) -> Draft:
    """An operation that had nothing to do: it ends at once, and says so. Another that runs goes on."""
    begun = begin(endpoint, verb, request, now_ms)
    mine = begun.operations[-1]
    alone, told = finish(replace(begun, operations=(mine,)), {verb}, Outcome.SUCCEEDED, message, now_ms)
    return Draft(replace(begun, operations=(*begun.operations[:-1], *alone.operations)), told)


def _requested(endpoint: Endpoint) -> EndpointRequested:
    assert endpoint.spec is not None, endpoint.id
    assert endpoint.placement is not None, endpoint.id
    return EndpointRequested(
        tenant_id=endpoint.tenant_id,
        project_id=endpoint.project_id,
        name=endpoint.name,
        spec=endpoint.spec,
        placement=endpoint.placement,
        rollout_paused=endpoint.rollout_paused,
    )
