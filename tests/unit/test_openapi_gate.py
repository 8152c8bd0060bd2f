"""Breaking a published HTTP API is noticed by the operation and the field."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import pytest

from libs.common.schemas.gate import Gate
from libs.common.schemas.openapi import openapi_part, path_of
from libs.common.schemas.openapi_breaks import openapi_breaks

Json = dict[str, Any]

PUBLISHED: Final[Json] = {
    "paths": {
        "/v1/things": {
            "post": {
                "operationId": "create_thing",
                "parameters": [{"in": "query", "name": "dry_run", "schema": {"type": "boolean"}}],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Body"}}}},
                "responses": {
                    "202": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                    "404": {},
                },
            },
            "get": {"operationId": "list_things", "responses": {"200": {}}},
        }
    },
    "components": {
        "schemas": {
            "Body": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 40}}},
            "Thing": {
                "type": "object",
                "properties": {"stage": {"type": "string", "enum": ["ready", "failed"]}},
                "required": ["stage"],
            },
        }
    },
}
POST: Final = "POST /v1/things"


def post(document: Json) -> Json:
    found: Json = document["paths"]["/v1/things"]["post"]
    return found


def record(document: Json, name: str) -> Json:
    found: Json = document["components"]["schemas"][name]
    return found


FAULTS: Final[tuple[tuple[Callable[[Json], object], str], ...]] = (
    (lambda d: d["paths"].pop("/v1/things"), f"{POST} is gone"),
    (lambda d: d["paths"]["/v1/things"].pop("get"), "GET /v1/things is gone"),
    (lambda d: post(d).update(operationId="make_thing"), f"{POST}: is now called make_thing, was create_thing"),
    (lambda d: post(d)["parameters"].clear(), f"{POST}: query parameter dry_run is gone"),
    (
        lambda d: post(d)["parameters"][0].update(required=True),
        f"{POST}: query parameter dry_run is newly required",
    ),
    (
        lambda d: post(d)["parameters"].append({"in": "query", "name": "x", "required": True, "schema": {}}),
        f"{POST}: query parameter x is new and required",
    ),
    (lambda d: post(d)["requestBody"].update(required=True), f"{POST}: body is newly required"),
    (lambda d: record(d, "Body").update(required=["name"]), f"{POST}: body name is newly required"),
    (
        lambda d: record(d, "Body")["properties"]["name"].update(maxLength=20),
        f"{POST}: body name has a tighter maxLength: 40, now 20",
    ),
    (lambda d: record(d, "Thing")["properties"].clear(), f"{POST}: answer 202 stage is gone"),
    (
        lambda d: record(d, "Thing")["properties"]["stage"]["enum"].pop(),
        f"{POST}: answer 202 stage lost the value failed",
    ),
    (
        lambda d: record(d, "Thing")["required"].clear(),
        f"{POST}: answer 202 stage is no longer always there",
    ),
    (lambda d: post(d)["responses"].pop("404"), f"{POST}: answer 404 is gone"),
)


@pytest.mark.parametrize(("fault", "complaint"), FAULTS, ids=[each[1] for each in FAULTS])
def test_an_incompatible_edit_names_the_operation_and_the_field(
    fault: Callable[[Json], object], complaint: str
) -> None:
    edited = deepcopy(PUBLISHED)
    fault(edited)

    assert complaint in list(openapi_breaks(PUBLISHED, edited))


def test_what_only_adds_breaks_nothing() -> None:
    wider = deepcopy(PUBLISHED)
    wider["paths"]["/v1/more"] = {"get": {"operationId": "more", "responses": {}}}
    record(wider, "Body")["properties"]["hint"] = {"type": "string"}
    record(wider, "Body")["properties"]["name"]["maxLength"] = 80
    record(wider, "Thing")["properties"]["hint"] = {"type": "string"}
    record(wider, "Thing")["required"].append("hint")
    record(wider, "Thing")["properties"]["stage"]["enum"].append("paused")
    post(wider)["responses"]["412"] = {}

    assert list(openapi_breaks(PUBLISHED, wider)) == []


def test_a_document_that_breaks_the_published_one_is_never_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = Gate(tmp_path)
    assert gate.run(openapi_part("things", PUBLISHED), check=False) == 0
    edited = deepcopy(PUBLISHED)
    del record(edited, "Body")["properties"]["name"]

    assert gate.run(openapi_part("things", edited), check=False) == 1

    assert f"schemas/{path_of('things')} is published and {POST}: body name is gone" in capsys.readouterr().err
    assert json.loads((tmp_path / path_of("things")).read_text()) == PUBLISHED
