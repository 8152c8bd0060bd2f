"""What callers ask: the two completion requests of the OpenAI API, read and checked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from libs.twin.model.errors import BadRequest
from libs.twin.model.ngram import tokenize
from libs.twin.model.rules import Tool, tools_of

DEFAULT_MAX_TOKENS: Final = 256
MESSAGE_TOKENS: Final = 4  # What the chat template puts around each message.
STOPS_MAX: Final = 4  # OpenAI's own limit.
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """A completion that someone wants."""

    is_chat: bool
    model: str
    prompt: str
    prompt_tokens: int
    max_tokens: int
    min_tokens: int
    stops: tuple[str, ...]
    seed: int
    temperature: float
    stream: bool
    include_usage: bool
    continuous_usage: bool
    ignore_eos: bool
    last: str = ""  # The last message, and whose it is.
    last_role: str = "user"
    tools: tuple[Tool, ...] = ()
    tool_choice: object = None
    wants: Json | None = field(default=None, hash=False)  # The format that the answer must have.
    cache_salt: str = ""


def read(body: bytes, *, is_chat: bool, models: tuple[str, ...], context_tokens: int) -> Asked:
    """Read a request. Raises BadRequest."""
    return asked(parsed(body), is_chat=is_chat, models=models, context_tokens=context_tokens)


def parsed(body: bytes) -> Json:
    """The body as an object. Raises BadRequest."""
    try:
        data = json.loads(body)
    except ValueError as wrong:
        raise BadRequest(f"the body is not JSON: {wrong}") from wrong
    if not isinstance(data, dict):
        raise BadRequest("the body is not an object")
    return data


def asked(data: Json, *, is_chat: bool, models: tuple[str, ...], context_tokens: int) -> Asked:
    """Check a request. Raises BadRequest."""
    if number(data, "n", 1, least=1) != 1:
        raise BadRequest("only n=1 is supported", param="n")
    texts = _messages(data) if is_chat else (_prompt(data),)
    around = MESSAGE_TOKENS if is_chat else 0
    prompt_tokens = max(1, sum(len(tokenize(text)) + around for text in texts))
    room = context_tokens - prompt_tokens
    limit = number(data, "max_completion_tokens" if "max_completion_tokens" in data else "max_tokens", None, least=1)
    if room < 1 or (limit is not None and limit > room):
        raise BadRequest(
            f"This model's maximum context length is {context_tokens} tokens. However, you requested {limit or 0} "
            f"output tokens and your prompt contains {prompt_tokens} input tokens.",
            param="max_tokens",
        )
    options = data.get("stream_options") or {}
    if options and not data.get("stream"):
        raise BadRequest("Stream options can only be defined when `stream=True`.", param="stream_options")
    return Asked(
        is_chat=is_chat,
        model=named(data, models),
        prompt="\n".join(texts),
        prompt_tokens=prompt_tokens,
        max_tokens=limit or min(DEFAULT_MAX_TOKENS, room),
        min_tokens=number(data, "min_tokens", 0, least=0) or 0,
        stops=_stops(data.get("stop")),
        seed=number(data, "seed", 0) or 0,
        temperature=_temperature(data.get("temperature")),
        stream=bool(data.get("stream")),
        include_usage=bool(options.get("include_usage")),
        continuous_usage=bool(options.get("continuous_usage_stats")),
        ignore_eos=bool(data.get("ignore_eos")),
        last=texts[-1],
        last_role=data["messages"][-1]["role"] if is_chat else "user",
        tools=tools_of(data.get("tools")),
        tool_choice=data.get("tool_choice"),
        wants=_format(data.get("response_format")),
        cache_salt=_salt(data.get("cache_salt")),
    )


def named(data: Json, models: tuple[str, ...]) -> str:
    """The model that is asked for. Raises BadRequest if it is not served here."""
    model = data.get("model") or models[0]
    if model not in models:
        message = f"The model `{model}` does not exist."
        raise BadRequest(message, status=404, kind="NotFoundError", param="model")
    return str(model)


def _messages(data: Json) -> tuple[str, ...]:
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages must be a list of at least one message", param="messages")
    texts: list[str] = []
    for each in messages:
        if not isinstance(each, dict) or not isinstance(each.get("role"), str):
            raise BadRequest("each message is an object with a role", param="messages")
        texts.append(_content(each.get("content")))
    return tuple(texts)


def _content(content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(each, dict) and each.get("type") == "text" for each in content):
        return "\n".join(str(each.get("text", "")) for each in content)
    raise BadRequest("content must be text, or a list of text parts", param="messages")


def _prompt(data: Json) -> str:
    prompt = data.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise BadRequest("prompt must be one text", param="prompt")
    return prompt


def number(data: Json, name: str, default: int | None, *, least: int | None = None) -> int | None:
    """A whole number of the request. Raises BadRequest."""
    value = data.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
        raise BadRequest(f"{name} must be a whole number{'' if least is None else f' of at least {least}'}", param=name)
    return value


def _temperature(value: object) -> float:
    if value is None:
        return 1.0
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 2:
        raise BadRequest("temperature must be between 0 and 2", param="temperature")
    return float(value)


def _stops(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if (
        not isinstance(stops, list)
        or len(stops) > STOPS_MAX
        or not all(isinstance(each, str) and each for each in stops)
    ):
        raise BadRequest(f"stop must be a text or a list of at most {STOPS_MAX} texts", param="stop")
    return tuple(stops)


def _format(value: object) -> Json | None:
    if value is not None and not isinstance(value, dict):
        raise BadRequest("response_format must be an object", param="response_format")
    return value


def _salt(value: object) -> str:
    if value is not None and (not isinstance(value, str) or not value):
        raise BadRequest("Parameter 'cache_salt' must be a non-empty string if provided.", param="cache_salt")
    return value or ""
