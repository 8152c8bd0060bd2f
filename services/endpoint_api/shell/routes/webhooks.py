"""Routes on webhooks."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from services.endpoint_api.shell.routes.asking import Asking, Verbs, Who
from services.endpoint_api.shell.verbs.webhooks import DeliveryView, NewSecret, WebhookView

router: Final = APIRouter(tags=["webhooks"])


class CreateWebhookBody(BaseModel):
    """Where to send which events."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(description="https, on the public internet.")
    events: tuple[str, ...] = Field(default=("*",), description="Kinds such as endpoint.stage_changed; endpoint.*; *.")


class RotateWebhookBody(BaseModel):
    """How long two secrets sign."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    overlap_s: int = Field(default=86_400, ge=0, le=604_800)


class WebhookWithSecret(BaseModel):
    """A webhook with its newest secret, in this answer only."""

    model_config = ConfigDict(frozen=True)

    webhook: WebhookView
    secret: str = Field(description="whsec_…: sign with it as Standard Webhooks says.")


class WebhookList(BaseModel):
    """The project's webhooks."""

    model_config = ConfigDict(frozen=True)

    items: tuple[WebhookView, ...]


class DeliveryList(BaseModel):
    """The newest deliveries of a webhook."""

    model_config = ConfigDict(frozen=True)

    items: tuple[DeliveryView, ...]


@router.post("/webhooks", status_code=201)
def create_webhook(ask: Asking, verbs: Verbs, body: CreateWebhookBody) -> WebhookWithSecret:
    """Send the project's events to a URL from now on."""
    return _shown(verbs.webhooks.create(ask, url=body.url, events=body.events))


@router.get("/webhooks")
def list_webhooks(who: Who, verbs: Verbs) -> WebhookList:
    """The project's webhooks."""
    return WebhookList(items=verbs.webhooks.list(who))


@router.get("/webhooks/{webhook_id}")
def get_webhook(who: Who, verbs: Verbs, webhook_id: str) -> WebhookView:
    """One webhook."""
    return verbs.webhooks.get(who, webhook_id)


@router.delete("/webhooks/{webhook_id}", status_code=204)
def delete_webhook(ask: Asking, verbs: Verbs, webhook_id: str) -> None:
    """Send nothing more to it."""
    verbs.webhooks.delete(ask, webhook_id)


@router.post("/webhooks/{webhook_id}/enable")
def enable_webhook(ask: Asking, verbs: Verbs, webhook_id: str) -> WebhookView:
    """Send again to one that was disabled."""
    return verbs.webhooks.enable(ask, webhook_id)


@router.post("/webhooks/{webhook_id}/rotate")
def rotate_webhook_secret(ask: Asking, verbs: Verbs, webhook_id: str, body: RotateWebhookBody) -> WebhookWithSecret:
    """Make a new secret; the one before signs too for a while."""
    return _shown(verbs.webhooks.rotate(ask, webhook_id, overlap_s=body.overlap_s))


@router.post("/webhooks/{webhook_id}/test", status_code=202)
def test_webhook(ask: Asking, verbs: Verbs, webhook_id: str) -> WebhookView:
    """Send it a test event."""
    verbs.webhooks.test(ask, webhook_id)
    return verbs.webhooks.get(ask.caller, webhook_id)


@router.get("/webhooks/{webhook_id}/deliveries")
def list_webhook_deliveries(who: Who, verbs: Verbs, webhook_id: str) -> DeliveryList:
    """How the newest events were delivered."""
    return DeliveryList(items=verbs.webhooks.deliveries(who, webhook_id))


@router.post("/webhooks/{webhook_id}/deliveries/{event_id}/redeliver", status_code=202)
def redeliver_webhook(ask: Asking, verbs: Verbs, webhook_id: str, event_id: str) -> WebhookView:
    """Send one of the newest events again."""
    verbs.webhooks.redeliver(ask, webhook_id, event_id)
    return verbs.webhooks.get(ask.caller, webhook_id)


def _shown(made: NewSecret) -> WebhookWithSecret:
    return WebhookWithSecret(webhook=made.webhook, secret=made.secret)
