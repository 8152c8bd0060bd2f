"""Domains, as in the OpenAPI document."""

from __future__ import annotations

from libs.client.transport import Json, Transport, segment


class Domains:
    """The domains below which a tenant's endpoints may have host names."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def verify(self, domain: str) -> Json:
        """Have the proof looked for; where it is missing the refusal says what it is."""
        return self._transport.call("POST", "/v1/domains", body={"domain": domain})

    def list(self) -> list[Json]:
        """Those that are verified."""
        items: list[Json] = self._transport.call("GET", "/v1/domains")["items"]
        return items

    def get(self, domain: str) -> Json:
        """What proves it, and whether that was seen."""
        return self._transport.call("GET", f"/v1/domains/{segment(domain)}")

    def release(self, domain: str) -> None:
        """Give it up; not while endpoints have host names below it."""
        self._transport.call("DELETE", f"/v1/domains/{segment(domain)}")
