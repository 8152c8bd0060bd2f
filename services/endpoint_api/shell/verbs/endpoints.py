"""The verbs on endpoints: admit a command, run it, answer with a view."""

from __future__ import annotations

import base64
import binascii
import logging
from dataclasses import dataclass
from typing import Final

from libs.common.errors import Conflict, Invalid, NotFound
from libs.common.events.endpoint import EndpointSpec
from libs.common.events.facts import Fact
from libs.common.runner import Runner
from libs.common.store.port import Taken
from libs.common.telemetry.logging import fields
from services.endpoint_api.core import admission, status
from services.endpoint_api.core.caller import Ask, Caller, Scope
from services.endpoint_api.core.commands import CreateEndpoint, DeleteEndpoint, command_envelope
from services.endpoint_api.core.refusal import FieldRefused
from services.endpoint_api.core.state import Endpoint, home_of
from services.endpoint_api.core.status import EndpointView, OperationView
from services.endpoint_api.shell import metrics
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.tenancy import Tenancy

log = logging.getLogger(__name__)

LIST_MAX: Final = 200  # One page; bounds memory and the time of one answer.
NO_ENDPOINT: Final = "no such endpoint in this project"  # The same for another tenant's and for one that never was.
NO_OPERATION: Final = "no such operation in this project"


@dataclass(frozen=True, slots=True)
class Page:
    """Some endpoints, and where the next ones begin; None after the last."""

    items: tuple[EndpointView, ...]
    next_cursor: str | None


class EndpointVerbs:
    """What a tenant does with endpoints. All raise Forbidden for a missing scope, Unavailable for a lost store."""

    def __init__(self, endpoints: Runner[Endpoint], ports: Ports, tenancy: Tenancy) -> None:
        self._endpoints = endpoints
        self._ports = ports
        self._tenancy = tenancy

    def create(self, ask: Ask, *, name: str, spec: EndpointSpec) -> OperationView:
        """Ask for an endpoint; the same key and body again give the same operation.

        Raises Invalid (a field, or the key was used for another body), Conflict (name taken), QuotaExceeded.
        """
        with metrics.counted("create"):
            ask.caller.needs(Scope.MANAGE)
            key = admission.request_key(idempotency_key=ask.idempotency_key, request_id=ask.request_id)
            endpoint_id = admission.endpoint_id(ask.caller, key)
            asked = admission.request_digest(name, spec)
            known = self._endpoints.state(endpoint_id)
            if known is None or not known.is_requested:
                command = self._admit(ask, name=name, spec=spec, asked=asked)
                known = self._take(endpoint_id, command, ask.traceparent)
            if known.request_digest != asked:
                raise Invalid(
                    "this Idempotency-Key (or X-Request-Id) came before with another body; use a new one",
                    code="idempotency_key_reused",
                )
        operation = known.operations[0]
        log.info("endpoint requested", extra=fields(endpoint_id=endpoint_id, operation_id=operation.id))
        return status.operation_view(known, operation)

    def delete(self, ask: Ask, ref: str) -> OperationView:
        """Ask for an endpoint's end, by id or name; asked again, the operation is the one that is on its way."""
        with metrics.counted("delete"):
            ask.caller.needs(Scope.MANAGE)
            endpoint = self._find(ask.caller, ref)
            if not endpoint.facts.holds(Fact.DELETION_REQUESTED):
                command = DeleteEndpoint(actor=ask.caller.actor, request_id=ask.request_id)
                now_ms = self._ports.clock.now_ms()
                endpoint = self._endpoints.take(
                    endpoint.id, command_envelope(endpoint.id, command, now_ms, ask.traceparent)
                )
        operation = endpoint.operations[-1]
        log.info("deletion requested", extra=fields(endpoint_id=endpoint.id, operation_id=operation.id))
        return status.operation_view(endpoint, operation)

    def get(self, caller: Caller, ref: str) -> EndpointView:
        """An endpoint by id or name. By id it is found after its deletion too; its name is free by then."""
        caller.needs(Scope.READ)
        return status.endpoint_view(self._find(caller, ref), self._ports.clock.now_ms())

    def list(self, caller: Caller, *, cursor: str = "", limit: int = 50) -> Page:
        """Endpoints of the caller's project that are not deleted, in order of their ids."""
        caller.needs(Scope.READ)
        if not 1 <= limit <= LIST_MAX:
            raise FieldRefused("limit", f"must be 1 to {LIST_MAX}")
        home = home_of(caller.tenant_id, caller.project_id)
        found = self._endpoints.states(scope=home, after=_after(cursor), limit=limit + 1)
        now_ms = self._ports.clock.now_ms()
        items = tuple(status.endpoint_view(each, now_ms) for each in found[:limit])
        return Page(items, _cursor(items[-1].id) if len(found) > limit else None)

    def operation(self, caller: Caller, operation_id: str) -> OperationView:
        """An operation; its endpoint is in its id."""
        caller.needs(Scope.READ)
        form = admission.OPERATION_ID_FORM.fullmatch(operation_id)
        endpoint = self._endpoints.state(f"ep-{form.group(1)}") if form else None
        if endpoint is None or not _is_callers(caller, endpoint):
            raise NotFound(NO_OPERATION)
        operation = next((each for each in endpoint.operations if each.id == operation_id), None)
        if operation is None:
            raise NotFound(NO_OPERATION)
        return status.operation_view(endpoint, operation)

    def _admit(self, ask: Ask, *, name: str, spec: EndpointSpec, asked: str) -> CreateEndpoint:
        admission.check_name(name)
        caller = ask.caller
        return CreateEndpoint(
            actor=caller.actor,
            request_id=ask.request_id,
            tenant_id=caller.tenant_id,
            project_id=caller.project_id,
            name=name,
            spec=spec,
            placement=self._tenancy.catalogue(caller).resolve(spec),
            request_digest=asked,
            endpoints_max=self._ports.endpoints_max,
        )

    def _take(self, endpoint_id: str, command: CreateEndpoint, traceparent: str) -> Endpoint:
        envelope = command_envelope(endpoint_id, command, self._ports.clock.now_ms(), traceparent)
        try:
            return self._endpoints.take(endpoint_id, envelope)
        except Taken:
            message = "an endpoint of this project has this name already; choose another, or delete that one first"
            raise Conflict(message, code="name_taken") from None

    def _find(self, caller: Caller, ref: str) -> Endpoint:
        """By id or name. Raises NotFound, in the same words for what is another's and for what never was."""
        endpoint: Endpoint | None = None
        if admission.ENDPOINT_ID_FORM.fullmatch(ref):
            endpoint = self._endpoints.state(ref)
        elif admission.NAME_FORM.fullmatch(ref):
            home = home_of(caller.tenant_id, caller.project_id)
            record = self._ports.store.find(self._endpoints.owned.kind, scope=home, label=ref)
            endpoint = self._endpoints.parse(record) if record else None
        if endpoint is None or not _is_callers(caller, endpoint):
            raise NotFound(NO_ENDPOINT)
        return endpoint


def _is_callers(caller: Caller, endpoint: Endpoint) -> bool:
    return endpoint.is_requested and endpoint.tenant_id == caller.tenant_id and endpoint.project_id == caller.project_id


def _cursor(endpoint_id: str) -> str:
    """Opaque to clients, so that the order may change."""
    return base64.urlsafe_b64encode(endpoint_id.encode()).decode()


def _after(cursor: str) -> str:
    if not cursor:
        return ""
    try:
        endpoint_id = base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        endpoint_id = ""
    if admission.ENDPOINT_ID_FORM.fullmatch(endpoint_id) is None:
        raise FieldRefused("cursor", "is not one that a list gave; begin without it")
    return endpoint_id
