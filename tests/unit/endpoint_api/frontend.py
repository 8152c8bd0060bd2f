"""A product frontend of tests: it publishes commands as the wire has them, and hears what they are answered with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from libs.common.bus.port import Answer, Delivery, Message
from libs.common.events.command import COMMANDS, Command, CommandAnswered, headers_of, subject_of
from libs.common.events.envelope import from_wire
from services.endpoint_api.shell.doors.bus import BusDoor
from tests.unit.endpoint_api.given import Stand

WHOSE: Final[Mapping[str, Any]] = {"tenant_id": "acme", "project_id": "main", "actor": "jane"}
SENT: Final = "2026-11-23T21:00:00Z"


def a_command(kind: type[Command], **data: Any) -> Command:
    """A command for acme's main project."""
    return kind.model_validate({**WHOSE, **data})


def message(command: Command, id: str, *, body: bytes | None = None) -> Message:
    """The command as a message; ``body`` in place of its own."""
    return Message(
        id=id,
        stream="MR_CMD",
        subject=subject_of(command, id),
        body=command.model_dump_json().encode() if body is None else body,
        headers=headers_of(command, id, time=SENT, source="/frontend"),
    )


def raw(kind: type[Command], id: str, body: bytes, *, tenant: str = "acme") -> Message:
    """What claims to be a command of a kind, whatever its body is."""
    name = f"{kind.kind}.v{kind.version}"
    assert COMMANDS[name] is kind
    headers = {
        "ce-specversion": "1.0", "ce-id": id, "ce-type": name, "ce-source": "/frontend", "ce-time": SENT
    }  # fmt: skip
    verb = kind.kind.removeprefix("cmd.").replace(".", "-")
    return Message(id, "MR_CMD", f"mr.v1.cmd.{verb}.{tenant}.{id}", body, headers)


@dataclass(slots=True)
class Frontend:
    """Commands in, answers out, by way of a stand's bus door."""

    stand: Stand
    door: BusDoor = field(init=False)

    def __post_init__(self) -> None:
        """Have the tenant there."""
        self.stand.a_key()
        self.door = BusDoor(self.stand.service, self.stand.api, self.stand.ports)

    def send(self, command: Command, id: str, *, attempt: int = 1) -> Answer:
        """Deliver a command; what becomes of the message."""
        return self.deliver(message(command, id), attempt=attempt)

    def deliver(self, message: Message, *, attempt: int = 1) -> Answer:
        """Deliver a message; what becomes of it."""
        return self.door.deliver(Delivery(message, "endpoint-api-cmd", attempt))

    def answers(self, id: str | None = None) -> list[CommandAnswered]:
        """What was told so far, to whoever hears, in order; about one command or all."""
        envelopes = [
            from_wire(each.headers, each.body)
            for each in self.stand.store.outbox.values()
            if each.headers.get("ce-type") == "command.answered.v1"
        ]
        told = [each.data for each in envelopes if isinstance(each.data, CommandAnswered)]
        assert len({each.id for each in envelopes}) == len(envelopes)
        return [each for each in told if id in (None, each.command_id)]

    def statuses(self, id: str) -> list[int]:
        """The statuses that a command was answered with."""
        return [each.status for each in self.answers(id)]
