"""The small language model: its tokens, its ends, and the requests that it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.twin.model.errors import BadRequest
from libs.twin.model.generation import Outcome, tokens
from libs.twin.model.ngram import CORPUS, NgramModel, tokenize
from libs.twin.model.requests import Asked, read

MODEL = NgramModel.trained(order=3)
ASKED = Asked(
    is_chat=True,
    model="m",
    prompt="Tell me of the wheel",
    prompt_tokens=9,
    max_tokens=200,
    min_tokens=0,
    stops=(),
    seed=1,
    temperature=1.0,
    stream=False,
    include_usage=False,
    continuous_usage=False,
    ignore_eos=False,
)


def said(asked: Asked) -> tuple[list[str], str]:
    outcome = Outcome()
    return list(tokens(MODEL, asked, outcome)), outcome.finish_reason


def asking(**fields: object) -> Asked:
    body = {"model": "m", "messages": [{"role": "user", "content": "Tell me of the wheel"}], **fields}
    return read(json.dumps(body).encode(), is_chat=True, models=("m", "alias"), context_tokens=1_000)


@given(st.text())
def test_tokens_put_together_are_the_text(text: str) -> None:
    assert "".join(tokenize(text)) == text.rstrip()


@given(st.text(), st.integers())
def test_whatever_is_asked_something_is_said(prompt: str, seed: int) -> None:
    found, reason = said(replace(ASKED, prompt=prompt, seed=seed, max_tokens=20))

    assert 1 <= len(found) <= 20
    assert reason in {"stop", "length"}


def test_the_same_seed_says_the_same_and_another_something_else() -> None:
    assert said(ASKED) == said(ASKED)
    assert len({tuple(said(replace(ASKED, seed=seed))[0]) for seed in range(10)}) > 5


def test_what_is_said_is_made_of_words_that_were_read() -> None:
    read_words = {each.strip() for each in tokenize(CORPUS.read_text())}

    found, _ = said(replace(ASKED, min_tokens=100))

    assert {each.strip() for each in found} <= read_words
    assert not found[0].startswith(" ")


@pytest.mark.parametrize("limit", [1, 7, 50])
def test_a_limit_is_kept_exactly(limit: int) -> None:
    found, reason = said(replace(ASKED, max_tokens=limit, ignore_eos=True))

    assert len(found) == limit
    assert reason == "length"


def test_at_least_so_many_are_said_if_asked() -> None:
    assert len(said(replace(ASKED, min_tokens=150))[0]) >= 150


@given(st.integers(0, 50), st.integers(1, 12), st.integers(0, 60))
def test_nothing_is_said_from_the_stop_on(seed: int, length: int, place: int) -> None:
    free = "".join(said(replace(ASKED, seed=seed))[0])
    stop = free[place : place + length]
    if not stop:
        return

    found, reason = said(replace(ASKED, seed=seed, stops=(stop,)))

    assert "".join(found) == free[: free.index(stop)]
    assert reason == "stop"


def test_temperature_zero_always_says_the_likeliest() -> None:
    cold = replace(ASKED, temperature=0.0, prompt="The wheel")

    assert len({tuple(said(replace(cold, seed=seed))[0]) for seed in range(5)}) == 1


def test_both_names_of_the_limit_are_understood() -> None:
    assert asking(max_tokens=5).max_tokens == 5
    assert asking(max_completion_tokens=6).max_tokens == 6
    assert asking(model="alias").model == "alias"


def test_prompt_tokens_grow_with_the_messages() -> None:
    parts = [{"type": "text", "text": "Tell me of the wheel"}]

    assert asking().prompt_tokens == 5 + 4
    assert asking(messages=[{"role": "user", "content": parts}]).prompt_tokens == 5 + 4
    assert (
        asking(messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]).prompt_tokens
        == 12
    )


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "other"}, 404, "model"),
        ({"messages": []}, 400, "messages"),
        ({"messages": "hello"}, 400, "messages"),
        ({"messages": [{"content": "x"}]}, 400, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages"),
        ({"n": 2}, 400, "n"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": "many"}, 400, "max_tokens"),
        ({"max_tokens": 5_000}, 400, "max_tokens"),
        ({"temperature": 3}, 400, "temperature"),
        ({"stop": ["a", "b", "c", "d", "e"]}, 400, "stop"),
        ({"stop": [""]}, 400, "stop"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
    ],
)
def test_a_wrong_request_is_refused_and_told_what_is_wrong(fields: dict[str, object], status: int, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        asking(**fields)

    assert (refused.value.status, refused.value.param) == (status, param)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read(body, is_chat=True, models=("m",), context_tokens=100)
