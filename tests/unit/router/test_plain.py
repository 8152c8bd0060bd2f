"""A plain chat request is read in one pass, and means what it means to the reader that takes more care."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.router.core import openai, plain
from services.router.core.refusals import HttpRefusal
from services.router.core.surface import DEPTH_MAX, Api
from tests.unit.router.scene import chat_body

SCALARS = st.none() | st.booleans() | st.integers(-3, 200_000) | st.floats(allow_nan=False) | st.text(max_size=9)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=4), inner), max_leaves=9
)
PARTS = st.lists(st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url"]), "text": SCALARS}), max_size=3)
MESSAGES = st.fixed_dictionaries(
    {"role": st.just("user"), "content": st.text(max_size=20) | PARTS | st.none() | st.just(5)},
    optional={"name": SCALARS, "tool_calls": ANYTHING},
)
BODIES = st.fixed_dictionaries(
    {"model": st.just("chatty"), "messages": st.lists(MESSAGES, min_size=1, max_size=3)},
    optional={
        "stream": st.none() | st.booleans() | st.just("yes"),
        "stream_options": st.none()
        | st.fixed_dictionaries({}, optional={"include_usage": st.booleans(), "x": st.none()}),
        "tools": st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": ANYTHING})) | SCALARS,
        **{name: st.none() | st.integers(0, 9) for name in ("max_tokens", "max_completion_tokens", "n", "min_tokens")},
        **{name: ANYTHING for name in ("temperature", "stop", "response_format")},
    },
)


@given(BODIES)
@settings(max_examples=60, deadline=None)
def test_what_is_plain_means_the_same_to_both_readers(said: dict[str, object]) -> None:
    body = json.dumps(said).encode()
    found = plain.read(body)
    if found is None:
        return

    plainly, rest, _ = found
    raw, fields = openai._read_with_care(Api.CHAT, body, "")

    assert {name: json.loads(bytes(value)) for name, value in rest.items()} == {
        name: json.loads(bytes(value))
        for name, value in raw.items()
        if name not in ("model", "stream", "stream_options")
        and not (name in ("max_tokens", "max_completion_tokens", "n", "min_tokens") and bytes(value) == b"null")
        and not (name == "tools" and bytes(value) == b"null")
    }
    assert (plainly.model, plainly.stream, plainly.n, plainly.most) == (
        fields.model,
        fields.stream,
        fields.n,
        fields.most,
    )
    assert plainly.stream_options == fields.stream_options


@pytest.mark.parametrize(
    "body",
    [
        chat_body(),
        chat_body(stream=True, stream_options={"include_usage": True}, temperature=0.5, tools=[]),
        chat_body(messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}]),
        chat_body(messages=[{"role": "assistant", "content": None, "tool_calls": [{"id": "a"}], "name": "x"}]),
        chat_body(messages=[{"role": "user", "content": "grüße 🙂"}]),
    ],
)
def test_what_clients_say_every_day_is_plain(body: bytes) -> None:
    assert plain.read(body) is not None


@pytest.mark.parametrize(
    "body",
    [
        chat_body(metadata={}),
        chat_body(messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
        chat_body(messages=[{"role": "user", "content": 5}]),
        chat_body(priority=1),
        chat_body(model=""),
        chat_body(stop="x").replace(b'"x"', b'["' + b"x" * 99 + b'"' + b",[" * DEPTH_MAX + b"]" * DEPTH_MAX + b"]"),
        b'{"model":"chatty","messages":[{"role":"user","content":"\xff"}]}',
    ],
)
def test_what_needs_care_is_not(body: bytes) -> None:
    assert plain.read(body) is None


def test_of_a_field_said_twice_the_last_counts_for_engine_and_bill_alike() -> None:
    body = b'{"max_tokens":7,"model":"a","messages":[{"role":"user","content":"x"}],"model":"chatty","max_tokens":9}'

    ask = openai.read(Api.CHAT, body)

    assert (ask.model, ask.most) == ("chatty", 9)
    assert json.loads(openai.upstream_body(ask, engine_model="m"))["max_tokens"] == 9
    assert openai.upstream_body(ask, engine_model="m").count(b"max_tokens") == 1


def test_what_is_nested_too_deep_in_a_message_is_refused() -> None:
    deep = json.dumps("x").encode()
    for _ in range(DEPTH_MAX):
        deep = b"[" + deep + b"]"
    body = chat_body(messages=[{"role": "assistant", "content": "x", "tool_calls": 0}]).replace(b": 0", b":" + deep)
    body = body.replace(b":0", b":" + deep)

    with pytest.raises(HttpRefusal, match="nested deeper"):
        openai.read(Api.CHAT, body)
