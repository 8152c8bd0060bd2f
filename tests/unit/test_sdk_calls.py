"""The list of calls for SDKs: each judgement lets the right through, and sees the wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.sdks.calls import CALLS, LIMIT, SPOKEN

REFUSED = {"status": 429, "code": "rate_limit_exceeded", "remaining": "0", "retry_after": "9"}
TOLD = {"text": "a", "output_tokens": LIMIT}
CALLED = {"tool": "get_weather", "arguments": {"city": "Paris"}}
CHATTED = {"text": "a", "prompt_tokens": 1, "completion_tokens": 1}
STREAMED = {"pieces": LIMIT, "finish": "length", "completion_tokens": None}
MODELS = {"ids": ["a", "b"], "wanted": ["a"], "found": "a"}
UNKNOWN = {"status": 404, "code": "model_not_found", "param": "model"}
VECTORS = {"count": 3, "dimensions": 64, "same": 1.0, "other": 0.1}

# Of each call a result that is right, and one way to be wrong.
RESULTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rate_limited": (REFUSED, {"retry_after": None}), "list_models": (MODELS, {"ids": ["b"]}),
    "chat": (CHATTED, {"text": ""}), "stream": (STREAMED, {"completion_tokens": 3}),
    "stream_with_usage": ({"pieces": LIMIT, "completion_tokens": LIMIT}, {"completion_tokens": None}),
    "tools": (CALLED, {"arguments": {}}), "tools_streamed": (CALLED, {"tool": ""}),
    "tool_answered": (CHATTED, {"completion_tokens": 0}), "json_mode": ({"text": "{}"}, {"text": "[]"}),
    "json_schema": ({"value": {"name": "Ann", "age": 41}}, {"value": {}}),
    "embeddings": (VECTORS, {"same": 0.5}), "responses": (TOLD, {"output_tokens": 0}),
    "responses_streamed": (TOLD, {"text": ""}), "sound": ({"heard": SPOKEN, "as_text": SPOKEN}, {"as_text": ""}),
    "no_sound": ({"status": 404, "param": "model"}, {"status": 502}),
    "timeout": ({"error": "timeout"}, {"error": None}),
    "cancelled_mid_stream": ({"seen": 3}, {"seen": 0}),
    "wrong_key": ({"status": 401, "code": "invalid_api_key"}, {"status": 403}),
    "unknown_model": (UNKNOWN, {"code": None}),
    "unknown_field": ({"status": 400, "param": "cache_salt"}, {"param": ""}),
    "retried": ({"text": "a", "waited_s": 9.2, "retry_after": 9.0}, {"waited_s": 0.5}),
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_the_right_passes_and_the_wrong_is_seen(call: Any) -> None:
    right, wrong = RESULTS[call.name]

    assert list(call.check(right)) == []
    assert list(call.check({**right, **wrong})) != []
