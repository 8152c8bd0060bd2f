"""The AsyncAPI document as the specification's own JSON Schema sees it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml

from libs.common.schemas.gate import ROOT
from tests.support.npm import installed

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("asyncapi")]

HERE: Final = Path(__file__).parent


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> jsonschema.Draft7Validator:
    """The specification's schema."""
    packages = installed(HERE / "asyncapi", tmp_path_factory.mktemp("asyncapi"))
    schema = json.loads((packages / "node_modules/@asyncapi/specs/schemas/3.0.0.json").read_text())
    return jsonschema.Draft7Validator(schema)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document in the repository."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "asyncapi/asyncapi.yaml").read_text())
    return found


def test_the_document_is_asyncapi_3(official: jsonschema.Draft7Validator, document: dict[str, Any]) -> None:
    assert [each.message for each in official.iter_errors(document)] == []


@pytest.mark.parametrize("part", ["info", "channels", "operations"])
def test_a_spoiled_document_is_noticed(
    official: jsonschema.Draft7Validator, document: dict[str, Any], part: str
) -> None:
    spoiled = copy.deepcopy(document)
    if part == "info":
        del spoiled["info"]["title"]
    else:
        next(iter(spoiled[part].values()))["adress"] = "mr.v1.evt"

    assert not official.is_valid(spoiled)
