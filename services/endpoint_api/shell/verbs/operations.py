"""The verbs on operations: look at one or at many, cancel one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from libs.common.errors import NotFound
from libs.common.runner import Runner
from services.endpoint_api.core import admission, status
from services.endpoint_api.core.caller import Ask, Caller, Scope
from services.endpoint_api.core.commands import CancelOperation, HoldOperation, command_envelope
from services.endpoint_api.core.operations import found
from services.endpoint_api.core.state import Endpoint, Operation, Outcome
from services.endpoint_api.core.status import OperationView
from services.endpoint_api.shell import metrics
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.tenancy import Tenancy
from services.endpoint_api.shell.verbs.carrying_out import Hand
from services.endpoint_api.shell.verbs.finding import (
    NO_OPERATION,
    after,
    check_limit,
    cursor_of,
    find,
    find_of_operation,
    live_ones,
)


@dataclass(frozen=True, slots=True)
class OperationPage:
    """Some operations, and where the next ones begin; None after the last."""

    items: tuple[OperationView, ...]
    next_cursor: str | None


class OperationVerbs:
    """What a tenant does with operations."""

    def __init__(self, endpoints: Runner[Endpoint], ports: Ports, tenancy: Tenancy, hand: Hand) -> None:
        self._endpoints = endpoints
        self._ports = ports
        self._tenancy = tenancy
        self._hand = hand

    def get(self, caller: Caller, operation_id: str) -> OperationView:
        """An operation; its endpoint is in its id."""
        caller.needs(Scope.READ)
        endpoint = find_of_operation(self._endpoints, caller, operation_id)
        return _view(endpoint, operation_id)

    def list(
        self,
        caller: Caller,
        *,
        endpoint: str | None = None,
        cursor: str = "",
        limit: int = 50,
        status: Outcome | None = None,
    ) -> OperationPage:
        """Operations of the project's endpoints, or of one by id or name: by endpoint, oldest first."""
        caller.needs(Scope.READ)
        check_limit(limit)
        start = _place(after(cursor, admission.OPERATION_ID_FORM))
        chosen: list[tuple[Endpoint, Operation]] = []
        for owner, each in self._every(caller, endpoint):
            if _place(each.id) > start and status in (None, each.outcome):
                chosen.append((owner, each))
            if len(chosen) > limit:
                break
        items = tuple(_view(owner, each.id) for owner, each in chosen[:limit])
        return OperationPage(items, cursor_of(items[-1].id) if len(chosen) > limit else None)

    def hold(self, ask: Ask, operation_id: str, *, holds: bool) -> OperationView:
        """Hold a rollout where it is, or let it go on. Raises Conflict if it has ended or replaces nothing now."""
        with metrics.counted("hold" if holds else "release"):
            ask.caller.needs(Scope.MANAGE)
            endpoint = find_of_operation(self._endpoints, ask.caller, operation_id)
            _view(endpoint, operation_id)
            command = HoldOperation(
                actor=ask.caller.actor,
                request_id=ask.request_id,
                if_match=ask.if_match,
                operation_id=operation_id,
                is_held=holds,
            )
            return self._take(ask, endpoint, command, f"{operation_id}|{holds}")

    def cancel(self, ask: Ask, operation_id: str) -> OperationView:
        """Undo what a running operation does. Raises Conflict if it ended, is a deletion or has nothing to go back to.

        A create is cancelled by a deletion, a pause by a resume, a resume by a pause, an update by going back.
        """
        with metrics.counted("cancel"):
            ask.caller.needs(Scope.MANAGE)
            endpoint = find_of_operation(self._endpoints, ask.caller, operation_id)
            _view(endpoint, operation_id)
            command = CancelOperation(
                actor=ask.caller.actor,
                request_id=ask.request_id,
                if_match=ask.if_match,
                operation_id=operation_id,
                quotas=self._tenancy.quotas(ask.caller),
            )
            return self._take(ask, endpoint, command, operation_id)

    def _take(self, ask: Ask, endpoint: Endpoint, command: CancelOperation | HoldOperation, what: str) -> OperationView:
        key = admission.request_key(idempotency_key=ask.idempotency_key, request_id=ask.request_id)
        now_ms = self._ports.clock.now_ms()
        envelope = command_envelope(endpoint.id, command, now_ms, ask.traceparent, ask=f"{key}|{what}")
        return _view(self._hand.take(envelope), command.operation_id)

    def _every(self, caller: Caller, ref: str | None) -> Iterator[tuple[Endpoint, Operation]]:
        if ref is not None:
            one = find(self._endpoints, self._ports, caller, ref)
            yield from ((one, each) for each in one.operations)
            return
        for endpoint in live_ones(self._endpoints, caller):
            yield from ((endpoint, each) for each in endpoint.operations)


def _view(endpoint: Endpoint, operation_id: str) -> OperationView:
    operation = found(endpoint, operation_id)
    if operation is None:
        raise NotFound(NO_OPERATION)
    return status.operation_view(endpoint, operation)


def _place(operation_id: str) -> tuple[str, int]:
    """Its place in a list: the endpoint's id, then its number."""
    if not operation_id:
        return "", 0
    endpoint, _, number = operation_id.rpartition("-")
    return endpoint, int(number)
