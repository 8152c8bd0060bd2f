"""Carrying out a command on an endpoint: run it, or with `dry_run` say what it would do."""

from __future__ import annotations

import logging
from typing import Final

from libs.common.errors import Conflict, QuotaExceeded
from libs.common.events.envelope import Envelope
from libs.common.runner import Runner
from libs.common.store.port import Taken
from libs.common.telemetry.logging import fields
from services.endpoint_api.core import status
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.decide import decide
from services.endpoint_api.core.operations import made_by
from services.endpoint_api.core.planning import PlanView, plan_view, takes
from services.endpoint_api.core.state import Endpoint
from services.endpoint_api.core.status import OperationView
from services.endpoint_api.shell.learning import Learner
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.tenancy import Tenancy

log = logging.getLogger(__name__)

NAME_TAKEN: Final = "an endpoint of this project has this name already; choose another, or delete that one first"


class Hand:
    """Takes commands to the runner of endpoints, and answers with views."""

    def __init__(self, endpoints: Runner[Endpoint], ports: Ports, tenancy: Tenancy, learner: Learner) -> None:
        self._endpoints = endpoints
        self._ports = ports
        self._tenancy = tenancy
        self._learner = learner

    def carry_out(self, ask: Ask, envelope: Envelope, *, before: Endpoint, verb: str) -> OperationView | PlanView:
        """The operation that the command made, or the plan. Raises what the command is refused with."""
        if ask.dry_run:
            return self.plan(envelope, before=before, verb=verb)
        endpoint = self.take(envelope)
        operation = made_by(endpoint, envelope.id)
        log.info(f"{operation.verb} accepted", extra=fields(endpoint_id=endpoint.id, operation_id=operation.id))
        return status.operation_view(endpoint, operation)

    def take(self, envelope: Envelope) -> Endpoint:
        """The endpoint after the command. Raises Conflict for a name that is taken, and QuotaExceeded in words."""
        try:
            with self._tenancy.explaining():
                return self._endpoints.take(envelope.subject, envelope)
        except Taken:
            raise Conflict(NAME_TAKEN, code="name_taken") from None

    def plan(self, envelope: Envelope, *, before: Endpoint, verb: str) -> PlanView:
        """What the command would do now; refused as the command would be."""
        now_ms = self._ports.clock.now_ms()
        decision = decide(before, envelope, now_ms)
        with self._tenancy.explaining():
            for each in takes(decision):
                if self._ports.store.counter(each.counter) + each.amount > each.limit:
                    raise QuotaExceeded(
                        "it would pass a quota", counter=each.counter, wanted=each.amount, limit=each.limit
                    )
        learned = self._learner.recall().of(decision.state)
        spec = decision.state.spec
        reckoned = self._ports.catalogue.reckoned(spec) if spec is not None else None
        return plan_view(before, decision, verb, learned=learned, now_ms=now_ms, reckoned=reckoned)
