"""The calls of OpenAI's API that we take, and which fields of each: the allow-list, call by call.

Only the fields that we need are decoded; the others pass as the bytes they came as, if they are named here. A field
that is not is refused by name, as OpenAI does, so that a client never believes in a setting that has no effect; it also
keeps `cache_salt`, `priority` and media URLs from the engine (reliability.md 3.11). What would have the engine keep an
answer or fetch something (`previous_response_id`, `background`, hosted tools) is not on the list either.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec

DEPTH_MAX: Final = 32  # Deeper JSON serves only to exhaust a parser's stack.
TOKENS_MAX: Final = 131_072  # The longest context we sell; the engine has its own, lower limit.
CHOICES_MAX: Final = 8
INPUTS_MAX: Final = 2048  # Texts in one request: OpenAI's own limit for embeddings, and ours for completions.
SPOKEN_CHARS_MAX: Final = 4096  # OpenAI's own limit of a text to be spoken.


class Api(StrEnum):
    """Which call; the word that goes into the bill."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"
    SPEECH = "speech"
    TRANSCRIPTIONS = "transcriptions"
    TRANSLATIONS = "translations"


# In Python 3.11 it takes five times as long to find a member in its class as a name in a module.
CHAT, RESPONSES, EMBEDDINGS, SPEECH = Api.CHAT, Api.RESPONSES, Api.EMBEDDINGS, Api.SPEECH
# Tuples: to look into a set would call the hash of an Enum, which is written in Python.
FORMS: Final = (Api.TRANSCRIPTIONS, Api.TRANSLATIONS)  # What comes as multipart/form-data.
AUDIO: Final = (Api.SPEECH, *FORMS)
COUNTS_NO_ANSWER: Final = (Api.EMBEDDINGS, Api.SPEECH)  # Whose answers are no tokens that a request could bound.
PATHS: Final[Mapping[str, Api]] = MappingProxyType(
    {
        "/v1/chat/completions": Api.CHAT,
        "/v1/completions": Api.COMPLETIONS,
        "/v1/responses": Api.RESPONSES,
        "/v1/embeddings": Api.EMBEDDINGS,
        "/v1/audio/speech": Api.SPEECH,
        "/v1/audio/transcriptions": Api.TRANSCRIPTIONS,
        "/v1/audio/translations": Api.TRANSLATIONS,
    }
)
ENGINE_PATHS: Final[Mapping[Api, str]] = MappingProxyType({api: path for path, api in PATHS.items()})
DEFAULT: Final = frozenset({Api.CHAT, Api.COMPLETIONS})  # Of a model whose catalogue entry names none.


def surfaces_of(names: Collection[str]) -> frozenset[Api]:
    """The calls that these words of a catalogue name; those that we do not know we do not serve."""
    return frozenset(api for api in Api if api in names) if names else DEFAULT


_SAMPLING: Final = frozenset(
    {
        "stop", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "seed", "n", "max_tokens",
        "min_p", "repetition_penalty", "stop_token_ids", "min_tokens", "ignore_eos",
    }
)  # fmt: skip
_COMMON: Final = frozenset({"model", "stream", "stream_options", "temperature", "top_p", "top_k", "user"})
ALLOWED: Final[Mapping[Api, frozenset[str]]] = MappingProxyType(
    {
        Api.CHAT: _COMMON
        | _SAMPLING
        | {
            "messages", "max_completion_tokens", "top_logprobs", "tools", "tool_choice", "parallel_tool_calls",
            "response_format", "reasoning_effort",
        },
        Api.COMPLETIONS: _COMMON | _SAMPLING | {"prompt", "suffix", "echo"},
        Api.RESPONSES: _COMMON
        | {
            "input", "instructions", "max_output_tokens", "tools", "tool_choice", "parallel_tool_calls", "text",
            "reasoning", "truncation", "include", "top_logprobs",
        },
        Api.EMBEDDINGS: frozenset({"model", "input", "encoding_format", "dimensions", "user"}),
        Api.SPEECH: frozenset({"model", "input", "voice", "instructions", "response_format", "speed"}),
    }
)  # fmt: skip
# What each call can't do without, and what is said if it is missing.
NEEDED: Final[Mapping[Api, str]] = MappingProxyType(
    {
        Api.CHAT: "messages",
        Api.COMPLETIONS: "prompt",
        Api.RESPONSES: "input",
        Api.EMBEDDINGS: "input",
        Api.SPEECH: "input",
    }
)
# Known to OpenAI's clients, without meaning for an engine: taken, not forwarded.
DROPPED: Final = frozenset({"metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"})
OURS: Final = frozenset({"model", "stream", "stream_options"})  # Written by us into what the engine reads.
KNOWN: Final[Mapping[Api, frozenset[str]]] = MappingProxyType({api: names | DROPPED for api, names in ALLOWED.items()})
PROMPTS: Final = ("messages", "prompt", "input", "instructions", "tools")  # What an engine reads as the prompt.
OUTPUTS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")  # What bounds the answer.

Tokens = Annotated[int, msgspec.Meta(ge=1, le=TOKENS_MAX)]
Texts = Annotated[list[str | int | list[int]], msgspec.Meta(min_length=1, max_length=INPUTS_MAX)]


class StreamOptions(msgspec.Struct):
    """How a stream is to be told; `include_obfuscation` is OpenAI's and pads nothing here."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class _Tool(msgspec.Struct):
    type: Literal["function"]


class _Part(msgspec.Struct):
    type: Literal["text", "refusal"]


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class Fields(msgspec.Struct, kw_only=True):
    """What we read of every call."""

    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)] | None = None
    min_tokens: Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)] | None = None

    @property
    def most(self) -> int | None:
        """How many tokens the client lets each answer have; None if it does not say."""
        return self.max_tokens

    @property
    def prompts(self) -> int:
        """How many prompts there are, each with answers of its own."""
        return 1


class _Chat(Fields, kw_only=True):
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    max_completion_tokens: Tokens | None = None
    tools: list[_Tool] | None = None

    @property
    def most(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class _Completions(Fields, kw_only=True):
    prompt: str | Annotated[list[str | int | list[int]], msgspec.Meta(min_length=1)]

    @property
    def prompts(self) -> int:
        return _count(self.prompt)


class _InputPart(msgspec.Struct):
    type: Literal["input_text", "output_text", "refusal", "reasoning_text", "summary_text"]


class _Item(msgspec.Struct):
    type: Literal["message", "function_call", "function_call_output", "reasoning"] | None = None
    role: str | None = None
    content: str | list[_InputPart] | None = None
    output: str | list[_InputPart] | None = None


class _Responses(Fields, kw_only=True):
    input: str | Annotated[list[_Item], msgspec.Meta(min_length=1)]
    max_output_tokens: Tokens | None = None
    tools: list[_Tool] | None = None

    @property
    def most(self) -> int | None:
        return self.max_output_tokens


class _Embeddings(Fields, kw_only=True):
    input: str | Texts

    @property
    def prompts(self) -> int:
        return _count(self.input)


def _count(said: str | list[str | int | list[int]]) -> int:
    """A list of texts is many, one of tokens a single one."""
    return max(1, sum(not isinstance(each, int) for each in said)) if isinstance(said, list) else 1


class _Speech(Fields, kw_only=True):
    input: Annotated[str, msgspec.Meta(min_length=1, max_length=SPOKEN_CHARS_MAX)]


READERS: Final[Mapping[Api, msgspec.json.Decoder[Fields]]] = MappingProxyType(
    {
        Api.CHAT: msgspec.json.Decoder(_Chat),
        Api.COMPLETIONS: msgspec.json.Decoder(_Completions),
        Api.RESPONSES: msgspec.json.Decoder(_Responses),
        Api.EMBEDDINGS: msgspec.json.Decoder(_Embeddings),
        Api.SPEECH: msgspec.json.Decoder(_Speech),
    }
)
