"""From desire and facts to a stage: walk the table, tell every stage, end operations, keep the quotas exact."""

from __future__ import annotations

from dataclasses import dataclass, replace

from libs.common.decision import Decision
from libs.common.events.endpoint import EndpointFailed, EndpointStageChanged, Stage
from libs.common.events.event import Event
from libs.common.events.facts import Fact
from libs.common.events.tenant import Quotas
from services.endpoint_api.core.domains import Address, moves
from services.endpoint_api.core.explain import deadline_ms, why
from services.endpoint_api.core.lifecycle import LIFECYCLE, SERVING, TIMED, steps
from services.endpoint_api.core.operations import PAUSING, RUNNING, finish
from services.endpoint_api.core.quotas import Holding, changes, covering, holding
from services.endpoint_api.core.state import Endpoint, Good, Outcome, Verb, Visit


@dataclass(frozen=True, slots=True)
class Draft:
    """An endpoint with its new desire or facts, and what is told of that first; its stage is not yet walked to.

    `starts_over`: it goes through the stages from the first one again.
    """

    endpoint: Endpoint
    told: tuple[Event, ...] = ()
    quotas: Quotas | None = None
    starts_over: bool = False


def settle(draft: Draft, now_ms: int) -> Decision[Endpoint]:
    """Walk the table, enter every stage on the way, and tell each."""
    endpoint, told = draft.endpoint, draft.told
    if not endpoint.is_requested:
        return Decision(endpoint)
    path = LIFECYCLE.path(endpoint.facts.holding())
    for stage in path if draft.starts_over else steps(endpoint.stage, path):
        endpoint, more = _enter(endpoint, stage, now_ms)
        told = (*told, *more)
    endpoint, ends = _end_operations(endpoint, now_ms)
    held, addresses = _holding(endpoint), _addresses(endpoint)
    quota_moves = changes(
        draft.quotas,
        tenant_id=endpoint.tenant_id,
        project_id=endpoint.project_id,
        before=endpoint.held,
        after=held,
    )
    return Decision(
        replace(endpoint, held=held, addresses=addresses),
        events=(*told, *ends),
        generation=endpoint.generation,
        wake_at_ms=deadline_ms(endpoint) if endpoint.stage in TIMED else None,
        counters=tuple(sorted((*quota_moves, *moves(endpoint.addresses, addresses)), key=lambda move: move.counter)),
    )


def _enter(endpoint: Endpoint, stage: Stage, now_ms: int) -> tuple[Endpoint, tuple[Event, ...]]:
    """The endpoint in ``stage``, and what is told of that."""
    assert endpoint.spec is not None, endpoint.id
    moved = _move(endpoint, stage, now_ms)
    said = why(moved)
    entered = EndpointStageChanged(
        tenant_id=moved.tenant_id,
        project_id=moved.project_id,
        name=moved.name,
        stage=stage,
        previous=endpoint.stage,
        since_ms=moved.visit.since_ms,
        waiting_on=said.waiting_on,
        deadline_ms=deadline_ms(moved),
        reason=said.reason,
        message=said.message,
        previous_ms=moved.visit.since_ms - endpoint.visit.since_ms,
        model=endpoint.spec.model,
        tier=endpoint.spec.tier,
    )
    if stage is not Stage.FAILED:
        return moved, (entered,)
    failed = EndpointFailed(
        tenant_id=moved.tenant_id, project_id=moved.project_id, reason=said.reason, message=said.message
    )
    return moved, (entered, failed)


def _move(endpoint: Endpoint, stage: Stage, now_ms: int) -> Endpoint:
    """Close the visit to the present stage and open one to ``stage``; a clock that went back costs no time."""
    left = endpoint.visit
    at_ms = max(now_ms, left.since_ms)
    closed = replace(left, spent_ms=left.spent_ms + at_ms - left.since_ms)
    if stage is left.stage:
        return replace(endpoint, visits=(*endpoint.visits[:-1], replace(closed, since_ms=at_ms)))
    others = tuple(each for each in endpoint.visits if each.stage not in (left.stage, stage))
    earlier = next((each for each in endpoint.visits if each.stage is stage), Visit(stage, at_ms))
    return replace(endpoint, stage=stage, visits=(*others, closed, replace(earlier, since_ms=at_ms)))


def _end_operations(endpoint: Endpoint, now_ms: int) -> tuple[Endpoint, tuple[Event, ...]]:
    """End what the stage is the end of; what is ready is what a later update can go back to."""
    match endpoint.stage:
        case stage if stage in SERVING:
            assert endpoint.spec is not None, endpoint.id
            assert endpoint.placement is not None, endpoint.id
            good = Good(endpoint.spec, endpoint.placement, endpoint.domain)
            endpoint = replace(endpoint, good=good, is_going_back=False)
            return finish(endpoint, RUNNING, Outcome.SUCCEEDED, "", now_ms)
        case Stage.PAUSED:
            return finish(endpoint, PAUSING, Outcome.SUCCEEDED, "", now_ms)
        case Stage.DELETED:
            return finish(endpoint, {Verb.DELETE}, Outcome.SUCCEEDED, "", now_ms)
        case Stage.FAILED:
            said = why(endpoint)
            return finish(endpoint, RUNNING, Outcome.FAILED, f"{said.reason}: {said.message}", now_ms)
        case _:
            return endpoint, ()


def _addresses(endpoint: Endpoint) -> tuple[Address, ...]:
    """The host names that are its own until it is deleted; while an update rolls, the one it may go back to as well."""
    if endpoint.stage is Stage.DELETED:
        return ()
    assert endpoint.spec is not None, endpoint.id
    found = {Address(endpoint.spec.hostname, endpoint.domain)}
    if endpoint.stage is Stage.UPDATING and endpoint.good is not None:
        found.add(Address(endpoint.good.spec.hostname, endpoint.good.domain))
    return tuple(sorted(each for each in found if each.hostname))


def _holding(endpoint: Endpoint) -> Holding | None:
    """What it holds of its quotas: its place until it is deleted, replicas and GPUs until they were given back."""
    if endpoint.stage is Stage.DELETED:
        return None
    assert endpoint.spec is not None, endpoint.id
    assert endpoint.placement is not None, endpoint.id
    runs = not endpoint.facts.holds(Fact.CAPACITY_RELEASED)
    wanted = holding(endpoint.spec, endpoint.placement, runs=runs)
    if endpoint.stage is Stage.UPDATING and endpoint.good is not None:
        return covering(wanted, holding(endpoint.good.spec, endpoint.good.placement, runs=runs))
    if endpoint.stage in (Stage.PAUSING, Stage.PAUSED) and endpoint.held is not None:
        return endpoint.held if runs else wanted  # A spec that is kept for later takes nothing yet.
    return wanted
