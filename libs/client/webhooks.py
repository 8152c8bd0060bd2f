"""Webhooks, as in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence

from libs.client.transport import Json, Transport, segment


class Webhooks:
    """A project's webhooks. A secret is in the answer to `create` and `rotate`, and nowhere else ever."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, url: str, events: Sequence[str] = ("*",)) -> Json:
        """Send the project's events to a URL from now on."""
        return self._transport.call("POST", "/v1/webhooks", body={"url": url, "events": list(events)})

    def list(self) -> list[Json]:
        """All webhooks, without their secrets."""
        items: list[Json] = self._transport.call("GET", "/v1/webhooks")["items"]
        return items

    def get(self, webhook_id: str) -> Json:
        """A webhook without its secret."""
        return self._transport.call("GET", f"/v1/webhooks/{segment(webhook_id)}")

    def delete(self, webhook_id: str) -> None:
        """Send nothing more to it; an attempt that is on its way may still arrive."""
        self._transport.call("DELETE", f"/v1/webhooks/{segment(webhook_id)}")

    def enable(self, webhook_id: str) -> Json:
        """Send again to one that was disabled, from where it stood, as far back as events are kept."""
        return self._transport.call("POST", f"/v1/webhooks/{segment(webhook_id)}/enable")

    def rotate(self, webhook_id: str, *, overlap_s: int | None = None) -> Json:
        """Make a new secret; the one before signs too for `overlap_s` more."""
        body = {} if overlap_s is None else {"overlap_s": overlap_s}
        return self._transport.call("POST", f"/v1/webhooks/{segment(webhook_id)}/rotate", body=body)

    def deliveries(self, webhook_id: str) -> Sequence[Json]:
        """How the newest events were delivered, the newest first."""
        items: Sequence[Json] = self._transport.call("GET", f"/v1/webhooks/{segment(webhook_id)}/deliveries")["items"]
        return items

    def redeliver(self, webhook_id: str, event_id: str) -> Json:
        """Send one of the newest events again, before what waits."""
        return self._transport.call(
            "POST", f"/v1/webhooks/{segment(webhook_id)}/deliveries/{segment(event_id)}/redeliver"
        )

    def test(self, webhook_id: str) -> Json:
        """Send it a `webhook.tested`, in its turn."""
        return self._transport.call("POST", f"/v1/webhooks/{segment(webhook_id)}/test")
