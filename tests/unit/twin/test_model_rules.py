"""Tools, formats, vectors and the prefix cache of the twin's model: simple rules, and true ones."""

from __future__ import annotations

import json
import struct
from base64 import b64decode
from typing import Any

import pytest

from libs.twin.model import embedding
from libs.twin.model.errors import BadRequest
from libs.twin.model.filling import filled
from libs.twin.model.generation import Outcome, script_for, scripted
from libs.twin.model.items import read_items
from libs.twin.model.ngram import NgramModel, tokenize
from libs.twin.model.prefix_cache import BLOCK_TOKENS, PrefixCache
from libs.twin.model.requests import read

MODEL = NgramModel.trained(order=3)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
PERSON = {
    "$defs": {"Kind": {"enum": ["miller", "baker"]}},
    "type": "object",
    "properties": {
        "name": {"type": "string"}, "age": {"type": "integer"}, "kind": {"$ref": "#/$defs/Kind"},
        "nick": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "is_tall": {"type": "boolean"},
        "tags": {"type": "array", "items": {"const": "x"}},
    },
}  # fmt: skip


def script(**fields: object) -> Any:
    body = {"messages": [{"role": "user", "content": "What is the weather in Paris for 3 days?"}], **fields}
    asked = read(json.dumps(body).encode(), is_chat=True, models=("m",), context_tokens=512)
    return script_for(MODEL, asked)


def test_a_tool_is_called_when_the_user_speaks_of_it() -> None:
    found = script(tools=[WEATHER])

    assert (found.tool, json.loads(found.text)) == ("get_weather", {"city": "Paris", "days": 3})


@pytest.mark.parametrize(
    ("choice", "text", "called"),
    [
        ("none", "the weather", False), ("auto", "the weather", True), ("auto", "the wheel", False),
        ("required", "the wheel", True),
        ({"type": "function", "function": {"name": "get_weather"}}, "the wheel", True),
        ({"type": "function", "name": "get_weather"}, "the wheel", True),
    ],
)  # fmt: skip
def test_the_choice_of_tools_is_kept_to(choice: object, text: str, called: bool) -> None:
    found = script(tools=[WEATHER], tool_choice=choice, messages=[{"role": "user", "content": text}])

    assert (found is not None) is called


def test_no_tool_is_called_once_it_has_answered() -> None:
    messages = [{"role": "user", "content": "the weather?"}, {"role": "tool", "content": "rain"}]

    assert script(tools=[WEATHER], messages=messages) is None


def test_a_tool_that_is_not_there_can_not_be_chosen() -> None:
    with pytest.raises(BadRequest) as refused:
        script(tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "other"}})

    assert refused.value.param == "tool_choice"


def test_json_is_said_where_json_is_wanted() -> None:
    free = script(response_format={"type": "json_object"})
    bound = script(response_format={"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}})

    assert list(json.loads(free.text)) == ["answer"]
    assert json.loads(bound.text) == filled(PERSON, "What is the weather in Paris for 3 days?")


def test_a_schema_is_filled_from_the_prompt() -> None:
    assert filled(PERSON, "Ann the baker is 41, not tall, and calls herself Annie") == {
        "name": "Annie", "age": 41, "kind": "baker", "nick": "Annie", "is_tall": False, "tags": ["x"],
    }  # fmt: skip


def test_what_is_scripted_is_cut_at_the_limit_like_anything_else() -> None:
    body = {"messages": [{"role": "user", "content": "the weather"}], "tools": [WEATHER], "max_tokens": 2}
    asked = read(json.dumps(body).encode(), is_chat=True, models=("m",), context_tokens=512)
    found, outcome = script_for(MODEL, asked), Outcome()
    assert found is not None

    assert len(list(scripted(found, asked, outcome))) == 2
    assert outcome.finish_reason == "length"


def vectors(**fields: object) -> list[Any]:
    asked = embedding.read(json.dumps(fields).encode(), models=("m",), context_tokens=512)
    return [each["embedding"] for each in embedding.answer(asked, MODEL)["data"]]


def test_vectors_are_of_length_one_the_same_for_the_same_and_nearer_for_the_like() -> None:
    mill, again, wheel, other = vectors(input=["the mill wheel", "the mill wheel", "a mill wheel turns", "42 ? !"])

    def near(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert mill == again
    assert near(mill, mill) == pytest.approx(1)
    assert near(mill, wheel) > near(mill, other)


def test_vectors_come_in_both_encodings_and_any_length() -> None:
    [plain] = vectors(input="the mill", dimensions=8)
    [packed] = vectors(input="the mill", dimensions=8, encoding_format="base64")

    assert struct.unpack("<8f", b64decode(packed)) == pytest.approx(plain)
    assert len(vectors(input=[[1, 2], [3]])) == 2


@pytest.mark.parametrize(
    "fields", [{}, {"input": []}, {"input": [""]}, {"input": 5}, {"input": "x", "dimensions": 0.5}]
)
def test_what_has_no_vector_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        vectors(**fields)


def test_a_prompt_is_known_from_its_beginning_and_only_under_its_salt() -> None:
    cache = PrefixCache(100)
    words = tokenize("one two three four " * 10)

    assert cache.read(words, "a") == 0
    assert cache.read(words, "b") == 0
    assert cache.read([*words[: 2 * BLOCK_TOKENS], "then other words"], "a") == 2 * BLOCK_TOKENS


def test_the_prefix_cache_forgets_what_was_not_used_for_long() -> None:
    cache = PrefixCache(2)
    words = tokenize("one two three four " * 10)[: 2 * BLOCK_TOKENS]
    cache.read(words, "a")
    cache.read(words, "b")

    assert cache.read(words, "a") == 0


def test_items_of_a_response_amount_to_a_chat() -> None:
    body = {
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "the weather?"}]},
            {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "rain"},
        ],
        "max_output_tokens": 7,
    }

    asked, _ = read_items(json.dumps(body).encode(), models=("m",), context_tokens=512)

    assert asked.prompt == "Be brief.\nthe weather?\n{}\nrain"
    assert (asked.max_tokens, asked.last_role) == (7, "tool")
