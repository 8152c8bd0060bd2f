"""The AsyncAPI 3.0 document of the bus: every message, its channel, and who sends and receives it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import yaml

from libs.common.bus.streams import OWN_STREAM, STREAMS, message_of, stream_of, subject_filter
from libs.common.events.catalog import EVENTS
from libs.common.events.envelope import Envelope, type_of
from libs.common.events.event import Event
from libs.common.ids import PARTITIONS, EventId
from libs.common.schemas import asyncapi_commands
from libs.common.schemas.asyncapi_parts import HEADERS, INFO, SERVERS, Payloads, slug
from libs.common.schemas.event_files import EXAMPLE_ID, example_of
from libs.common.schemas.topics import OUTSIDE, meaning_of

Json = dict[str, Any]

WIDTH: Final = 120
TIME_MS: Final = 1_800_000_000_000


def asyncapi_file() -> str:
    """The text of `asyncapi.yaml`."""
    return yaml.dump(document(), Dumper=_Plain, sort_keys=False, width=WIDTH, allow_unicode=True)


def document() -> Json:
    """The whole document."""
    payloads = Payloads()
    messages = {type_of(kind): _message(kind, payloads) for kind in EVENTS.values()}
    messages |= asyncapi_commands.messages(payloads)
    return {
        "asyncapi": "3.0.0",
        "info": INFO,
        "defaultContentType": "application/json",
        "servers": SERVERS,
        "channels": {**_channels(), **asyncapi_commands.channels()},
        "operations": {**dict(_operations()), **dict(asyncapi_commands.operations())},
        "components": {
            "messages": messages,
            "messageTraits": {
                "cloudEvent": {"contentType": "application/json", "headers": HEADERS},
                "command": {"contentType": "application/json", "headers": asyncapi_commands.HEADERS},
            },
            "schemas": payloads.schemas,
        },
    }


def _message(kind: type[Event], payloads: Payloads) -> Json:
    example = example_of(kind)
    envelope = Envelope(
        EventId(EXAMPLE_ID),
        kind.model_validate(example["data"]),
        example["subject"],
        TIME_MS,
        example["generation"],
        example["sequence"],
    )
    return {
        "name": type_of(kind),
        "title": type_of(kind),
        "summary": meaning_of(kind),
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "payload": payloads.ref(kind),
        "examples": [
            {
                "name": "example",
                "headers": dict(message_of(envelope).headers),
                "payload": json.loads(envelope.data.model_dump_json()),
            }
        ],
    }


def _channels() -> Json:
    """One channel for each subject; versions of an event share one."""
    found: Json = {}
    ages = {each.name: each.max_age_s for each in STREAMS}
    for kind in EVENTS.values():
        channel = found.setdefault(
            kind.kind,
            {
                "address": address_of(kind),
                "title": kind.kind,
                "description": meaning_of(kind),
                "messages": {},
                "parameters": _parameters(kind),
                "x-stream": stream_of(kind),
                "x-retention-s": ages[stream_of(kind)],
            },
        )
        channel["messages"][type_of(kind)] = {"$ref": f"#/components/messages/{type_of(kind)}"}
    return found


def address_of(kind: type[Event]) -> str:
    """The subject of an event, with its parameters in braces."""
    own = "{instance}" if kind.kind in OWN_STREAM else "{partition}.{subject}"
    return subject_filter(kind).removesuffix(">") + own


def _parameters(kind: type[Event]) -> Json:
    if kind.kind in OWN_STREAM:
        return {"instance": {"description": "The router that tells; also `ce-subject`.", "examples": ["router-1"]}}
    return {
        "partition": {
            "description": f"`p` and two digits: crc32(subject) modulo {PARTITIONS}. Subscribe to all with `*`.",
            "enum": [f"p{number:02d}" for number in range(PARTITIONS)],
        },
        "subject": {
            "description": "What it is about, mostly an endpoint's id; also `ce-subject`. Subscribe to all with `>`.",
            "examples": ["ep-7f3akq2xpd"],
        },
    }


def _operations() -> Iterator[tuple[str, Json]]:
    """What each service sends and receives; and what those outside receive, for whom it is made."""
    for kind in {each.kind: each for each in EVENTS.values()}.values():
        yield f"{kind.owner}.tells.{kind.kind}", _operation(kind, "send", str(kind.owner))
        for hearer in (*sorted(map(str, kind.consumers)), *OUTSIDE.get(kind.kind, ())):
            yield f"{slug(hearer)}.hears.{kind.kind}", _operation(kind, "receive", hearer)


def _operation(kind: type[Event], action: str, who: str) -> Json:
    verb = "tells" if action == "send" else "hears"
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{kind.kind}"},
        "title": f"{who} {verb} {kind.kind}",
        "tags": [{"name": who}],
    }


class _Plain(yaml.SafeDumper):
    """Without anchors: a reader should not have to look elsewhere for a value that is written twice."""

    def ignore_aliases(self, data: object) -> bool:
        """Never an alias."""
        del data
        return True
