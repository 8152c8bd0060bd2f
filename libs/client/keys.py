"""API keys, as in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence

from libs.client.transport import Json, Transport, segment


class Keys:
    """A project's keys. A secret is in the answer to `create` and `rotate`, and nowhere else ever."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        scopes: Sequence[str] = ("inference",),
        *,
        expires_in_s: int | None = None,
        models: Sequence[str] = (),
        allowed_ips: Sequence[str] = (),
        tokens_per_month: int | None = None,
        money_per_month_nano: int | None = None,
        limits: Json | None = None,
    ) -> Json:
        """Make a key."""
        grants = {
            "expires_in_s": expires_in_s,
            "models": list(models),
            "allowed_ips": list(allowed_ips),
            "limits": limits,
        }
        budget = {"tokens_per_month": tokens_per_month, "money_per_month_nano": money_per_month_nano}
        body = {"name": name, "scopes": list(scopes), **{name: value for name, value in grants.items() if value}}
        body |= {name: limit for name, limit in budget.items() if limit is not None}
        return self._transport.call("POST", "/v1/keys", body=body)

    def get(self, key_id: str) -> Json:
        """A key without its secret."""
        return self._transport.call("GET", f"/v1/keys/{segment(key_id)}")

    def list(self) -> list[Json]:
        """All keys, without their secrets."""
        items: list[Json] = self._transport.call("GET", "/v1/keys")["items"]
        return items

    def rotate(self, key_id: str, *, overlap_s: int | None = None) -> Json:
        """Make a successor with the same grants; the old one works for `overlap_s` more."""
        body = {} if overlap_s is None else {"overlap_s": overlap_s}
        return self._transport.call("POST", f"/v1/keys/{segment(key_id)}/rotate", body=body)

    def set_budget(
        self, key_id: str, *, tokens_per_month: int | None = None, money_per_month_nano: int | None = None
    ) -> Json:
        """Let a key and its successors spend so much a month from now on; None: any amount."""
        body = {"tokens_per_month": tokens_per_month, "money_per_month_nano": money_per_month_nano}
        return self._transport.call("PUT", f"/v1/keys/{segment(key_id)}/budget", body=body)

    def revoke(self, key_id: str) -> Json:
        """Refuse a key from now on."""
        return self._transport.call("DELETE", f"/v1/keys/{segment(key_id)}")
