"""The files of the contract are true, and breaking one is noticed by the event, the version and the field."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest

from libs.common.events.catalog import EVENTS
from libs.common.events.event import Event
from libs.common.events.examples import examples
from libs.common.schemas import __main__ as bus
from libs.common.schemas.breaks import Use, breaks
from libs.common.schemas.event_files import path_of
from libs.common.schemas.gate import HASHES, ROOT, Gate, Part

Schema = dict[str, Any]
PATH: Final = "events/endpoint-api/endpoint.requested/v1.json"

PUBLISHED: Final[Schema] = {
    "properties": {
        "spec": {"$ref": "#/$defs/Spec"},
        "reason": {"type": "string"},
        "hint": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}], "default": None},
    },
    "required": ["spec", "reason"],
    "$defs": {
        "Spec": {
            "type": "object",
            "properties": {
                "replicas": {"type": "integer", "minimum": 1, "maximum": 64, "default": 1},
                "stages": {"type": "array", "items": {"enum": ["ready", "failed"], "type": "string"}},
                "name": {"type": "string", "pattern": "^[a-z]+$"},
            },
            "required": ["name"],
        }
    },
}


def spec(schema: Schema) -> Schema:
    found: Schema = schema["$defs"]["Spec"]
    return found


# What is done to the schema, what is said of it, and to whom it matters: readers, writers, or both.
FAULTS: Final[tuple[tuple[Callable[[Schema], object], str, Use], ...]] = (
    (lambda s: s["properties"].pop("hint"), "hint is gone", Use.KEPT),
    (lambda s: spec(s)["properties"].pop("replicas"), "spec.replicas is gone", Use.KEPT),
    (
        lambda s: s["properties"]["reason"].update(type="integer"),
        "reason has another type: string, now integer",
        Use.KEPT,
    ),
    (
        lambda s: s["properties"].update(reason={"anyOf": [{"type": "string"}, {"type": "null"}]}),
        "reason has another type: string, now null or string",
        Use.TOLD,
    ),
    (
        lambda s: s["properties"].update(hint={"type": "integer", "minimum": 1}),
        "hint has another type: integer or null, now integer",
        Use.SENT,
    ),
    (lambda s: s["required"].append("hint"), "hint is newly required", Use.SENT),
    (lambda s: s["required"].remove("reason"), "reason is no longer always there", Use.TOLD),
    (
        lambda s: (s["properties"].update(more={"type": "string"}), s["required"].append("more")),
        "more is new and required",
        Use.SENT,
    ),
    (lambda s: spec(s)["properties"]["stages"]["items"]["enum"].pop(), "spec.stages[] lost the value failed", Use.KEPT),
    (
        lambda s: s["properties"]["reason"].update(enum=["a"]),
        "reason may now be only one of 1 values",
        Use.KEPT,
    ),
    (
        lambda s: spec(s)["properties"]["stages"]["items"].pop("enum"),
        "spec.stages[] may now be any value",
        Use.TOLD,
    ),
    (
        lambda s: spec(s)["properties"]["replicas"].update(minimum=2),
        "spec.replicas has a tighter minimum: 1, now 2",
        Use.SENT,
    ),
    (
        lambda s: spec(s)["properties"]["replicas"].update(maximum=65),
        "spec.replicas has a looser maximum: 64, now 65",
        Use.TOLD,
    ),
    (
        lambda s: s["properties"]["reason"].update(maxLength=9),
        "reason has a tighter maxLength: None, now 9",
        Use.SENT,
    ),
    (
        lambda s: s["properties"]["hint"]["anyOf"][0].update(minimum=3),
        "hint has a tighter minimum: 1, now 3",
        Use.SENT,
    ),
    (
        lambda s: spec(s)["properties"]["name"].update(pattern="^[a-c]+$"),
        "spec.name has another pattern: ^[a-z]+$, now ^[a-c]+$",
        Use.KEPT,
    ),
    (
        lambda s: spec(s)["properties"]["replicas"].update(default=2),
        "spec.replicas has another default: 1, now 2",
        Use.KEPT,
    ),
)


@pytest.mark.parametrize(("fault", "complaint", "use"), FAULTS, ids=[each[1] for each in FAULTS])
@pytest.mark.parametrize("asked", [Use.TOLD, Use.SENT, Use.KEPT])
def test_an_incompatible_edit_names_the_field_to_whom_it_matters(
    fault: Callable[[Schema], object], complaint: str, use: Use, asked: Use
) -> None:
    edited = deepcopy(PUBLISHED)
    fault(edited)

    assert list(breaks(PUBLISHED, edited, use=asked)) == ([complaint] if asked & use else [])


def test_a_default_may_name_a_new_field_only_as_what_it_is_when_left_out() -> None:
    def settings(extra: Schema, default: Schema) -> Schema:
        known: Schema = {"least": {"type": "integer", "default": 1}}
        return {"type": "object", "properties": {**known, **extra}, "default": default}

    old = settings({}, {"least": 1})
    more: Schema = {"rest_s": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}}

    assert list(breaks(old, settings(more, {"least": 1, "rest_s": None}))) == []
    assert len(list(breaks(old, settings(more, {"least": 1, "rest_s": 60})))) == 1
    assert len(list(breaks(old, settings(more, {"least": 2, "rest_s": None})))) == 1
    assert len(list(breaks(old, settings(more, {"rest_s": None})))) == 1


def test_what_only_adds_breaks_nothing() -> None:
    wider = deepcopy(PUBLISHED)
    wider["description"] = "Another text."
    wider["properties"]["more"] = {"type": "string", "default": ""}
    spec(wider)["properties"]["stages"]["items"]["enum"].append("paused")
    wider["$defs"]["Wish"] = wider["$defs"].pop("Spec")  # A name inside is nobody's business.
    wider["properties"]["spec"] = {"$ref": "#/$defs/Wish"}

    assert list(breaks(PUBLISHED, wider)) == []


def test_a_schema_that_contains_itself_is_compared_to_its_end() -> None:
    tree: Schema = {
        "$ref": "#/$defs/Node",
        "$defs": {
            "Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "n": {"type": "integer"}}}
        },
    }
    edited = deepcopy(tree)
    del edited["$defs"]["Node"]["properties"]["n"]

    assert list(breaks(tree, edited)) == ["n is gone"]


@cache
def today() -> Part:
    """The contract as it is, made once."""
    part = bus.part()
    return replace(part, rest=cache(part.rest))


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """A clone with today's contract published and committed."""
    root = tmp_path / "schemas"
    root.mkdir()
    found = Gate(root)
    found.write(today())
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    return found


def edited(change: Callable[[Schema], object], path: str = PATH) -> Part:
    """The contract after a change to one model."""
    part = today()
    schema = json.loads(part.promises[path])
    change(schema)
    return replace(part, promises={**part.promises, path: json.dumps(schema)})


def lose_a_field(schema: Schema) -> None:
    del schema["$defs"]["Scaling"]["properties"]["target_concurrency"]


SAID: Final = f"schemas/{PATH} is published and spec.scaling.target_concurrency is gone: make a new version beside it"


def test_an_incompatible_model_fails_the_check_and_names_event_version_and_field(
    gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate.run(edited(lose_a_field), check=True) == 1

    assert capsys.readouterr().err.splitlines() == [SAID]


@pytest.mark.parametrize("check", [True, False])
def test_a_break_is_named_though_no_example_fits_the_model_any_more(
    gate: Gate, capsys: pytest.CaptureFixture[str], check: bool
) -> None:
    def rest() -> dict[str, str]:
        raise ValueError("1 validation error for EndpointRequested")

    assert gate.run(replace(edited(lose_a_field), rest=rest), check=check) == 1

    assert capsys.readouterr().err.splitlines() == [SAID]


def test_an_incompatible_model_is_never_written(gate: Gate) -> None:
    before = {path: path.read_text() for path in gate.root.rglob("*") if path.is_file()}

    assert gate.run(edited(lose_a_field), check=False) == 1

    assert before == {path: path.read_text() for path in gate.root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("is_hash_edited", [False, True])
@pytest.mark.parametrize("is_removed", [False, True])
def test_making_room_by_hand_does_not_help(gate: Gate, is_hash_edited: bool, is_removed: bool) -> None:
    part = edited(lose_a_field)
    file, hashes = gate.root / PATH, gate.root / HASHES
    if is_removed:
        file.unlink()
    else:
        file.write_text(part.promises[PATH])
    if is_hash_edited:
        hashes.write_text("".join(line for line in hashes.read_text().splitlines(keepends=True) if PATH not in line))

    assert SAID in gate.breaks(part)


def test_a_file_that_is_not_the_published_one_is_noticed_without_git_too(gate: Gate) -> None:
    alone = Gate(gate.root, against="no-such-commit")
    part = edited(lose_a_field)
    (gate.root / PATH).write_text(part.promises[PATH])

    assert alone.breaks(part) == [f"schemas/{PATH} is not the file that was published: bring it back from git"]


def test_an_event_that_moves_to_another_subject_is_broken(gate: Gate) -> None:
    found = gate.breaks(edited(lambda schema: schema.update({"x-subject": "mr.v1.evt.elsewhere.>"})))

    assert any("its x-subject moved" in each for each in found)


def test_an_event_that_is_gone_is_broken(gate: Gate) -> None:
    part = today()
    rest = {path: text for path, text in part.promises.items() if path != PATH}

    found = gate.breaks(replace(part, promises=rest))

    assert found == [f"schemas/{PATH} has no model any more: a published version never goes"]


def test_a_new_optional_field_is_stale_until_it_is_published(gate: Gate) -> None:
    part = edited(lambda schema: schema["properties"].update(hint={"type": "string", "default": ""}))

    assert gate.breaks(part) == []
    assert gate.stale(part) == [f"schemas/{PATH} is stale: run `make schemas` and read the diff"]
    assert gate.run(part, check=False) == 0
    assert gate.run(part, check=True) == 0


def test_a_file_without_a_model_is_noticed(gate: Gate) -> None:
    (gate.root / "events" / "stray.json").write_text("{}")

    assert gate.stale(today()) == ["schemas/events/stray.json has no model: remove it"]


def test_every_event_has_one_example() -> None:
    assert sorted(type(each).__name__ for each in examples()) == sorted(each.__name__ for each in EVENTS.values())


@pytest.mark.parametrize("example", examples(), ids=lambda each: type(each).__name__)
def test_an_example_validates_against_its_schema(example: Event) -> None:
    contents = {**today().promises, **today().rest()}
    path = path_of(type(example))
    schema, shown = json.loads(contents[f"{path}.json"]), json.loads(contents[f"{path}.example.json"])

    jsonschema.Draft202012Validator(schema).validate(shown["data"])


def test_the_files_in_the_repository_are_those_of_the_models() -> None:
    gate = Gate(ROOT)

    assert [*gate.breaks(today()), *gate.stale(today())] == []
