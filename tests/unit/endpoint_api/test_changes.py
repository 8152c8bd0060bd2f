"""A merge patch of a spec: RFC 7396, and which fields may change."""

from __future__ import annotations

from typing import Final

import pytest
from pydantic import JsonValue

from libs.common.events.endpoint import Limits, Scaling
from services.endpoint_api.core.changes import kind_of_change, merge, patched, repinned
from services.endpoint_api.core.forgetting import Change
from services.endpoint_api.core.refusal import FieldRefused
from tests.unit.endpoint_api.given import CATALOGUE, SPEC

TONE: Final[dict[str, JsonValue]] = {"name": "tone", "source": "acme/tone-lora", "rank": 16}

# Appendix A of RFC 7396, those whose document is an object.
RFC_7396: list[tuple[JsonValue, JsonValue, JsonValue]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("document", "patch", "result"), RFC_7396)
def test_a_merge_is_the_rfcs(document: JsonValue, patch: JsonValue, result: JsonValue) -> None:
    assert merge(document, patch) == result


def test_a_patch_changes_what_it_names_and_null_is_the_default() -> None:
    larger = patched(SPEC, {"scaling": {"max": 3}})

    assert larger.scaling == Scaling(min=1, max=3)
    assert patched(larger, {"scaling": None}) == SPEC
    assert patched(SPEC, {"limits": {"requests_per_minute": 5}}).limits == Limits(requests_per_minute=5)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tier": "h100-dedicated"}, "spec.tier"),
        ({"region": None}, "spec.region"),
        ({"model": None}, "spec.model"),
        ({"model": 5}, "spec.model"),
        ({"scaling": {"max": "3"}}, "spec.scaling.max"),
        ({"scaling": {"most": 3}}, "spec.scaling"),
        ({"scaling": 3}, "spec.scaling"),
        ({"secret": 3}, "spec"),
        ({"adapters": [{**TONE, "name": "../up"}]}, "spec.adapters.0.name"),
        ({"adapters": [{**TONE, "rank": "16"}]}, "spec.adapters.0.rank"),
        ({"adapters": [{**TONE, "path": "/etc"}]}, "spec.adapters.0"),
        ({"adapters": {"name": "tone"}}, "spec.adapters"),
    ],
)
def test_what_may_not_change_is_refused_by_its_name(changes: dict[str, JsonValue], field: str) -> None:
    with pytest.raises(FieldRefused) as refused:
        patched(SPEC, changes)

    assert refused.value.field == field


def test_a_model_or_template_rolls_and_the_rest_changes_in_place() -> None:
    assert kind_of_change(SPEC, patched(SPEC, {"template": "vllm@2"})) is Change.ROLL
    assert kind_of_change(SPEC, patched(SPEC, {"scaling": {"max": 2}})) is Change.IN_PLACE
    assert kind_of_change(SPEC, SPEC) is Change.NONE


def test_other_adapters_are_loaded_without_another_recipe() -> None:
    tuned = patched(SPEC, {"adapters": [TONE]})

    assert [each.name for each in tuned.adapters] == ["tone"]
    assert kind_of_change(SPEC, tuned) is Change.RELOAD
    assert kind_of_change(SPEC, patched(tuned, {"model": "millrace/ngram-1-large"})) is Change.ROLL
    assert patched(tuned, {"adapters": None}) == SPEC


def test_a_change_of_adapters_keeps_the_recipe_that_is_pinned_unless_its_engines_have_too_little_room() -> None:
    pinned = CATALOGUE.resolve(SPEC).model_copy(update={"runtime_template": "vllm@0"})
    resolved = CATALOGUE.resolve(SPEC)

    assert repinned(pinned, resolved, Change.RELOAD) == pinned
    narrow = pinned.model_copy(update={"adapters_max": 0, "adapter_rank_max": 0})
    assert repinned(narrow, resolved, Change.RELOAD) == pinned
