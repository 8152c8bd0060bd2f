"""Commands: what a product frontend publishes for endpoint-api, and the answer that it hears.

A command is CloudEvents 1.0 in binary mode, as events are. Its `id` makes it one: published again, it is the same
command and has the same answer. It speaks for a tenant's project: who may publish here may do so for any of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final

from pydantic import ConfigDict, Field, JsonValue, ValidationError, field_validator

from libs.common.errors import Invalid, UnknownEvent
from libs.common.events import attributes
from libs.common.events.endpoint import ADAPTERS_MAX, Adapter, EndpointSpec, Limits, Scaling
from libs.common.events.event import Contract, Event, Owner

SUBJECT: Final = "mr.v1.cmd"
ID_FORM: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")  # One token of a subject: its answer may be told about it.
STRICT: Final = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)
NAME_MAX: Final = 200  # What can be read at all; what a name may be is a rule of its own, said in words.
DRAIN_MAX_S: Final = 3600  # An hour: longer, and nobody waits for the end of a stream any more.

Ref = Field(description="Id or name of the endpoint.", min_length=1, max_length=64)
Deadline = Field(
    default=None, ge=0, le=DRAIN_MAX_S, description="Seconds that live streams may still run; left out: 120."
)


class ScalingBody(Scaling):
    """How many replicas may run; left out, one."""

    model_config = STRICT


class AdapterBody(Adapter):
    """An adapter to load."""

    model_config = STRICT


class SpecBody(EndpointSpec):
    """What is asked for."""

    model_config = STRICT

    scaling: ScalingBody = ScalingBody()
    adapters: tuple[AdapterBody, ...] = Field(
        default=(),
        max_length=ADAPTERS_MAX,
        strict=False,  # JSON has lists.
        description="Adapters that every replica loads beside the model.",
    )

    @field_validator("limits", mode="before")
    @classmethod
    def _known_limits(cls, said: object) -> object:
        """As strict as the rest, where the published schema is not: a misspelt limit would be none at all."""
        if isinstance(said, Mapping) and not said.keys() <= Limits.model_fields.keys():
            raise ValueError(f"takes nothing but {', '.join(Limits.model_fields)}")
        return said

    def spec(self) -> EndpointSpec:
        """The same as the contract's own record."""
        return EndpointSpec.model_validate(self.model_dump())


class Command(Contract):
    """What a frontend asks for a tenant. The docstring is the meaning; `kind` the CloudEvents type without version."""

    model_config = STRICT

    kind: ClassVar[str]
    version: ClassVar[int] = 1

    tenant_id: str = Field(max_length=64)
    project_id: str = Field(max_length=64)
    actor: str = Field(
        pattern=r"^[A-Za-z0-9._:@-]{1,100}$", description="Who asked, in the frontend's words; for the audit."
    )


class EndpointCommand(Command):
    """A change of an endpoint."""

    if_match: str = Field(default="", max_length=100, description="ETag that it must have; empty: any.")
    dry_run: bool = Field(default=False, description="Answer with the plan, and change nothing.")


class CreateEndpoint(EndpointCommand):
    """Make an endpoint."""

    kind: ClassVar[str] = "cmd.endpoint.create"

    name: str = Field(
        max_length=NAME_MAX,
        description="1 to 40 of a-z, 0-9 and '-'; unique in the project; clients send it as `model`.",
    )
    spec: SpecBody


class UpdateEndpoint(EndpointCommand):
    """Change an endpoint's spec."""

    kind: ClassVar[str] = "cmd.endpoint.update"

    endpoint: str = Ref
    spec: dict[str, JsonValue] = Field(description="RFC 7396 merge patch of the spec; null takes a field's default.")


class ScaleEndpoint(EndpointCommand):
    """Change how many replicas may run."""

    kind: ClassVar[str] = "cmd.endpoint.scale"

    endpoint: str = Ref
    scaling: dict[str, JsonValue] = Field(description="RFC 7396 merge patch of `spec.scaling`.")


class PauseEndpoint(EndpointCommand):
    """Give back what an endpoint runs on; name, spec and keys stay."""

    kind: ClassVar[str] = "cmd.endpoint.pause"

    endpoint: str = Ref
    drain_deadline_s: int | None = Deadline


class DrainEndpoint(EndpointCommand):
    """Take no new requests, let live streams finish until the deadline, then pause."""

    kind: ClassVar[str] = "cmd.endpoint.drain"

    endpoint: str = Ref
    drain_deadline_s: int = Field(ge=0, le=DRAIN_MAX_S, description="Seconds that live streams may still run.")


class ResumeEndpoint(EndpointCommand):
    """Bring back what was paused or has failed."""

    kind: ClassVar[str] = "cmd.endpoint.resume"

    endpoint: str = Ref


class DeleteEndpoint(EndpointCommand):
    """Take an endpoint away for good."""

    kind: ClassVar[str] = "cmd.endpoint.delete"

    endpoint: str = Ref
    drain_deadline_s: int | None = Deadline


class CancelOperation(Command):
    """Undo what an operation is still doing."""

    kind: ClassVar[str] = "cmd.operation.cancel"

    operation: str = Field(min_length=1, max_length=64, description="Id of the operation.")


class PauseOperation(Command):
    """Hold a rollout where it is: no further replica is replaced until it is resumed; what serves goes on serving."""

    kind: ClassVar[str] = "cmd.operation.pause"

    operation: str = Field(min_length=1, max_length=64, description="Id of the operation.")


class ResumeOperation(Command):
    """Let a rollout that was paused go on."""

    kind: ClassVar[str] = "cmd.operation.resume"

    operation: str = Field(min_length=1, max_length=64, description="Id of the operation.")


class RevokeKey(Command):
    """Refuse a key from now on. Keys are made over HTTP only: a secret is in no message."""

    kind: ClassVar[str] = "cmd.key.revoke"

    key: str = Field(min_length=1, max_length=64, description="Id of the key.")


class CommandAnswered(Event):
    """What became of a command: the same status and body as over HTTP, told once for each command id."""

    kind: ClassVar[str] = "command.answered"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    command_id: str = Field(description="CloudEvents id of the command.")
    tenant_id: str
    project_id: str
    status: int = Field(description="HTTP status: 202 accepted, 200 done or planned, 4xx refused.")
    body: dict[str, JsonValue] = Field(description="What HTTP answers: an operation, a plan, a key, or a problem.")


COMMANDS: Final[Mapping[str, type[Command]]] = MappingProxyType(
    {
        f"{each.kind}.v{each.version}": each
        for each in (
            CreateEndpoint,
            UpdateEndpoint,
            ScaleEndpoint,
            PauseEndpoint,
            DrainEndpoint,
            ResumeEndpoint,
            DeleteEndpoint,
            CancelOperation,
            PauseOperation,
            ResumeOperation,
            RevokeKey,
        )
    }
)


@dataclass(frozen=True, slots=True)
class Received:
    """A command off the wire. `wrong` are the names of the fields that are not as they must be; then `data` is None."""

    id: str
    type: str
    tenant_id: str
    project_id: str
    data: Command | None
    wrong: tuple[str, ...] = ()
    traceparent: str = ""


def subject_of(command: Command, id: str) -> str:
    """Where a command is published: ``mr.v1.cmd.<verb>.<tenant>.<id>``; the verb is in the type's words."""
    return f"{SUBJECT}.{command.kind.removeprefix('cmd.').replace('.', '-')}.{command.tenant_id}.{id}"


def headers_of(command: Command, id: str, *, time: str, source: str) -> dict[str, str]:
    """The CloudEvents attributes of a command as headers; ``time`` is RFC 3339."""
    kind = f"{command.kind}.v{command.version}"
    return attributes.headers_of({"specversion": "1.0", "id": id, "type": kind, "source": source, "time": time})


def received(headers: Mapping[str, str], body: bytes, *, tenant_in_subject: str) -> Received:
    """Read a command off the wire.

    Raises UnknownEvent for a type or version that this build does not know, Invalid where no answer can be addressed:
    without an id of the right form, or without a tenant and project, or if the subject is another tenant's.
    """
    said = attributes.attributes_of(headers)
    kind = COMMANDS.get(said.get("type", ""))
    if kind is None:
        raise UnknownEvent(f"no command type {said.get('type', '')!r} in this build; see schemas/topics.yaml")
    if not ID_FORM.fullmatch(said.get("id", "")):
        raise Invalid(f"{said['type']} needs a CloudEvents 'id' of 1 to 100 of A-Z, a-z, 0-9, '_' and '-'")
    try:
        data: Command | None = kind.model_validate_json(body)
        wrong: tuple[str, ...] = ()
    except ValidationError as trouble:
        data = None
        wrong = tuple(".".join(map(str, each["loc"])) or "data" for each in trouble.errors(include_input=False))
    whose = _Whose.of(body)
    if whose.tenant_id != tenant_in_subject:
        raise Invalid(f"{said['type']} was published for another tenant than the one in its data")
    return Received(
        said["id"],
        said["type"],
        whose.tenant_id,
        whose.project_id,
        data,
        wrong,
        said.get("traceparent", ""),
    )


class _Whose(Contract):
    """Whom a command is for, whatever else is wrong with it."""

    tenant_id: str = Field(max_length=64)
    project_id: str = Field(max_length=64)

    @classmethod
    def of(cls, body: bytes) -> _Whose:
        """Raises Invalid if that can't be read."""
        try:
            return cls.model_validate_json(body)
        except ValidationError:
            raise Invalid("a command must say its tenant_id and project_id in a JSON object") from None
