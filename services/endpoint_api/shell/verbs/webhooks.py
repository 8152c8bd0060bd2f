"""The verbs on webhooks: the secret is shown once, when it is made and when it is rotated."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from libs.common.errors import NotFound
from libs.common.ids import short_id
from libs.common.runner import Runner
from libs.common.telemetry.logging import fields
from libs.common.units import SECOND_MS
from services.endpoint_api.core import addresses, admission
from services.endpoint_api.core.caller import Ask, Caller, Scope
from services.endpoint_api.core.commands import Command, command_envelope
from services.endpoint_api.core.refusal import FieldRefused
from services.endpoint_api.core.shown import rfc3339
from services.endpoint_api.core.state import home_of
from services.endpoint_api.core.webhooks import (
    NO_WEBHOOK,
    OVERLAP_MAX_MS,
    CreateWebhook,
    DeleteWebhook,
    Delivery,
    EnableWebhook,
    RedeliverWebhook,
    RotateWebhookSecret,
    TryWebhook,
    Webhook,
    check_events,
)
from services.endpoint_api.shell import metrics
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.secrets import Secrets
from services.endpoint_api.shell.tenancy import request_of

log = logging.getLogger(__name__)

WEBHOOKS_MAX: Final = 20  # Of one project: each is a reader that we serve.


class WebhookView(BaseModel):
    """A webhook without its secret."""

    model_config = ConfigDict(frozen=True)

    id: str
    url: str
    events: tuple[str, ...]
    created_at: str
    disabled: str = Field(description="Why nothing is sent: receiver_gone or receiver_failing; empty while it is.")
    failed_attempts: int = Field(description="Of the event that is to be delivered next.")
    next_attempt_at: str | None
    two_secrets_until: str | None = Field(description="Until when the secret before the newest signs too.")


class DeliveryView(BaseModel):
    """How an event's last attempt ended."""

    model_config = ConfigDict(frozen=True)

    event_id: str
    type: str
    attempts: int
    at: str
    delivered: bool
    status: int = Field(description="The receiver's HTTP status; 0 if there was no answer.")
    error: str


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A webhook and its newest secret, which is shown this once."""

    webhook: WebhookView
    secret: str

    def __repr__(self) -> str:
        """Without the secret, so that it can't slip into a log."""
        return f"NewSecret(id={self.webhook.id!r})"


class WebhookVerbs:
    """What a tenant does with webhooks. All raise Forbidden for a missing scope, NotFound for another's."""

    def __init__(self, webhooks: Runner[Webhook], ports: Ports, secrets: Secrets, *, allow_local: bool) -> None:
        self._webhooks = webhooks
        self._ports = ports
        self._secrets = secrets
        self._allow_local = allow_local

    def create(self, ask: Ask, *, url: str, events: Sequence[str]) -> NewSecret:
        """Send the project's events to a URL from now on.

        Raises FieldRefused, QuotaExceeded, Conflict if the Idempotency-Key made one before.
        """
        with metrics.counted("create_webhook"):
            caller = ask.caller
            caller.needs(Scope.MANAGE)
            addresses.target_of(url, allow_local=self._allow_local)
            check_events(tuple(events))
            request = admission.request_key(idempotency_key=ask.idempotency_key, request_id=ask.request_id)
            command = CreateWebhook(
                actor=caller.actor,
                request_id=ask.request_id,
                tenant_id=caller.tenant_id,
                project_id=caller.project_id,
                url=url,
                events=tuple(events),
                cursor=self._ports.store.told(after=0, limit=1).last,
                webhooks_max=WEBHOOKS_MAX,
            )
            webhook_id = short_id("wh", caller.tenant_id, caller.project_id, request)
            # By itself, not by the ask: a second time is refused, as its secret is not shown again.
            once = self._ports.entropy.token_bytes(16).hex()
            envelope = command_envelope(webhook_id, command, self._ports.clock.now_ms(), ask.traceparent, ask=once)
            webhook = self._webhooks.take(webhook_id, envelope)
        log.info("webhook created", extra=fields(tenant_id=webhook.tenant_id))
        return self._shown(webhook)

    def list(self, caller: Caller) -> tuple[WebhookView, ...]:
        """The project's webhooks."""
        caller.needs(Scope.READ)
        home = home_of(caller.tenant_id, caller.project_id)
        return tuple(_view(each, self._ports.clock.now_ms()) for each in self._webhooks.every(scope=home))

    def get(self, caller: Caller, webhook_id: str) -> WebhookView:
        """One webhook."""
        return _view(self._find(caller, webhook_id, Scope.READ), self._ports.clock.now_ms())

    def deliveries(self, caller: Caller, webhook_id: str) -> tuple[DeliveryView, ...]:
        """The newest deliveries, the newest first."""
        webhook = self._find(caller, webhook_id, Scope.READ)
        return tuple(_delivery(each) for each in reversed(webhook.deliveries))

    def delete(self, ask: Ask, webhook_id: str) -> None:
        """Send nothing more to it."""
        self._change(ask, webhook_id, DeleteWebhook(actor=ask.caller.actor, request_id=ask.request_id))

    def enable(self, ask: Ask, webhook_id: str) -> WebhookView:
        """Send again to one that was disabled, from where it stood, as far back as events are kept."""
        changed = EnableWebhook(actor=ask.caller.actor, request_id=ask.request_id)
        return _view(self._change(ask, webhook_id, changed), self._ports.clock.now_ms())

    def rotate(self, ask: Ask, webhook_id: str, *, overlap_s: int) -> NewSecret:
        """Make a new secret; the one before signs too for ``overlap_s``, and any older one no more."""
        if not 0 <= overlap_s * SECOND_MS <= OVERLAP_MAX_MS:
            raise FieldRefused("overlap_s", f"must be 0 to {OVERLAP_MAX_MS // SECOND_MS}")
        changed = RotateWebhookSecret(
            actor=ask.caller.actor, request_id=ask.request_id, overlap_ms=overlap_s * SECOND_MS
        )
        return self._shown(self._change(ask, webhook_id, changed))

    def redeliver(self, ask: Ask, webhook_id: str, event_id: str) -> None:
        """Send one of the newest events again, before what waits."""
        changed = RedeliverWebhook(actor=ask.caller.actor, request_id=ask.request_id, event_id=event_id)
        self._change(ask, webhook_id, changed)

    def test(self, ask: Ask, webhook_id: str) -> None:
        """Send a `webhook.tested`, in its turn."""
        self._change(ask, webhook_id, TryWebhook(actor=ask.caller.actor, request_id=ask.request_id))

    def _change(self, ask: Ask, webhook_id: str, command: Command) -> Webhook:
        with metrics.counted(command.kind.removeprefix("internal.")):
            self._find(ask.caller, webhook_id, Scope.MANAGE)
            once, now_ms = request_of(ask, command), self._ports.clock.now_ms()
            return self._webhooks.take(
                webhook_id, command_envelope(webhook_id, command, now_ms, ask.traceparent, ask=once)
            )

    def _find(self, caller: Caller, webhook_id: str, scope: Scope) -> Webhook:
        caller.needs(scope)
        webhook = self._webhooks.state(webhook_id)
        home = home_of(caller.tenant_id, caller.project_id)
        if webhook is None or not webhook.is_known or home_of(webhook.tenant_id, webhook.project_id) != home:
            raise NotFound(NO_WEBHOOK)
        return webhook

    def _shown(self, webhook: Webhook) -> NewSecret:
        secret = self._secrets.of_webhook(webhook.id, webhook.secret_no)
        return NewSecret(_view(webhook, self._ports.clock.now_ms()), secret)


def _view(webhook: Webhook, now_ms: int) -> WebhookView:
    waits = webhook.attempts > 0 and webhook.is_active
    return WebhookView(
        id=webhook.id,
        url=webhook.url,
        events=webhook.events,
        created_at=rfc3339(webhook.created_ms),
        disabled=webhook.disabled,
        failed_attempts=webhook.attempts,
        next_attempt_at=rfc3339(webhook.next_attempt_ms) if waits else None,
        two_secrets_until=rfc3339(webhook.previous_until_ms) if len(webhook.secrets_at(now_ms)) > 1 else None,
    )


def _delivery(delivery: Delivery) -> DeliveryView:
    return DeliveryView(
        event_id=delivery.event_id,
        type=delivery.kind,
        attempts=delivery.attempts,
        at=rfc3339(delivery.at_ms),
        delivered=delivery.is_done,
        status=delivery.status,
        error=delivery.error,
    )
