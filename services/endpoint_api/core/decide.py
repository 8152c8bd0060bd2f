"""Decide where an endpoint stands after a command, a fact or a wake-up, and what the others hear of it."""

from __future__ import annotations

from dataclasses import replace

from libs.common.decision import Decision
from libs.common.errors import Conflict, NotFound
from libs.common.events.endpoint import Stage
from libs.common.events.envelope import Envelope
from libs.common.events.facts import Fact
from libs.common.runner import Woke
from libs.common.units import MINUTE_MS
from services.endpoint_api.core import orders
from services.endpoint_api.core.commands import (
    CancelOperation,
    ChangeEndpoint,
    CreateEndpoint,
    DeleteEndpoint,
    HoldOperation,
    PauseEndpoint,
    ResumeEndpoint,
    UpdateEndpoint,
)
from services.endpoint_api.core.explain import deadline_ms, why
from services.endpoint_api.core.hearing import hear
from services.endpoint_api.core.lifecycle import FAILURES, LIFECYCLE, TIMED
from services.endpoint_api.core.refusal import PreconditionFailed
from services.endpoint_api.core.settling import Draft, settle
from services.endpoint_api.core.state import Endpoint, Outcome, Words, etag_of


def decide(endpoint: Endpoint, envelope: Envelope, now_ms: int) -> Decision[Endpoint]:
    """The endpoint after ``envelope``. Any order, any repeat; after `deleted` nothing changes and nothing is told."""
    match envelope.data:
        case CreateEndpoint() as command:
            return settle(orders.create(endpoint, command, envelope.id, now_ms), now_ms)
        case ChangeEndpoint() as command:
            return _change(endpoint, command, envelope.id, now_ms)
        case _ if endpoint.stage is Stage.DELETED:
            return Decision(endpoint, generation=endpoint.generation)
        case Woke():
            return settle(_gone_back(_give_up_if_late(endpoint, now_ms), now_ms), now_ms)
        case _:
            return settle(_gone_back(hear(endpoint, envelope), now_ms), now_ms)


def _change(endpoint: Endpoint, command: ChangeEndpoint, request: str, now_ms: int) -> Decision[Endpoint]:
    if not endpoint.is_requested:
        raise NotFound(f"nobody asked for {endpoint.id}")
    if isinstance(command, DeleteEndpoint) and endpoint.facts.holds(Fact.DELETION_REQUESTED):
        return settle(Draft(endpoint), now_ms)
    _check_match(endpoint, command.if_match)
    if endpoint.facts.holds(Fact.DELETION_REQUESTED) and not isinstance(command, CancelOperation):
        raise Conflict(f"{endpoint.id} is being deleted, and a deletion is final; create another", code="being_deleted")
    match command:
        case DeleteEndpoint():
            draft = orders.delete(endpoint, command.drain_deadline_ms, request, now_ms)
        case UpdateEndpoint():
            draft = orders.update(endpoint, command, request, now_ms)
        case PauseEndpoint():
            draft = orders.pause(endpoint, command, request, now_ms)
        case ResumeEndpoint():
            draft = orders.resume(endpoint, command.quotas, request, now_ms)
        case HoldOperation():
            draft = orders.hold(endpoint, command, now_ms)
        case CancelOperation():
            draft = orders.cancel(endpoint, command, request, now_ms)
        case _:
            raise AssertionError(f"a command that nobody wrote down: {command.kind}")
    return settle(draft, now_ms)


def _check_match(endpoint: Endpoint, if_match: str) -> None:
    seen = {each.strip() for each in if_match.split(",")} - {""}
    if seen and seen.isdisjoint({"*", etag_of(endpoint)}):
        raise PreconditionFailed("it was changed since it was read; read it again, and ask with its present ETag")


def _give_up_if_late(endpoint: Endpoint, now_ms: int) -> Endpoint:
    """Past the deadline of a stage on the way to ready, the deadline is a fact like any other."""
    due_ms = deadline_ms(endpoint)
    if not endpoint.is_requested or endpoint.stage not in TIMED or due_ms is None or now_ms < due_ms:
        return endpoint
    row = LIFECYCLE.awaited(endpoint.stage)
    assert row is not None, endpoint.stage
    assert row.within_ms is not None, endpoint.stage
    minutes = row.within_ms // MINUTE_MS
    said = why(endpoint)
    message = (
        f"{row.owed_by} did not tell {row.fact} within {minutes} minutes; last said: {said.reason}, {said.message}"
    )
    facts = orders.know(endpoint.facts, Fact.DEADLINE_PASSED, endpoint.generation, now_ms)
    failure = endpoint.failure or Words("DeadlinePassed", message, endpoint.generation, 0)
    return replace(endpoint, facts=facts, failure=failure)


def _gone_back(endpoint: Endpoint, now_ms: int) -> Draft:
    """An update that fails goes back to what was ready, by itself and once; everything else stays as it is."""
    known = endpoint.facts.holding()
    failed = known & {Fact.RUNTIME_FAILED, Fact.DEADLINE_PASSED}
    ended = known & {Fact.DELETION_REQUESTED, Fact.PAUSE_REQUESTED, *FAILURES} - {Fact.RUNTIME_FAILED}
    if endpoint.stage is not Stage.UPDATING or endpoint.is_going_back or ended or not failed:
        return Draft(endpoint)
    if LIFECYCLE.stage_of(known - failed) is not Stage.UPDATING:
        return Draft(endpoint)
    said = endpoint.failure
    reason = f"{said.reason}: {said.message}" if said else "the update failed"
    return orders.go_back(endpoint, Outcome.ROLLED_BACK, reason, now_ms)
