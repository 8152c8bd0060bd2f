"""What the API tells its own core: commands that were admitted. They are journalled, so they hold no secret."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from libs.common.events.endpoint import EndpointSpec, Limits, Placement
from libs.common.events.envelope import Envelope
from libs.common.events.event import Command as Asked
from libs.common.events.event import Internal, Owner
from libs.common.events.tenant import Quotas
from libs.common.ids import event_id
from libs.common.units import SECOND_MS

DRAIN_MS: Final = 120 * SECOND_MS  # The longest generation we sell is 90 s; the rest is slack for slow readers.


class Command(Asked):
    """An admitted change: who asked (`actor`, see Caller) and in which request. Each is in the audit."""

    owner: ClassVar[Owner] = Owner.ENDPOINT_API


class CreateEndpoint(Command):
    """Make this endpoint; the placement was looked up, the limit read, when the command was admitted."""

    kind: ClassVar[str] = "internal.create_endpoint"

    tenant_id: str
    project_id: str
    name: str
    spec: EndpointSpec
    placement: Placement
    request_digest: str
    quotas: Quotas = Quotas()
    domain: str = ""  # The verified one that `spec.hostname` is below.


class ChangeEndpoint(Command):
    """A change of an endpoint that is there. `if_match` is the ETag that it must have; empty: any."""

    if_match: str = ""


class UpdateEndpoint(ChangeEndpoint):
    """Make it as this spec says. The spec was made from the one of generation ``made_from``: no other may be there."""

    kind: ClassVar[str] = "internal.update_endpoint"

    verb: Literal["update", "scale"]
    spec: EndpointSpec
    placement: Placement
    made_from: int
    quotas: Quotas = Quotas()
    domain: str = ""  # The verified one that `spec.hostname` is below.


class PauseEndpoint(ChangeEndpoint):
    """Keep it, but not running; live streams may go on until the deadline."""

    kind: ClassVar[str] = "internal.pause_endpoint"

    verb: Literal["pause", "drain"]
    drain_deadline_ms: int


class ResumeEndpoint(ChangeEndpoint):
    """Bring back what was paused or failed."""

    kind: ClassVar[str] = "internal.resume_endpoint"

    quotas: Quotas = Quotas()


class DeleteEndpoint(ChangeEndpoint):
    """Take this endpoint away."""

    kind: ClassVar[str] = "internal.delete_endpoint"

    drain_deadline_ms: int = DRAIN_MS


class CancelOperation(ChangeEndpoint):
    """Undo what an operation of this endpoint is doing."""

    kind: ClassVar[str] = "internal.cancel_operation"

    operation_id: str
    quotas: Quotas = Quotas()


class HoldOperation(ChangeEndpoint):
    """Hold a rollout of this endpoint where it is, or let it go on."""

    kind: ClassVar[str] = "internal.hold_operation"

    operation_id: str
    is_held: bool


class CreateKey(Command):
    """Record a key that was minted outside: its id and hash, never itself."""

    kind: ClassVar[str] = "internal.create_key"

    tenant_id: str
    project_id: str
    name: str
    scopes: tuple[str, ...]
    sha256: str
    expires_at_ms: int | None
    request: str
    keys_max: int
    member: str = ""
    models: tuple[str, ...] = ()
    allowed_ips: tuple[str, ...] = ()
    is_test: bool = False
    tokens_per_month: int | None = None
    money_per_month_nano: int | None = None
    budget: str = ""  # That it goes on spending; empty: one of its own, if it has any.
    limits: Limits | None = None


class RotateKey(Command):
    """Refuse a key from ``expires_at_ms`` on, or from its own end if that is sooner: ``successor`` takes its place."""

    kind: ClassVar[str] = "internal.rotate_key"

    successor: str
    expires_at_ms: int


class SetKeyBudget(Command):
    """Let a key spend so much a month from now on; None: any amount."""

    kind: ClassVar[str] = "internal.set_key_budget"

    tokens_per_month: int | None
    money_per_month_nano: int | None


class UseKey(Internal):
    """A key was let in, here or by a router, in the minute that began then."""

    kind: ClassVar[str] = "internal.use_key"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    last_used_ms: int


class PutKeyAgain(Internal):
    """The bucket `keys` does not say of this key what its record says."""

    kind: ClassVar[str] = "internal.put_key_again"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API


class RevokeKey(Command):
    """Refuse a key from now on."""

    kind: ClassVar[str] = "internal.revoke_key"


def command_envelope(key: str, command: Command, now_ms: int, traceparent: str = "", *, ask: str = "") -> Envelope:
    """The envelope of a command to the record ``key``.

    The same ``ask`` (what makes two requests one) has the same id, so it happens once. Left out, the kind of command
    can happen to the record once only.
    """
    cause = event_id(key, f"{command.owner}|{command.kind}|{ask}" if ask else f"{command.owner}|{command.kind}", 0)
    return Envelope(cause, command, subject=key, time_ms=now_ms, traceparent=traceparent)
