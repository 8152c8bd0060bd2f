"""What the API tells its own core: commands that were admitted. They are journalled, so they hold no secret."""

from __future__ import annotations

from typing import ClassVar

from libs.common.events.endpoint import EndpointSpec, Placement
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal, Owner
from libs.common.ids import event_id


class CreateEndpoint(Internal):
    """Make this endpoint; the placement was looked up, the limit read, when the command was admitted."""

    kind: ClassVar[str] = "internal.create_endpoint"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    tenant_id: str
    project_id: str
    name: str
    spec: EndpointSpec
    placement: Placement
    request_digest: str
    endpoints_max: int
    by_key: str


class DeleteEndpoint(Internal):
    """Take this endpoint away."""

    kind: ClassVar[str] = "internal.delete_endpoint"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    by_key: str


class CreateKey(Internal):
    """Record a key that was minted outside: its id and hash, never itself."""

    kind: ClassVar[str] = "internal.create_key"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    tenant_id: str
    project_id: str
    name: str
    scopes: tuple[str, ...]
    sha256: str
    expires_at_ms: int | None
    request: str
    keys_max: int
    by_key: str


class RevokeKey(Internal):
    """Refuse a key from now on."""

    kind: ClassVar[str] = "internal.revoke_key"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    by_key: str


def command_envelope(key: str, command: Internal, now_ms: int, traceparent: str = "") -> Envelope:
    """The envelope of a command to the record ``key``: each kind of command has one id a record, so it happens once."""
    cause = event_id(key, f"{command.owner}|{command.kind}", 0)
    return Envelope(cause, command, subject=key, time_ms=now_ms, traceparent=traceparent)
