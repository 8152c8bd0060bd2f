"""The unmodified `openai` package from PyPI against the whole product: what its users do, and what they get wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from libs.common import keys
from libs.common.ids import SystemEntropy
from tests.e2e.local_profile import Profile

pytestmark = pytest.mark.xdist_group("profile")

MESSAGES: Final[list[ChatCompletionMessageParam]] = [{"role": "user", "content": "What is a millrace for?"}]
LONG: Final = {"ignore_eos": True}  # The model would stop by itself; a limit is tested on one that would not.


@pytest.fixture
def api(profile: Profile, served: str) -> Iterator[openai.OpenAI]:
    """The client as the README shows it: an address and a key, nothing else."""
    assert served
    with openai.OpenAI(base_url=profile.credentials.router_url, api_key=profile.credentials.key) as client:
        yield client


@pytest.fixture
async def async_api(profile: Profile, served: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """The same for asyncio."""
    assert served
    async with openai.AsyncOpenAI(base_url=profile.credentials.router_url, api_key=profile.credentials.key) as client:
        yield client


def test_it_lists_the_models_of_the_project_and_finds_one(api: openai.OpenAI, served: str) -> None:
    listed = list(api.models.list())

    assert served in [each.id for each in listed]
    assert {each.object for each in listed} == {"model"}
    assert api.models.retrieve(served).id == served


def test_it_chats(api: openai.OpenAI, served: str) -> None:
    answer = api.chat.completions.create(model=served, messages=MESSAGES)

    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_it_streams_a_chat_token_by_token(api: openai.OpenAI, served: str) -> None:
    with api.chat.completions.create(
        model=served, messages=MESSAGES, stream=True, max_tokens=12, extra_body=LONG
    ) as stream:
        chunks = list(stream)

    contents = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len(contents) == 12
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["length"]
    assert {chunk.usage for chunk in chunks} == {None}
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_says_its_usage_at_its_end_and_only_to_those_who_ask(api: openai.OpenAI, served: str) -> None:
    with api.chat.completions.create(
        model=served,
        messages=MESSAGES,
        stream=True,
        stream_options={"include_usage": True},
        max_completion_tokens=9,
        extra_body=LONG,
    ) as stream:
        *chunks, last = list(stream)

    assert {chunk.usage for chunk in chunks} == {None}
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 9
    assert last.usage.prompt_tokens > 0


@pytest.mark.parametrize("limit", [1, 7])
def test_max_tokens_is_kept_to(api: openai.OpenAI, served: str, limit: int) -> None:
    answer = api.chat.completions.create(model=served, messages=MESSAGES, max_tokens=limit, extra_body=LONG)

    assert answer.usage is not None
    assert answer.usage.completion_tokens == limit
    assert answer.choices[0].finish_reason == "length"


def test_it_completes_a_text_streaming_or_not_with_the_same_words(api: openai.OpenAI, served: str) -> None:
    whole = api.completions.create(model=served, prompt="The water", max_tokens=10, temperature=0, seed=3)
    with api.completions.create(
        model=served, prompt="The water", max_tokens=10, temperature=0, seed=3, stream=True
    ) as stream:
        streamed = "".join(chunk.choices[0].text for chunk in stream)

    assert whole.choices[0].text == streamed != ""


def test_an_answer_can_be_given_up_in_the_middle(api: openai.OpenAI, served: str) -> None:
    with api.chat.completions.create(
        model=served, messages=MESSAGES, stream=True, max_tokens=2000, extra_body=LONG
    ) as stream:
        first = next(chunk.choices[0].delta.content for chunk in stream if chunk.choices[0].delta.content)

    assert first
    assert api.chat.completions.create(model=served, messages=MESSAGES, max_tokens=1).choices


def test_a_wrong_key_is_an_authentication_error(profile: Profile, served: str) -> None:
    unknown = keys.mint(SystemEntropy()).plaintext
    for key in (unknown, "sk-nonsense", profile.credentials.key[:-1]):
        with (
            openai.OpenAI(base_url=profile.credentials.router_url, api_key=key, max_retries=0) as stranger,
            pytest.raises(openai.AuthenticationError) as refusal,
        ):
            stranger.chat.completions.create(model=served, messages=MESSAGES)

        assert refusal.value.code == "invalid_api_key"
        assert key not in str(refusal.value)


def test_an_unknown_model_is_not_found_wherever_it_is_named(api: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as chat:
        api.chat.completions.create(model="nobodys", messages=MESSAGES)
    with pytest.raises(openai.NotFoundError) as text:
        api.completions.create(model="nobodys", prompt="x", stream=True)
    with pytest.raises(openai.NotFoundError):
        api.models.retrieve("nobodys")

    assert chat.value.code == text.value.code == "model_not_found"
    assert chat.value.param == "model"


def test_a_bad_request_names_what_is_wrong(api: openai.OpenAI, served: str) -> None:
    with pytest.raises(openai.BadRequestError) as no_tokens:
        api.chat.completions.create(model=served, messages=MESSAGES, max_tokens=0)
    with pytest.raises(openai.BadRequestError) as no_messages:
        api.chat.completions.create(model=served, messages=[])
    with pytest.raises(openai.BadRequestError) as unknown_field:
        api.chat.completions.create(model=served, messages=MESSAGES, extra_body={"cache_salt": "x"})
    with pytest.raises(openai.BadRequestError) as too_long:
        api.chat.completions.create(model=served, messages=MESSAGES, max_tokens=100_000)

    assert no_tokens.value.param == "max_tokens"
    assert no_messages.value.param == "messages"
    assert unknown_field.value.param == "cache_salt"
    assert "context length" in str(too_long.value)  # The engine's own words come through.


async def test_the_async_client_lists_chats_and_streams(async_api: openai.AsyncOpenAI, served: str) -> None:
    listed = [each.id async for each in await async_api.models.list()]
    whole = await async_api.chat.completions.create(model=served, messages=MESSAGES, max_tokens=5, extra_body=LONG)
    stream = await async_api.chat.completions.create(
        model=served, messages=MESSAGES, max_tokens=5, stream=True, extra_body=LONG
    )
    words = [chunk.choices[0].delta.content async for chunk in stream if chunk.choices[0].delta.content]

    assert served in listed
    assert whole.choices[0].message.content
    assert len(words) == 5


async def test_the_async_client_understands_refusals(async_api: openai.AsyncOpenAI, served: str) -> None:
    with pytest.raises(openai.NotFoundError):
        await async_api.chat.completions.create(model="nobodys", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError):
        await async_api.chat.completions.create(model=served, messages=MESSAGES, max_tokens=0)
    with pytest.raises(openai.AuthenticationError):
        await async_api.with_options(api_key="sk-nonsense").models.list()
