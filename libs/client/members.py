"""Members: people and service accounts with a role, as in the OpenAPI document."""

from __future__ import annotations

from libs.client.transport import Json, Transport, segment


class Members:
    """Who has which role in the tenant, or in one project of it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def put(self, subject: str, role: str, *, kind: str = "person", project_id: str = "") -> Json:
        """Give somebody a role, in place of the one they have there; without a project, in the whole tenant."""
        body = {"kind": kind, "subject": subject, "role": role, "project_id": project_id}
        return self._transport.call("POST", "/v1/members", body=body)

    def list(self) -> list[Json]:
        """All that the caller may manage."""
        items: list[Json] = self._transport.call("GET", "/v1/members")["items"]
        return items

    def remove(self, member_id: str) -> None:
        """Take the role away; a service account's keys are revoked with it."""
        self._transport.call("DELETE", f"/v1/members/{segment(member_id)}")

    def create_key(self, member_id: str, name: str, *, expires_in_s: int | None = None) -> Json:
        """Make a key of a service account: it may what the account's role says. Its secret is in this answer only."""
        body: Json = {"name": name, **({} if expires_in_s is None else {"expires_in_s": expires_in_s})}
        return self._transport.call("POST", f"/v1/members/{segment(member_id)}/keys", body=body)
