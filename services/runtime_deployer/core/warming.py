"""What a replica is asked before it may serve: a small and real request of the first call that its model answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

WARM_UP_TOKENS: Final = 4
WARM_UP_TEXT: Final = "Say hello."
LISTING: Final = "models"  # Of a model that answers none of the calls below, such as one of sound, as it needs a file.


@dataclass(frozen=True, slots=True)
class Warming:
    """A request, and what shows that its answer is one."""

    path: str
    body: Mapping[str, Any] | None
    is_answer: Callable[[Mapping[str, Any]], bool]

    @property
    def method(self) -> str:
        """How it is sent."""
        return "GET" if self.body is None else "POST"


def surface_of(surfaces: tuple[str, ...]) -> str:
    """The call to warm up with; a model whose catalogue entry names none has chat."""
    return next((each for each in _CALLS if each in surfaces), LISTING) if surfaces else "chat"


def warming(surface: str, model: str) -> Warming:
    """What to ask an engine that answers to this name of the model."""
    if surface == LISTING:
        return Warming("/v1/models", None, lambda body: any(each.get("id") == model for each in _list(body, "data")))
    path, body, is_answer = _CALLS[surface]
    return Warming(path, {"model": model, **body}, is_answer)


def _list(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = body.get(name)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _has_message(body: Mapping[str, Any]) -> bool:
    choices = _list(body, "choices")
    return bool(choices) and isinstance((choices[0].get("message") or {}).get("content"), str)


def _has_text(body: Mapping[str, Any]) -> bool:
    choices = _list(body, "choices")
    return bool(choices) and isinstance(choices[0].get("text"), str)


_CALLS: Final[Mapping[str, tuple[str, Mapping[str, Any], Callable[[Mapping[str, Any]], bool]]]] = {
    "chat": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": WARM_UP_TEXT}], "max_tokens": WARM_UP_TOKENS, "stream": False},
        _has_message,
    ),
    "completions": (
        "/v1/completions",
        {"prompt": WARM_UP_TEXT, "max_tokens": WARM_UP_TOKENS, "stream": False},
        _has_text,
    ),
    "responses": (
        "/v1/responses",
        {"input": WARM_UP_TEXT, "max_output_tokens": 16, "store": False},  # 16: the least that OpenAI's clients send.
        lambda body: bool(_list(body, "output")),
    ),
    "embeddings": ("/v1/embeddings", {"input": WARM_UP_TEXT}, lambda body: bool(_list(body, "data"))),
}
