"""How a promise of the API is written down: what is there, what is asked, what is answered and done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from libs.common.events import command as cmd

SPEC: Final[Mapping[str, Any]] = MappingProxyType(
    {"model": "millrace/ngram-1", "tier": "l40s-dedicated", "region": "eu-1"}
)


class Door(StrEnum):
    """Where a command comes in."""

    HTTP = "http"
    BUS = "bus"


BOTH: Final = frozenset(Door)
HTTP_ONLY: Final = frozenset({Door.HTTP})
BUS_ONLY: Final = frozenset({Door.BUS})


class Given(StrEnum):
    """What is there before."""

    NOTHING = "nothing"
    REQUESTED = "an endpoint `chat` that was asked for"
    READY = "`chat` serves"
    ROLLING = "`chat` is being updated"
    HELD = "an update of `chat` is paused"
    PAUSED = "`chat` is paused"
    DELETING = "`chat` is being deleted"
    FULL = "`chat`, and no room for another endpoint"
    FOREIGN = "an endpoint `chat` of another tenant"
    KEY = "a key"
    SUSPENDED = "the tenant is suspended"


@dataclass(frozen=True, slots=True)
class Send:
    """A command and its answer: a status; of a refusal its code and the fields that are wrong, else what it is.

    `raw` is sent in place of the command's JSON. ``crash``: the process dies between effect and answer, so there is
    none. ``later_ms`` passes before.
    """

    kind: type[cmd.Command]
    data: Mapping[str, Any]
    status: int
    code: str = ""
    fields: tuple[str, ...] = ()
    says: tuple[tuple[str, Any], ...] = ()
    id: str = "k1"
    if_match: str = ""
    dry_run: bool = False
    raw: bytes | None = None
    crash: bool = False
    later_ms: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """What is promised. `effects` are the wishes that owners hear of it, in order; `name` is the sentence."""

    name: str
    given: Given
    sends: tuple[Send, ...]
    effects: tuple[str, ...] = ()
    doors: frozenset[Door] = BOTH
    parked: bool = False  # On the bus there is no answer: the message is a dead letter, with the code in its reason.
    scopes: frozenset[str] = frozenset({"read", "manage"})


def create(status: int, code: str = "", *, name: str = "chat", spec: Mapping[str, Any] = SPEC, **more: Any) -> Send:
    """A create."""
    return Send(cmd.CreateEndpoint, {"name": name, "spec": dict(spec)}, status, code, **more)


def update(status: int, code: str = "", *, spec: Mapping[str, Any], **more: Any) -> Send:
    """An update of `chat`."""
    return Send(cmd.UpdateEndpoint, {"endpoint": "chat", "spec": dict(spec)}, status, code, **more)


def scale(status: int, code: str = "", *, scaling: Mapping[str, Any], **more: Any) -> Send:
    """A scale of `chat`."""
    return Send(cmd.ScaleEndpoint, {"endpoint": "chat", "scaling": dict(scaling)}, status, code, **more)


def on_chat(kind: type[cmd.Command], status: int, code: str = "", **more: Any) -> Send:
    """A command on `chat` that needs no more."""
    data: dict[str, Any] = {"endpoint": "chat"}
    if kind is cmd.UpdateEndpoint:
        data["spec"] = {"scaling": {"max": 2}}
    if kind is cmd.ScaleEndpoint:
        data["scaling"] = {"max": 2}
    if kind is cmd.DrainEndpoint:
        data["drain_deadline_s"] = 60
    return Send(kind, data, status, code, **more)


def cancel(status: int, code: str = "", *, operation: str = "{operation}", **more: Any) -> Send:
    """A cancel; ``{operation}`` is the one that was made last."""
    return Send(cmd.CancelOperation, {"operation": operation}, status, code, **more)


def hold(kind: type[cmd.Command], status: int, code: str = "", *, operation: str = "{operation}", **more: Any) -> Send:
    """A pause or resume of an operation; ``{operation}`` is the one that was made last."""
    return Send(kind, {"operation": operation}, status, code, **more)


def revoke(status: int, code: str = "", *, key: str = "{key}", **more: Any) -> Send:
    """A revocation; ``{key}`` is the one that is there."""
    return Send(cmd.RevokeKey, {"key": key}, status, code, **more)


def running(verb: str, generation: int) -> tuple[tuple[str, Any], ...]:
    """What an operation says that was accepted."""
    return (("verb", verb), ("status", "running"), ("generation", generation))


REQUESTED: Final = "endpoint.requested"
PAUSED: Final = "endpoint.pause_requested"
DELETED: Final = "endpoint.deletion_requested"
ON_CHAT: Final[tuple[type[cmd.Command], ...]] = (
    cmd.UpdateEndpoint,
    cmd.ScaleEndpoint,
    cmd.PauseEndpoint,
    cmd.DrainEndpoint,
    cmd.ResumeEndpoint,
    cmd.DeleteEndpoint,
)
