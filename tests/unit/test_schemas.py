"""The files of the contract are true, and breaking one is noticed by the field's name."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from libs.common import schemas
from libs.common.events.catalog import EVENTS
from libs.common.events.event import Event
from libs.common.events.examples import EXAMPLES


def test_every_event_has_one_example() -> None:
    assert sorted(type(each).__name__ for each in EXAMPLES) == sorted(each.__name__ for each in EVENTS.values())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: type(each).__name__)
def test_an_example_validates_against_its_schema(example: Event) -> None:
    contents = schemas.files()
    path = f"events/{example.owner}/{example.kind}/v{example.version}"
    schema, shown = json.loads(contents[f"{path}.json"]), json.loads(contents[f"{path}.example.json"])

    jsonschema.Draft202012Validator(schema).validate(shown["data"])


def test_the_files_in_the_repository_are_those_of_the_models() -> None:
    stale = [path for path, text in schemas.files().items() if (schemas.ROOT / path).read_text() != text]

    assert stale == []


def a_schema(**changes: Any) -> dict[str, Any]:
    return {
        "properties": {"replicas": {"type": "integer"}, "reason": {"type": "string"}},
        "required": ["replicas"],
        **changes,
    }


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"properties": {"replicas": {"type": "integer"}}}, "reason is gone"),
        ({"properties": {"replicas": {"type": "string"}, "reason": {"type": "string"}}}, "replicas has another type"),
        ({"required": ["replicas", "reason"]}, "reason is newly required"),
    ],
)
def test_an_incompatible_edit_names_the_field(changed: dict[str, Any], complaint: str) -> None:
    assert complaint in list(schemas.breaks(a_schema(), a_schema(**changed)))


def test_a_new_optional_field_breaks_nothing() -> None:
    wider = a_schema()
    wider["properties"] = {**wider["properties"], "hint": {"type": "string"}}

    assert list(schemas.breaks(a_schema(), wider)) == []
