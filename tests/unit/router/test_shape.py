"""What a large body may be made of: text in any amount, and no more pieces than are read in a moment."""

from __future__ import annotations

import json

import pytest

from services.router.core import openai
from services.router.core.refusals import HttpRefusal
from services.router.core.shape import CONTAINERS_MAX, LARGE_BYTES, STRINGS_MAX, VALUES_MAX
from services.router.core.surface import Api

MESSAGE = b'{"role":"user","content":"x"}'
CHAT = b'{"model":"m","messages":[' + MESSAGE


@pytest.mark.parametrize(
    ("api", "body", "what"),
    [
        (Api.CHAT, CHAT + (b"," + MESSAGE) * (STRINGS_MAX // 4) + b"]}", "strings"),
        (Api.CHAT, CHAT + b'],"stop":[""' + b',"a"' * STRINGS_MAX + b"]}", "strings"),
        (Api.CHAT, CHAT + b'],"stop":[""' + rb',"\\"' * (2 * STRINGS_MAX) + b"]}", "strings"),
        (Api.CHAT, CHAT + b'],"logit_bias":[[]' + b",[]" * (2 * CONTAINERS_MAX) + b"]}", "objects and arrays"),
        (Api.CHAT, CHAT + b'],"logit_bias":[1' + b",1" * VALUES_MAX + b"]}", "values"),
        (Api.COMPLETIONS, b'{"model":"m","prompt":[1' + b",1" * VALUES_MAX + b"]}", "values"),
        (Api.EMBEDDINGS, b'{"model":"m","input":[[1]' + b",[1]" * (2 * CONTAINERS_MAX) + b"]}", "objects and arrays"),
    ],
    ids=["messages", "strings", "strings that end in an escape", "brackets", "numbers", "tokens", "lists of tokens"],
)
def test_a_large_body_of_more_pieces_than_we_read_is_refused(api: Api, body: bytes, what: str) -> None:
    assert json.loads(body)

    with pytest.raises(HttpRefusal) as refused:
        openai.read(api, body)

    assert refused.value.status == 400
    assert str(refused.value).endswith(f" {what}.")


@pytest.mark.parametrize(
    "text",
    ["a, b [c] {d} ", 'say "a", "b" ', '{"a": [1, 2, {"b": []}], "c": "\\\\"} ', "é\n\t"],
    ids=["marks", "quotes", "JSON", "escapes"],
)
def test_text_of_any_kind_is_read_however_large_it_is(text: str) -> None:
    content = text * (4 * LARGE_BYTES // len(text))
    care: dict[str, object] = {"logit_bias": {}}
    for more in ({}, care):
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}], **more}).encode()

        ask = openai.read(Api.CHAT, body)

        assert json.loads(bytes(ask.rest["messages"]))[0]["content"] == content


def test_a_batch_of_texts_as_tokens_is_read() -> None:
    texts = [[100_000 + each for each in range(400)] for _ in range(1000)]

    ask = openai.read(Api.EMBEDDINGS, json.dumps({"model": "m", "input": texts}).encode())

    assert ask.prompts == 1000
