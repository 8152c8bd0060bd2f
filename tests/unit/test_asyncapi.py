"""The AsyncAPI document says of the bus what the bus does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import jsonschema
import pytest

from libs.common.bus.memory import matches
from libs.common.bus.streams import STREAMS, message_of
from libs.common.events.catalog import EVENTS
from libs.common.events.command import COMMANDS, received, subject_of
from libs.common.events.envelope import Envelope, from_wire, to_headers
from libs.common.events.event import Owner
from libs.common.events.examples import examples
from libs.common.ids import EventId
from libs.common.schemas.asyncapi import address_of, asyncapi_file, document

DOCUMENT: Final = document()


def refs(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for each in part.values():
            yield from refs(each)
    elif isinstance(part, list):
        for each in part:
            yield from refs(each)


def found_at(ref: str) -> Any:
    part: Any = DOCUMENT
    for name in ref.removeprefix("#/").split("/"):
        part = part[name]
    return part


def test_every_reference_leads_somewhere_in_the_document() -> None:
    every = set(refs(DOCUMENT))

    assert len(every) > len(EVENTS)
    assert all(found_at(each) is not None for each in every)


@pytest.mark.parametrize("name", EVENTS)
def test_an_example_fits_its_payload_and_its_headers_and_is_read(name: str) -> None:
    message = DOCUMENT["components"]["messages"][name]
    example = message["examples"][0]
    headers = DOCUMENT["components"]["messageTraits"]["cloudEvent"]["headers"]

    jsonschema.Draft202012Validator({**DOCUMENT, **message["payload"]}).validate(example["payload"])
    jsonschema.Draft202012Validator(headers, format_checker=jsonschema.FormatChecker()).validate(example["headers"])
    assert from_wire(example["headers"], json.dumps(example["payload"]).encode()).type == name


@pytest.mark.parametrize("example", examples(), ids=lambda each: type(each).__name__)
def test_a_message_travels_on_the_address_of_its_channel(example: Any) -> None:
    sent = message_of(Envelope(EventId("e-1"), example, getattr(example, "instance", "ep-1"), 1_800_000_000_000))
    address = address_of(type(example))

    channel = DOCUMENT["channels"][example.kind]
    form = re.sub(r"\\{\w+\\}", r"[^.]+", re.escape(address))
    assert channel["address"] == address
    assert re.fullmatch(form, sent.subject)
    assert set(re.findall(r"{(\w+)}", address)) == set(channel["parameters"])
    stream = next(each for each in STREAMS if each.name == channel["x-stream"])
    assert any(matches(each, sent.subject) for each in stream.subjects)


def test_what_travels_in_a_header_is_described() -> None:
    described = DOCUMENT["components"]["messageTraits"]["cloudEvent"]["headers"]["properties"]
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    full = Envelope(EventId("e-1"), examples()[0], "ep-1", 1_800_000_000_000, 1, 1, EventId("c-1"), trace)

    assert set(to_headers(full)) == set(described)


def test_every_teller_and_hearer_has_its_operation() -> None:
    operations = DOCUMENT["operations"]

    for kind in EVENTS.values():
        assert operations[f"{kind.owner}.tells.{kind.kind}"]["action"] == "send"
        hearers = {name.split(".hears.")[0] for name in operations if name.endswith(f".hears.{kind.kind}")}
        assert {str(each) for each in kind.consumers} == hearers & {str(each) for each in Owner}


def test_the_text_is_the_same_every_time_and_without_anchors() -> None:
    assert asyncapi_file() == asyncapi_file()
    assert "&id" not in asyncapi_file()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_as_shown_is_taken_on_its_address_and_answered_on_its_channel(name: str) -> None:
    message = DOCUMENT["components"]["messages"][name]
    example = message["examples"][0]
    headers = DOCUMENT["components"]["messageTraits"]["command"]["headers"]
    channel = DOCUMENT["channels"][name.removesuffix(".v1")]

    jsonschema.Draft202012Validator({**DOCUMENT, **message["payload"]}).validate(example["payload"])
    jsonschema.Draft202012Validator(headers, format_checker=jsonschema.FormatChecker()).validate(example["headers"])
    taken = received(example["headers"], json.dumps(example["payload"]).encode(), tenant_in_subject="acme")
    assert taken.data is not None
    places = {"tenant_id": taken.tenant_id, "id": taken.id}
    assert channel["address"].format(**places) == subject_of(taken.data, taken.id)
    reply = DOCUMENT["operations"][f"endpoint-api.hears.{name.removesuffix('.v1')}"]["reply"]
    assert found_at(reply["channel"]["$ref"])["messages"].keys() == {"command.answered.v1"}
