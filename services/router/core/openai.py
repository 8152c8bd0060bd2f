"""The OpenAI surface: what of a request we read, what of it the engine may see, and the list of models.

Only the fields that we need are decoded; the others pass as the bytes they came as, if they are on the allow-list.
A field that is not is refused by name, as OpenAI does, so that a client never believes in a setting that has no
effect; it also keeps `cache_salt`, `priority` and media URLs from the engine (reliability.md 3.11). The body that the
engine reads is built anew: of keys given twice the last counts, for us and for the engine alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec

from libs.common.events.tables import RouteEntry
from services.router.core.refusals import HttpRefusal, model_not_found

DEPTH_MAX: Final = 32  # Deeper JSON serves only to exhaust a parser's stack.
TOKENS_MAX: Final = 131_072  # The longest context we sell; the engine has its own, lower limit.
CHOICES_MAX: Final = 8
BYTES_PER_TOKEN: Final = 4  # Of English prose; other text has more tokens, which are owed once the engine counts them.
COMPLETION_TOKENS: Final = 1024  # Reserved for a request that says nothing of how much it may generate.


class Api(StrEnum):
    """Which of the two generating calls; the word that goes into the bill."""

    CHAT = "chat"
    COMPLETIONS = "completions"


PATHS: Final[Mapping[str, Api]] = MappingProxyType(
    {"/v1/chat/completions": Api.CHAT, "/v1/completions": Api.COMPLETIONS}
)
ENGINE_PATHS: Final[Mapping[Api, str]] = MappingProxyType({api: path for path, api in PATHS.items()})

_COMMON: Final = frozenset(
    {
        "model", "stream", "stream_options", "max_tokens", "n", "temperature", "top_p", "stop", "presence_penalty",
        "frequency_penalty", "logit_bias", "logprobs", "seed", "user", "top_k", "min_p", "repetition_penalty",
        "stop_token_ids", "min_tokens", "ignore_eos",
    }
)  # fmt: skip
ALLOWED: Final[Mapping[Api, frozenset[str]]] = MappingProxyType(
    {
        Api.CHAT: _COMMON
        | {
            "messages", "max_completion_tokens", "top_logprobs", "tools", "tool_choice", "parallel_tool_calls",
            "response_format", "reasoning_effort",
        },
        Api.COMPLETIONS: _COMMON | {"prompt", "suffix", "echo"},
    }
)  # fmt: skip
# Known to OpenAI's clients, without meaning for an engine: taken, not forwarded.
DROPPED: Final = frozenset({"metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"})
OURS: Final = frozenset({"model", "stream", "stream_options"})  # Written by us into what the engine reads.

Tokens = Annotated[int, msgspec.Meta(ge=1, le=TOKENS_MAX)]


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class _Part(msgspec.Struct):
    type: Literal["text", "refusal"]


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class _Fields(msgspec.Struct):
    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: Tokens | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)] | None = None


class _Chat(_Fields, kw_only=True):
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    max_completion_tokens: Tokens | None = None


class _Completions(_Fields, kw_only=True):
    prompt: str | list[str | int | list[int]]


@dataclass(frozen=True, slots=True)
class Ask:
    """A generating request: what we read of it, and the rest as it came."""

    api: Api
    model: str
    stream: bool
    wants_usage: bool
    wants_running_usage: bool
    rest: Mapping[str, msgspec.Raw]


_READERS: Final[Mapping[Api, msgspec.json.Decoder[_Chat] | msgspec.json.Decoder[_Completions]]] = MappingProxyType(
    {Api.CHAT: msgspec.json.Decoder(_Chat), Api.COMPLETIONS: msgspec.json.Decoder(_Completions)}
)
_RAW: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(api: Api, body: bytes) -> Ask:
    """Read a request's body.

    Raises HttpRefusal that names the field, and never carries its value.
    """
    _check_depth(body)
    try:
        raw = _RAW.decode(body)
        _check_names(api, raw)
        fields = _READERS[api].decode(body)
    except msgspec.ValidationError as wrong:
        raise _invalid(str(wrong)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise HttpRefusal(400, "The request body is not valid JSON.") from None
    options = fields.stream_options
    if options is not None and not fields.stream:
        raise HttpRefusal(
            400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    return Ask(
        api=api,
        model=fields.model,
        stream=bool(fields.stream),
        wants_usage=options is not None and bool(options.include_usage),
        wants_running_usage=options is not None and bool(options.continuous_usage_stats),
        rest={name: value for name, value in raw.items() if name not in OURS and name not in DROPPED},
    )


def upstream_body(ask: Ask, *, engine_model: str) -> bytes:
    """What the engine reads: its own name of the model, and usage always, running and final."""
    parts = [b'"model":%s' % msgspec.json.encode(engine_model)]
    parts += [b"%s:%s" % (msgspec.json.encode(name), bytes(value)) for name, value in ask.rest.items()]
    if ask.stream:
        parts.append(b'"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}')
    return b"{%s}" % b",".join(parts)


def prompt_estimate(ask: Ask) -> int:
    """How many tokens the prompt may have, before the engine counts them."""
    prompt = (ask.rest.get(name) for name in ("messages", "prompt", "tools"))
    return sum(len(bytes(each)) for each in prompt if each is not None) // BYTES_PER_TOKEN + 1


def reservation(ask: Ask) -> int:
    """How many tokens the request may use: its prompt, and the most that it lets the engine generate."""
    most = _number(ask, "max_completion_tokens") or _number(ask, "max_tokens") or COMPLETION_TOKENS
    return prompt_estimate(ask) + most * (_number(ask, "n") or 1)


def _number(ask: Ask, name: str) -> int | None:
    return msgspec.json.decode(ask.rest[name], type=int | None) if name in ask.rest else None


def models_body(entries: Iterable[RouteEntry]) -> bytes:
    """The answer to ``GET /v1/models``."""
    data = [_model(each) for each in sorted(entries, key=lambda each: each.name)]
    return msgspec.json.encode({"object": "list", "data": data})


def model_body(entry: RouteEntry | None, name: str) -> bytes:
    """The answer to ``GET /v1/models/<name>``. Raises HttpRefusal if there is none."""
    if entry is None:
        raise model_not_found(name)
    return msgspec.json.encode(_model(entry))


def _model(entry: RouteEntry) -> dict[str, str | int]:
    return {
        "id": entry.name,
        "object": "model",
        "created": entry.published_at_ms // 1000,
        "owned_by": entry.tenant_id,
    }


def _check_names(api: Api, raw: Mapping[str, msgspec.Raw]) -> None:
    for name in raw:
        if name not in ALLOWED[api] and name not in DROPPED:
            shown = name[:64]
            raise HttpRefusal(400, f"Unrecognized request argument supplied: {shown}", param=shown)
    for name in ("model", "messages" if api is Api.CHAT else "prompt"):
        if name not in raw:
            message = "you must provide a model parameter" if name == "model" else f"you must provide {name}"
            raise HttpRefusal(400, message, param=name)


_PLACE: Final = re.compile(r"`\$\.?([^`]*)`$")


def _invalid(text: str) -> HttpRefusal:
    """msgspec says ``Expected `int`, got `str` - at `$.max_tokens` ``: kinds and a place, never the value.

    The one message that does quote is that of an enum, ours of a part's type; it is said in our own words.
    """
    found = _PLACE.search(text)
    param = found.group(1) if found else None
    if text.startswith("Invalid enum value"):
        return HttpRefusal(400, "Only text content is served by this endpoint.", param=param)
    reason = text.split(" - at ")[0].replace("`", "")
    where = f" for '{param}'" if param else ""
    return HttpRefusal(400, f"Invalid value{where}: {reason}", param=param)


_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def _check_depth(body: bytes) -> None:
    if body.count(b"[") + body.count(b"{") <= DEPTH_MAX:
        return
    depth = 0
    for found in _TOKEN.finditer(body):
        mark = body[found.start()]
        if mark in b"[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise HttpRefusal(400, f"The request body is nested deeper than {DEPTH_MAX} levels.")
        elif mark in b"]}":
            depth -= 1
