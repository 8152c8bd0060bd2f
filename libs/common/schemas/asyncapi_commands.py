"""The commands in the AsyncAPI document: what a frontend sends, and on which channel it hears the answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from libs.common.bus.streams import CMD, STREAMS
from libs.common.events.command import COMMANDS, Command, CommandAnswered, headers_of
from libs.common.events.command_examples import example
from libs.common.events.envelope import type_of
from libs.common.schemas.asyncapi_parts import Payloads, slug, text
from libs.common.schemas.command_files import HEARER, SENDER, SOURCE, address_of, type_name
from libs.common.schemas.event_files import EXAMPLE_ID, EXAMPLE_TIME

Json = dict[str, Any]

HEADERS: Final[Json] = {
    "type": "object",
    "required": ["ce-specversion", "ce-id", "ce-type", "ce-source", "ce-time"],
    "properties": {
        "ce-specversion": text("The version of CloudEvents.", const="1.0"),
        "ce-id": text("Yours, and unguessable by others: published again, it is the same command.", minLength=1),
        "ce-type": text("The command and its version."),
        "ce-source": text("Who you are, such as `/frontend`."),
        "ce-time": text("When it was asked: RFC 3339 with a zone.", format="date-time"),
        "ce-traceparent": text("W3C trace context."),
        "content-type": text("Of the body.", const="application/json"),
    },
}


def messages(payloads: Payloads) -> Json:
    """The messages of all commands."""
    return {
        name: {
            "name": name,
            "title": name,
            "summary": _meaning(kind),
            "traits": [{"$ref": "#/components/messageTraits/command"}],
            "payload": payloads.ref(kind),
            "examples": [
                {
                    "name": "example",
                    "headers": headers_of(
                        kind.model_validate(example(kind)), EXAMPLE_ID, time=EXAMPLE_TIME, source=SOURCE
                    ),
                    "payload": example(kind),
                }
            ],
        }
        for name, kind in COMMANDS.items()
    }


def channels() -> Json:
    """One channel for each command."""
    age_s = next(each.max_age_s for each in STREAMS if each.name == CMD)
    return {
        kind.kind: {
            "address": address_of(kind),
            "title": kind.kind,
            "description": _meaning(kind),
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
            "parameters": {
                "tenant_id": {"description": "The tenant that it is for; the same as in the body."},
                "id": {"description": "The command's `ce-id`: letters, digits and dashes."},
            },
            "x-stream": CMD,
            "x-retention-s": age_s,
        }
        for name, kind in COMMANDS.items()
    }


def operations() -> Iterator[tuple[str, Json]]:
    """A frontend sends, endpoint-api receives and answers."""
    for kind in COMMANDS.values():
        yield f"{slug(SENDER)}.sends.{kind.kind}", _operation(kind, "send", SENDER)
        yield f"{HEARER}.hears.{kind.kind}", _operation(kind, "receive", str(HEARER))


def _operation(kind: type[Command], action: str, who: str) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{kind.kind}"},
        "title": f"{who} {'sends' if action == 'send' else 'hears'} {type_name(kind)}",
        "tags": [{"name": who}],
        "reply": {
            "channel": {"$ref": f"#/channels/{CommandAnswered.kind}"},
            "messages": [{"$ref": f"#/channels/{CommandAnswered.kind}/messages/{type_of(CommandAnswered)}"}],
        },
    }


def _meaning(kind: type[Command]) -> str:
    return " ".join((kind.__doc__ or "").split())
