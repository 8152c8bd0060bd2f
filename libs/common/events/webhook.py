"""Events of webhooks: what a project is told of its own receivers."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from libs.common.events.event import Event, Owner


class WebhookTested(Event):
    """Somebody wants to see a webhook work: sent to that webhook alone."""

    kind: ClassVar[str] = "webhook.tested"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    tenant_id: str
    project_id: str
    webhook_id: str


class WebhookDisabled(Event):
    """A webhook gets no more events until it is enabled again: its receiver said 410, or failed for days."""

    kind: ClassVar[str] = "webhook.disabled"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    tenant_id: str
    project_id: str
    webhook_id: str
    reason: str = Field(description="receiver_gone or receiver_failing.")
