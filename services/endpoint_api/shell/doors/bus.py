"""The door on the bus: commands of a product frontend, answered by `command.answered`.

The bus's permissions say who may publish commands; whoever may, speaks for any tenant, with the rights to read and to
manage, never as an operator. A command has one answer for 30 days, however often it is delivered: a refusal too. Only
what we can't do just now is tried again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from typing import Final

from libs.common.bus.port import Ack, Answer, Dead, Delivery, Message, Retry
from libs.common.errors import Rejected, Unavailable
from libs.common.events import command as cmd
from libs.common.events.command import Command, CommandAnswered, Received, received
from libs.common.ids import ProjectId, TenantId
from libs.common.service import ATTEMPTS_MAX, Service, retry_delay_s
from libs.common.telemetry import metrics
from libs.common.telemetry.logging import fields
from services.endpoint_api.core import identity
from services.endpoint_api.core.caller import Ask, Caller, Scope
from services.endpoint_api.core.refusal import FieldsRefused, Outpaced
from services.endpoint_api.core.requests import InFlight, Reused, request_id
from services.endpoint_api.shell import problems
from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.doors.answer import Answer as Said
from services.endpoint_api.shell.doors.answer import Told
from services.endpoint_api.shell.doors.once import digest_of
from services.endpoint_api.shell.doors.table import answer_to
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.tenancy import Tenancy

log = logging.getLogger(__name__)

SCOPES: Final = frozenset({Scope.READ, Scope.MANAGE})
IN_FLIGHT_S: Final = 1.0


class BusDoor:
    """Answers what is delivered: commands here, all else by the service."""

    def __init__(self, service: Service, api: Api, ports: Ports) -> None:
        self._service = service
        self._api = api
        self._tenancy = Tenancy.of(service, ports)

    def deliver(self, delivery: Delivery) -> Answer:
        """Handle a message and say what becomes of it. Never raises: this loop owns the message."""
        message = delivery.message
        if not message.subject.startswith(f"{cmd.SUBJECT}."):
            return self._service.deliver(delivery)
        answer = self._taken(delivery)
        kind = message.headers.get("ce-type", "")
        metrics.EVENTS_HANDLED.labels(
            service=self._service.name,
            type=kind if kind in cmd.COMMANDS else "?",  # Anything may be written there.
            answer=type(answer).__name__.lower(),
        ).inc()
        return answer

    def _taken(self, delivery: Delivery) -> Answer:
        message = delivery.message
        try:
            self._handle(message)
            return Ack()
        except (InFlight, Outpaced) as busy:
            return Retry(IN_FLIGHT_S, str(busy))
        except Rejected as refusal:  # Nobody could be answered.
            log.warning("command parked", extra=fields(event_id=message.id, reason=str(refusal)))
            return Dead(f"{refusal.code}: {refusal}")
        except Unavailable as later:
            return Retry(max(later.retry_after_s, retry_delay_s(message.id, delivery.attempt)), str(later))
        except Exception as bug:
            log.exception("command failed", extra=fields(event_id=message.id, attempt=delivery.attempt))
            if delivery.attempt >= ATTEMPTS_MAX:
                return Dead(f"bug: {type(bug).__name__} after {delivery.attempt} attempts")
            return Retry(retry_delay_s(message.id, delivery.attempt), type(bug).__name__)

    def _handle(self, message: Message) -> None:
        """Answer it, unless it was answered before. Raises Rejected if nobody can be told, Unavailable and InFlight."""
        news = received(message.headers, message.body, tenant_in_subject=_tenant_in(message.subject))
        digest, once = _digest(news, message.body), self._api.once
        try:
            once.run(_record(news), digest, lambda: self._answer(news), told=_told(news))
        except Reused as refusal:  # Not that command: its answer stays, and this one gets its own.
            problem = _refused(refusal, news)
            once.run(_record(news, digest), digest, lambda: problem, told=_told(news))

    def _answer(self, news: Received) -> Said:
        """Do it. A refusal is an answer as good as any: it stays, even if the same would be accepted later."""
        try:
            command, ask = self._admit(news)
            return answer_to(self._api, ask, command)
        except Outpaced:
            raise  # Nothing is wrong with it: it is done anew, and answered then.
        except Rejected as refusal:
            return _refused(refusal, news)

    def _admit(self, news: Received) -> tuple[Command, Ask]:
        """Who asks. Raises what HTTP would refuse with."""
        if news.data is None:
            raise FieldsRefused(news.wrong)
        tenant = self._tenancy.tenant(news.tenant_id)
        if tenant is None or tenant.project(ProjectId(news.project_id)) is None:
            raise identity.not_a_member()
        identity.check_active(tenant)
        actor = f"frontend:{news.data.actor}"
        caller = Caller(TenantId(news.tenant_id), ProjectId(news.project_id), actor, SCOPES)
        ask = Ask(caller, request_id=f"bus:{news.id}", traceparent=news.traceparent)
        if isinstance(news.data, cmd.EndpointCommand):
            ask = replace(ask, if_match=news.data.if_match, dry_run=news.data.dry_run)
        return news.data, ask


def _record(news: Received, *more: str) -> str:
    """The record of a command: its space is none that an Idempotency-Key can be."""
    return request_id(news.tenant_id, news.project_id, " ".join(["bus", news.id, *more]))


def _digest(news: Received, body: bytes) -> str:
    """What is asked, not who asks; of what can't be read, the bytes."""
    if news.data is None:
        return digest_of(news.type, hashlib.sha256(body).hexdigest())
    return digest_of(news.type, news.data.model_dump(mode="json", exclude={"actor"}))


def _refused(refusal: Rejected, news: Received) -> Said:
    document = problems.document_of(refusal, request_id=news.id)
    return Said(document.status, json.dumps(document.content()))


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
