"""Vectors of texts, from what the model knows: words that go on alike lie close; one text, one vector."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
from dataclasses import dataclass
from typing import Any, Final

from libs.twin.model.errors import BadRequest
from libs.twin.model.ngram import NgramModel, tokenize

Json = dict[str, Any]

DIMENSIONS: Final = 64
DIMENSIONS_MAX: Final = 1024
OWN_WEIGHT: Final = 1.0
NEXT_WEIGHT: Final = 0.5  # What follows a word says something of it, its own letters more.


@dataclass(frozen=True, slots=True)
class AskedVectors:
    """Texts whose vectors someone wants."""

    model: str
    texts: tuple[tuple[str, ...], ...]
    dimensions: int
    as_base64: bool


def read(body: bytes, *, models: tuple[str, ...], context_tokens: int) -> AskedVectors:
    """Read a request for embeddings. Raises BadRequest."""
    try:
        data = json.loads(body)
    except ValueError as wrong:
        raise BadRequest(f"the body is not JSON: {wrong}") from wrong
    if not isinstance(data, dict):
        raise BadRequest("the body is not an object")
    model = data.get("model") or models[0]
    if model not in models:
        raise BadRequest(f"The model `{model}` does not exist.", status=404, kind="NotFoundError", param="model")
    dimensions = data.get("dimensions") or DIMENSIONS
    if not isinstance(dimensions, int) or not 1 <= dimensions <= DIMENSIONS_MAX:
        raise BadRequest(f"dimensions must be between 1 and {DIMENSIONS_MAX}", param="dimensions")
    encoding = data.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise BadRequest("encoding_format must be float or base64", param="encoding_format")
    texts = _texts(data.get("input"))
    if any(not text or len(text) > context_tokens for text in texts):
        raise BadRequest(f"each input must have 1 to {context_tokens} tokens", param="input")
    return AskedVectors(model, texts, dimensions, encoding == "base64")


def _texts(given: object) -> tuple[tuple[str, ...], ...]:
    """One text, several, or the same as token ids."""
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list) and given and all(isinstance(each, int) for each in given):
        given = [given]
    if not isinstance(given, list) or not given:
        raise BadRequest("input must be a text, tokens, or a list of either", param="input")
    return tuple(_words(each) for each in given)


def _words(text: object) -> tuple[str, ...]:
    if isinstance(text, str):
        return tuple(tokenize(text))
    if isinstance(text, list) and all(isinstance(each, int) for each in text):
        return tuple(str(each) for each in text)
    raise BadRequest("input must be a text, tokens, or a list of either", param="input")


def answer(asked: AskedVectors, model: NgramModel) -> Json:
    """The vectors, as OpenAI's API gives them."""
    count = sum(len(text) for text in asked.texts)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector(text, model, asked.dimensions), asked)}
        for index, text in enumerate(asked.texts)
    ]
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": asked.model, "usage": usage}


def vector(tokens: tuple[str, ...], model: NgramModel, dimensions: int) -> tuple[float, ...]:
    """Of length 1: each word in a direction of its own, leaning to what the model says may follow it."""
    sums = [0.0] * dimensions
    for token in tokens:
        _add(sums, token, OWN_WEIGHT)
        following = model.following(token)
        total = sum(following.values())
        for word, count in following.items():
            _add(sums, word, NEXT_WEIGHT * count / total)
    length = math.sqrt(sum(each * each for each in sums)) or 1.0
    return tuple(each / length for each in sums)


def _add(sums: list[float], word: str, weight: float) -> None:
    digest = hashlib.sha256(word.strip().lower().encode()).digest()
    place = int.from_bytes(digest[:4], "big") % len(sums)
    sums[place] += weight if digest[4] & 1 else -weight


def _encoded(values: tuple[float, ...], asked: AskedVectors) -> list[float] | str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode() if asked.as_base64 else list(values)
