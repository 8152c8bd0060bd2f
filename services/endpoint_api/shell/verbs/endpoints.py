"""The verbs on endpoints: admit a command, run it, answer with a view."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from libs.common.errors import Conflict, Invalid
from libs.common.events.endpoint import EndpointSpec, Stage
from libs.common.events.envelope import Envelope
from libs.common.runner import Runner
from libs.common.store.port import Record
from services.endpoint_api.core import admission, status
from services.endpoint_api.core.caller import Ask, Caller, Scope
from services.endpoint_api.core.changes import kind_of_change, patched, repinned
from services.endpoint_api.core.commands import (
    Command,
    CreateEndpoint,
    DeleteEndpoint,
    PauseEndpoint,
    ResumeEndpoint,
    UpdateEndpoint,
    command_envelope,
)
from services.endpoint_api.core.planning import PlanView
from services.endpoint_api.core.refusal import Outpaced
from services.endpoint_api.core.state import Endpoint, Verb, home_of
from services.endpoint_api.core.status import EndpointView, OperationView
from services.endpoint_api.shell import metrics
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.tenancy import Tenancy
from services.endpoint_api.shell.verbs.carrying_out import NAME_TAKEN, Hand
from services.endpoint_api.shell.verbs.finding import after, check_limit, cursor_of, find, is_callers, live_ones
from services.endpoint_api.shell.views import Views

ATTEMPTS_MAX: Final = 8  # Updates by other processes that win in turn before this one gives up.
TURNS: Final = 64  # Locks that endpoints share; two of one lock wait for each other without need, and rarely.


@dataclass(frozen=True, slots=True)
class Page:
    """Some endpoints, and where the next ones begin; None after the last."""

    items: tuple[EndpointView, ...]
    next_cursor: str | None


class EndpointVerbs:
    """What a tenant does with endpoints. All raise Forbidden for a missing scope, Unavailable for a lost store.

    Every change raises PreconditionFailed where `if_match` is not the present ETag; with `dry_run` it is the plan.
    """

    def __init__(self, endpoints: Runner[Endpoint], ports: Ports, tenancy: Tenancy, views: Views, hand: Hand) -> None:
        self._endpoints = endpoints
        self._ports = ports
        self._tenancy = tenancy
        self._views = views
        self._hand = hand
        self._turns = tuple(threading.Lock() for _ in range(TURNS))

    def create(self, ask: Ask, *, name: str, spec: EndpointSpec) -> OperationView | PlanView:
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
                envelope = command_envelope(endpoint_id, command, self._ports.clock.now_ms(), ask.traceparent)
                if ask.dry_run:
                    self._check_name_is_free(ask.caller, name)
                    before = known or self._endpoints.owned.empty(endpoint_id)
                    return self._hand.plan(envelope, before=before, verb=Verb.CREATE)
                known = self._hand.take(envelope)
            if known.request_digest != asked:
                raise Invalid(
                    "this Idempotency-Key (or X-Request-Id) came before with another body; use a new one",
                    code="idempotency_key_reused",
                )
        return status.operation_view(known, known.operations[0])

    def update(self, ask: Ask, ref: str, *, changes: Mapping[str, JsonValue]) -> OperationView | PlanView:
        """Change the spec by an RFC 7396 merge patch of it; what failed is repaired by this.

        Raises FieldRefused naming `spec.<field>`, Conflict, QuotaExceeded.
        """
        with metrics.counted("update"):
            return self._change_spec(ask, ref, changes, verb="update")

    def scale(self, ask: Ask, ref: str, *, scaling: Mapping[str, JsonValue]) -> OperationView | PlanView:
        """Change how many replicas may run. Raises as `update` does."""
        with metrics.counted("scale"):
            return self._change_spec(ask, ref, {"scaling": dict(scaling)}, verb="scale")

    def pause(self, ask: Ask, ref: str, *, drain_deadline_s: int | None = None) -> OperationView | PlanView:
        """Keep it, but give back what it runs on; live streams may go on until the deadline."""
        with metrics.counted("pause"):
            return self._stop(ask, ref, drain_deadline_s, Verb.PAUSE)

    def drain(self, ask: Ask, ref: str, *, drain_deadline_s: int) -> OperationView | PlanView:
        """Take no new requests, let live streams end until the deadline, then pause."""
        with metrics.counted("drain"):
            return self._stop(ask, ref, drain_deadline_s, Verb.DRAIN)

    def resume(self, ask: Ask, ref: str) -> OperationView | PlanView:
        """Bring back what was paused or failed. Raises QuotaExceeded, and it stays as it is."""
        with metrics.counted("resume"):
            endpoint = self._find(ask, ref)
            quotas = self._tenancy.quotas(ask.caller)
            command = ResumeEndpoint(
                actor=ask.caller.actor, request_id=ask.request_id, if_match=ask.if_match, quotas=quotas
            )
            return self._carry_out(ask, endpoint, command, Verb.RESUME)

    def delete(self, ask: Ask, ref: str, *, drain_deadline_s: int | None = None) -> OperationView | PlanView:
        """Ask for an endpoint's end, by id or name; asked again, the operation is the one that is on its way."""
        with metrics.counted("delete"):
            endpoint = self._find(ask, ref)
            command = DeleteEndpoint(
                actor=ask.caller.actor,
                request_id=ask.request_id,
                if_match=ask.if_match,
                drain_deadline_ms=admission.drain_ms(drain_deadline_s),
            )
            ended = next((each for each in endpoint.operations if each.verb is Verb.DELETE), None)
            if ended is not None and not ask.dry_run:
                return status.operation_view(endpoint, ended)
            return self._carry_out(ask, endpoint, command, Verb.DELETE)

    def get(self, caller: Caller, ref: str) -> EndpointView:
        """An endpoint by id or name. By id it is found after its deletion too; its name is free by then."""
        caller.needs(Scope.READ)
        return self._views.of(caller).endpoint(find(self._endpoints, self._ports, caller, ref))

    def list(
        self,
        caller: Caller,
        *,
        cursor: str = "",
        limit: int = 50,
        stage: Stage | None = None,
        tier: str | None = None,
        model: str | None = None,
        name_prefix: str | None = None,
    ) -> Page:
        """Endpoints of the caller's project that are not deleted and fit every filter, in order of their ids."""
        caller.needs(Scope.READ)
        check_limit(limit)
        start = after(cursor, admission.ENDPOINT_ID_FORM)
        found: list[Endpoint] = []
        for each in live_ones(self._endpoints, caller, beyond=start):
            if _fits(each, stage=stage, tier=tier, model=model, name_prefix=name_prefix):
                found.append(each)
            if len(found) > limit:
                break
        views = self._views.of(caller)
        items = tuple(views.endpoint(each) for each in found[:limit])
        return Page(items, cursor_of(items[-1].id) if len(found) > limit else None)

    def _change_spec(
        self, ask: Ask, ref: str, changes: Mapping[str, JsonValue], *, verb: str
    ) -> OperationView | PlanView:
        """Patch what is there and ask for that; somebody else was faster: patch what is there now."""
        request = f"{self._request(ask)}|{_digest(verb, changes)}"
        endpoint = self._find(ask, ref)
        with self._turns[hash(endpoint.id) % TURNS]:  # In this process they come in turn, and none has to give up.
            for _ in range(ATTEMPTS_MAX):
                endpoint = self._find(ask, endpoint.id)
                command = self._admit_update(ask, endpoint, changes, verb=verb)
                try:
                    return self._hand.carry_out(
                        ask, self._envelope(ask, endpoint, command, request), before=endpoint, verb=verb
                    )
                except Outpaced:
                    continue
        raise Outpaced("others change this endpoint all the time; ask again")

    def _admit_update(
        self, ask: Ask, endpoint: Endpoint, changes: Mapping[str, JsonValue], *, verb: str
    ) -> UpdateEndpoint:
        assert endpoint.spec is not None, endpoint.id
        assert endpoint.placement is not None, endpoint.id
        spec = patched(endpoint.spec, changes)
        change = kind_of_change(endpoint.spec, spec)
        resolved = self._tenancy.catalogue(ask.caller).resolve(spec)
        return UpdateEndpoint(
            actor=ask.caller.actor,
            request_id=ask.request_id,
            if_match=ask.if_match,
            verb="scale" if verb == "scale" else "update",
            spec=spec,
            placement=repinned(endpoint.placement, resolved, change),
            made_from=endpoint.generation,
            quotas=self._tenancy.quotas(ask.caller),
            domain=self._domain_after(ask.caller, endpoint, spec),
        )

    def _domain_after(self, caller: Caller, endpoint: Endpoint, spec: EndpointSpec) -> str:
        """A host name that it has stays its own; another one is looked at."""
        if endpoint.spec is not None and spec.hostname == endpoint.spec.hostname:
            return endpoint.domain
        return self._tenancy.domain_of(caller, spec.hostname)

    def _stop(self, ask: Ask, ref: str, drain_deadline_s: int | None, verb: Verb) -> OperationView | PlanView:
        endpoint = self._find(ask, ref)
        command = PauseEndpoint(
            actor=ask.caller.actor,
            request_id=ask.request_id,
            if_match=ask.if_match,
            verb="drain" if verb is Verb.DRAIN else "pause",
            drain_deadline_ms=admission.drain_ms(drain_deadline_s),
        )
        return self._carry_out(ask, endpoint, command, verb)

    def _carry_out(self, ask: Ask, endpoint: Endpoint, command: Command, verb: Verb) -> OperationView | PlanView:
        envelope = self._envelope(ask, endpoint, command, self._request(ask))
        return self._hand.carry_out(ask, envelope, before=endpoint, verb=verb)

    def _envelope(self, ask: Ask, endpoint: Endpoint, command: Command, request: str) -> Envelope:
        return command_envelope(endpoint.id, command, self._ports.clock.now_ms(), ask.traceparent, ask=request)

    @staticmethod
    def _request(ask: Ask) -> str:
        return admission.request_key(idempotency_key=ask.idempotency_key, request_id=ask.request_id)

    def _find(self, ask: Ask, ref: str) -> Endpoint:
        ask.caller.needs(Scope.MANAGE)
        return find(self._endpoints, self._ports, ask.caller, ref)

    def _check_name_is_free(self, caller: Caller, name: str) -> None:
        record: Record | None = self._ports.store.find(
            self._endpoints.owned.kind, scope=home_of(caller.tenant_id, caller.project_id), label=name
        )
        if record is not None and is_callers(caller, self._endpoints.parse(record)):
            raise Conflict(NAME_TAKEN, code="name_taken")

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
            quotas=self._tenancy.quotas(caller),
            domain=self._tenancy.domain_of(caller, spec.hostname),
        )


def _digest(verb: str, changes: Mapping[str, JsonValue]) -> str:
    return hashlib.sha256(json.dumps([verb, dict(changes)], sort_keys=True).encode()).hexdigest()


def _fits(
    endpoint: Endpoint, *, stage: Stage | None, tier: str | None, model: str | None, name_prefix: str | None
) -> bool:
    assert endpoint.spec is not None, endpoint.id
    return (
        stage in (None, endpoint.stage)
        and tier in (None, endpoint.spec.tier)
        and model in (None, endpoint.spec.model)
        and endpoint.name.startswith(name_prefix or "")
    )
