"""The JSON Schema of every command that a frontend may publish, each with an example."""

from __future__ import annotations

from typing import Any, Final

from libs.common.bus.streams import CMD, STREAMS
from libs.common.events.command import COMMANDS, SUBJECT, Command, CommandAnswered, subject_of
from libs.common.events.command_examples import example
from libs.common.events.envelope import type_of
from libs.common.events.event import Owner
from libs.common.schemas.event_files import DIALECT, EXAMPLE_ID, EXAMPLE_TIME, as_json

SENDER: Final = "product frontend"
HEARER: Final = Owner.ENDPOINT_API
SOURCE: Final = "/frontend"


def command_schemas() -> dict[str, str]:
    """The schemas of all commands, by their path below `schemas/`."""
    return {f"{path_of(kind)}.json": as_json(schema_of(kind)) for kind in COMMANDS.values()}


def command_examples() -> dict[str, str]:
    """The examples beside them."""
    return {f"{path_of(kind)}.example.json": as_json(example_of(kind)) for kind in COMMANDS.values()}


def path_of(kind: type[Command]) -> str:
    """Where the files of a command version are, without their ending."""
    return f"commands/{kind.kind}/v{kind.version}"


def schema_of(kind: type[Command]) -> dict[str, Any]:
    """The schema of a command's data."""
    return {
        "$schema": DIALECT,
        "$id": f"schemas/{path_of(kind)}.json",
        "x-cloudevents-type": type_name(kind),
        "x-subject": address_of(kind),
        "x-answered-by": type_of(CommandAnswered),
        **kind.model_json_schema(mode="validation"),
    }


def example_of(kind: type[Command]) -> dict[str, Any]:
    """A command as a CloudEvent in structured form: what binary mode has in headers stands beside `data`."""
    return {
        "specversion": "1.0",
        "id": EXAMPLE_ID,
        "type": type_name(kind),
        "source": SOURCE,
        "time": EXAMPLE_TIME,
        "data": example(kind),
    }


def address_of(kind: type[Command]) -> str:
    """The subject of a command, with its parameters in braces."""
    shown = subject_of(kind.model_construct(**example(kind)), "{id}")
    return shown.replace(f".{example(kind)['tenant_id']}.", ".{tenant_id}.")


def type_name(kind: type[Command]) -> str:
    """The CloudEvents type of a command."""
    return f"{kind.kind}.v{kind.version}"


def command_topics() -> list[dict[str, Any]]:
    """One entry for each command version."""
    ages = {each.name: each.max_age_s for each in STREAMS}
    return [
        {
            "type": name,
            "meaning": " ".join((kind.__doc__ or "").split()),
            "owner": SENDER,
            "consumers": [str(HEARER)],
            "stream": CMD,
            "subject": address_of(kind),
            "schema": f"schemas/{path_of(kind)}.json",
            "answered_by": type_of(CommandAnswered),
            "retention_s": ages[CMD],
        }
        for name, kind in COMMANDS.items()
    ]


assert all(address_of(kind).startswith(SUBJECT) for kind in COMMANDS.values())
