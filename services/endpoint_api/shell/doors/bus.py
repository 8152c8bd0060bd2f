"""The door on the bus: commands of a product frontend, answered by `command.answered`.

The bus's permissions say who may publish commands; whoever may, speaks for any tenant, with the rights to read and to
manage, never as an operator. Each command is answered once, however often it is delivered.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

from libs.common.bus.port import Ack, Answer, Dead, Delivery, Retry
from libs.common.errors import Rejected, Unavailable
from libs.common.events import command as cmd
from libs.common.events.command import Command, CommandAnswered, Received, received
from libs.common.events.envelope import Envelope
from libs.common.ids import ProjectId, TenantId, event_id
from libs.common.runner import Runner
from libs.common.service import Service, retry_delay_s
from libs.common.telemetry.logging import fields
from services.endpoint_api.core import identity
from services.endpoint_api.core.caller import Ask, Caller, Scope
from services.endpoint_api.core.refusal import FieldsRefused
from services.endpoint_api.core.requests import InFlight, Request, RequestAnswered, request_id
from services.endpoint_api.shell import problems
from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.doors.answer import Answer as Said
from services.endpoint_api.shell.doors.answer import Told
from services.endpoint_api.shell.doors.once import digest_of
from services.endpoint_api.shell.doors.table import Front
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.tenancy import Tenancy

log = logging.getLogger(__name__)

SCOPES: Final = frozenset({Scope.READ, Scope.MANAGE})
IN_FLIGHT_S: Final = 1.0


class BusDoor:
    """Answers what is delivered: commands here, all else by the service."""

    def __init__(self, service: Service, api: Api, ports: Ports) -> None:
        self._service = service
        self._front = Front(api)
        self._tenancy = Tenancy(service.runner("tenant"), service.runner("member"), ports)
        self._clock = ports.clock
        self._requests: Runner[Request] = service.runner("request")

    def deliver(self, delivery: Delivery) -> Answer:
        """Handle a message and say what becomes of it. Never raises: this loop owns the message."""
        message = delivery.message
        if not message.subject.startswith(f"{cmd.SUBJECT}."):
            return self._service.deliver(delivery)
        try:
            self._handle(received(message.headers, message.body, tenant_in_subject=_tenant_in(message.subject)))
            return Ack()
        except InFlight as busy:
            return Retry(IN_FLIGHT_S, str(busy))
        except Rejected as refusal:  # Nobody could be answered.
            log.warning("command parked", extra=fields(event_id=message.id, reason=str(refusal)))
            return Dead(f"{refusal.code}: {refusal}")
        except Unavailable as later:
            return Retry(max(later.retry_after_s, retry_delay_s(message.id, delivery.attempt)), str(later))
        except Exception as bug:
            log.exception("command failed", extra=fields(event_id=message.id, attempt=delivery.attempt))
            return Retry(retry_delay_s(message.id, delivery.attempt), type(bug).__name__)

    def _handle(self, news: Received) -> None:
        """Do it and tell the answer. A refusal is an answer too; only what may succeed later is tried again."""
        try:
            command, ask = self._admit(news)
            said = self._front.answer(ask, command, told=_told(news))
            if ask.dry_run:
                self._tell(news, command, said)
        except InFlight:
            raise
        except Rejected as refusal:
            document = problems.document_of(refusal, request_id=news.id)
            self._tell(news, news.data, Said(document.status, document.model_dump_json()))

    def _admit(self, news: Received) -> tuple[Command, Ask]:
        """Who asks. Raises what HTTP would refuse with."""
        if news.data is None:
            raise FieldsRefused(news.wrong)
        tenant = self._tenancy.tenant(news.tenant_id)
        if tenant is None or tenant.project(ProjectId(news.project_id)) is None:
            raise identity.not_a_member()
        identity.check_active(tenant)
        actor = f"frontend:{news.data.actor}"
        caller = Caller(TenantId(news.tenant_id), ProjectId(news.project_id), actor, frozenset(SCOPES))
        ask = Ask(caller, request_id=news.id, idempotency_key=news.id, traceparent=news.traceparent)
        if isinstance(news.data, cmd.EndpointCommand):
            ask = replace(ask, if_match=news.data.if_match, dry_run=news.data.dry_run)
        return news.data, ask

    def _tell(self, news: Received, command: Command | None, said: Said) -> None:
        """Tell an answer that belongs to no request: a refusal, or a plan. The same command tells it once."""
        told = _told(news)(said)
        digest = digest_of(command) if command is not None else "malformed"
        record = request_id(news.tenant_id, news.project_id, f"refused {news.id} {digest}")
        answered = RequestAnswered(
            digest="", status=said.status, body=said.body, told=told, about=said.about or news.id
        )
        cause = event_id(record, answered.kind, 0)
        self._requests.take(record, Envelope(cause, answered, subject=record, time_ms=self._clock.now_ms()))


def _told(news: Received) -> Told:
    def told(said: Said) -> CommandAnswered:
        return CommandAnswered.model_validate(
            {
                "command_id": news.id,
                "tenant_id": news.tenant_id,
                "project_id": news.project_id,
                "status": said.status,
                "body": said.document(),
            }
        )

    return told


def _tenant_in(subject: str) -> str:
    """``mr.v1.cmd.<verb>.<tenant>.<id>``"""
    parts = subject.split(".")
    return parts[4] if len(parts) >= 6 else ""
