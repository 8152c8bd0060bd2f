"""An engine's answer that is not streamed: what it says of the bill, call by call; and why it refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from services.router.core import audio
from services.router.core.responses import Response
from services.router.core.sse import BadUpstream, Choice, Usage
from services.router.core.surface import FORMS, Api

Reader = Callable[[bytes], tuple[Usage | None, str | None]]


class _Completion(msgspec.Struct):
    choices: list[Choice]
    usage: Usage | None = None


class _Embeddings(msgspec.Struct):
    data: msgspec.Raw
    usage: Usage | None = None


def read_answer(api: Api, body: bytes) -> tuple[Usage, str | None]:
    """What a whole answer says of the bill, and why it ended. Raises BadUpstream, also for one that can't be billed."""
    try:
        usage, reason = _READERS[api](body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadUpstream(f"the engine's answer is not one to {api}") from None
    if usage is None or usage.completion_tokens is None:
        raise BadUpstream("the engine's answer does not say its usage, so it can not be billed")
    return usage, reason


_COMPLETION: Final = msgspec.json.Decoder(_Completion)
_RESPONSE: Final = msgspec.json.Decoder(Response)
_EMBEDDING: Final = msgspec.json.Decoder(_Embeddings)


def _completion(body: bytes) -> tuple[Usage | None, str | None]:
    said = _COMPLETION.decode(body)
    reason = None
    for each in said.choices:
        reason = reason or each.finish_reason
    return said.usage, reason


def _response(body: bytes) -> tuple[Usage | None, str | None]:
    said = _RESPONSE.decode(body)
    if said.status == "failed":
        raise BadUpstream("the engine reported an error in its answer")
    return said.usage.usage() if said.usage else None, said.finish_reason


def _embeddings(body: bytes) -> tuple[Usage | None, str | None]:
    usage = _EMBEDDING.decode(body).usage
    if usage is None or usage.prompt_tokens is None:
        return None, None
    return Usage(usage.prompt_tokens, 0, usage.prompt_tokens_details), None  # Nothing is generated.


def _sound(api: Api) -> Reader:
    return lambda body: (audio.usage_of(api, body), None)


_READERS: Final[Mapping[Api, Reader]] = MappingProxyType(
    {
        Api.CHAT: _completion,
        Api.COMPLETIONS: _completion,
        Api.RESPONSES: _response,
        Api.EMBEDDINGS: _embeddings,
        **{api: _sound(api) for api in FORMS},
    }
)


# What engines say of a prompt that is longer than they read: vLLM in two ways, SGLang in two, llama.cpp.
_TOO_LONG: Final = re.compile(
    r"maximum context length|maximum model length|model's context length|exceeds the maximum allowed length"
    r"|available context size"
)


class _EngineError(msgspec.Struct):
    message: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _EngineError | None = None
    message: str | None = None


def error_message(body: bytes) -> str:
    """Why the engine refused a request as the client's mistake, in the engine's words if it has any."""
    try:
        said = msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "The model refused the request."
    inner = said.error.message if said.error else None
    return (inner or said.message or "The model refused the request.")[:2000]


def error_code(message: str) -> str | None:
    """OpenAI's word for why, where it has one: clients shorten a conversation by it, and try again."""
    return "context_length_exceeded" if _TOO_LONG.search(message) else None
