"""The one list of calls that every SDK is put through, and what each has to come to.

A driver answers each name with what it saw, in plain JSON; `check` says what is wrong with that, if anything is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

LIMIT: Final = 9  # Tokens of the answers that are to be cut there.
SPOKEN: Final = "where the water runs"
LONG: Final = 4000  # Tokens of the answers that nobody waits for: 20 s at the pace of the test's engines.
NOT_OFFERED: Final = "not offered"  # The SDK has no such call.


@dataclass(frozen=True, slots=True)
class Call:
    """One call: its name in all drivers, and how its result is judged."""

    name: str
    check: Callable[[Json], Iterator[str]]


def _expect(**wanted: object) -> Callable[[Json], Iterator[str]]:
    """Exactly these values, whatever else there is."""

    def check(result: Json) -> Iterator[str]:
        for name, value in wanted.items():
            if result.get(name) != value:
                yield f"{name} is {result.get(name)!r}, not {value!r}"

    return check


def _models(result: Json) -> Iterator[str]:
    if not set(result["wanted"]) <= set(result["ids"]) or result["found"] not in result["ids"]:
        yield f"{result['ids']} lacks some of {result['wanted']}"


def _chat(result: Json) -> Iterator[str]:
    if not result["text"] or result["completion_tokens"] < 1 or result["prompt_tokens"] < 1:
        yield f"an answer without words or usage: {result}"


def _stream(result: Json) -> Iterator[str]:
    yield from _expect(pieces=LIMIT, finish="length", completion_tokens=None)(result)


def _json_mode(result: Json) -> Iterator[str]:
    if not isinstance(json.loads(result["text"]), dict):
        yield f"no JSON object: {result['text']}"


def _embeddings(result: Json) -> Iterator[str]:
    yield from _expect(count=3, dimensions=64)(result)
    if abs(result["same"] - 1) > 1e-5 or result["other"] > 0.99:
        yield f"the same text is at {result['same']}, another at {result['other']}"


def _responses(result: Json) -> Iterator[str]:
    if not result["text"]:
        yield "no words"
    yield from _expect(output_tokens=LIMIT)(result)


def _rate_limited(result: Json) -> Iterator[str]:
    yield from _expect(status=429, code="rate_limit_exceeded", remaining="0")(result)
    if not 0 < float(result["retry_after"] or 0) <= 61:
        yield f"retry-after is {result['retry_after']}"


def _retried(result: Json) -> Iterator[str]:
    if not result["text"]:
        yield "no answer after the wait"
    if result["waited_s"] < result["retry_after"] - 1:
        yield f"it came back after {result['waited_s']} s, told to wait {result['retry_after']} s"


def _cancel(result: Json) -> Iterator[str]:
    if not 3 <= result["seen"] < LONG:
        yield f"saw {result['seen']} tokens"


CALLED: Final = _expect(tool="get_weather", arguments={"city": "Paris"})
CALLS: Final = (
    Call("rate_limited", _rate_limited),  # First, so that its minute is over when `retried` comes.
    Call("list_models", _models),
    Call("chat", _chat),
    Call("stream", _stream),
    Call("stream_with_usage", _expect(pieces=LIMIT, completion_tokens=LIMIT)),
    Call("tools", CALLED),
    Call("tools_streamed", CALLED),
    Call("tool_answered", _chat),
    Call("json_mode", _json_mode),
    Call("json_schema", _expect(value={"name": "Ann", "age": 41})),
    Call("embeddings", _embeddings),
    Call("responses", _responses),
    Call("responses_streamed", _responses),
    Call("sound", _expect(heard=SPOKEN, as_text=SPOKEN)),
    Call("no_sound", _expect(status=404, param="model")),
    Call("timeout", _expect(error="timeout")),
    Call("cancelled_mid_stream", _cancel),
    Call("wrong_key", _expect(status=401, code="invalid_api_key")),
    Call("unknown_model", _expect(status=404, code="model_not_found", param="model")),
    Call("unknown_field", _expect(status=400, param="cache_salt")),
    Call("retried", _retried),
)
