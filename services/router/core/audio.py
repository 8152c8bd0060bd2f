"""Calls of sound: text in and sound out (speech), sound in and text out (transcriptions, translations).

They are passed through where the endpoint's model has them. What of them is read: which endpoint, and how large. An
engine that counts tokens is billed by them; of one that does not, a request is a request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from services.router.core.http_rules import JSON
from services.router.core.multipart import Part, read_form, written_form
from services.router.core.openai import BYTES_PER_TOKEN, Ask
from services.router.core.refusals import HttpRefusal, model_not_found
from services.router.core.sse import BadUpstream, Count, Usage
from services.router.core.surface import Api

BYTES_PER_SOUND_TOKEN: Final = 1000  # Of speech at 128 kbit/s and 16 tokens a second; an engine's count replaces it.
VALUE_BYTES_MAX: Final = 64 * 1024  # Of a field that is not the file.
_TRANSLATION: Final = frozenset({"file", "model", "prompt", "response_format", "temperature"})
FIELDS: Final[Mapping[Api, frozenset[str]]] = MappingProxyType(
    {
        Api.TRANSCRIPTIONS: _TRANSLATION | {"language", "timestamp_granularities[]", "include[]"},
        Api.TRANSLATIONS: _TRANSLATION,
    }
)
_MEDIA: Final = re.compile(rb"(?:audio|text)/[A-Za-z0-9.+-]{1,64}(?:; ?charset=[A-Za-z0-9-]{1,32})?")


def read_sound(api: Api, body: bytes, *, content_type: bytes, host: str = "") -> Ask:
    """Read a form with a file of sound; ``host`` is the endpoint that its address names, if it names one.

    Raises HttpRefusal that names the field, and never carries its value.
    """
    parts = read_form(content_type, body)
    _check(api, parts, host)
    named = next((bytes(each.content) for each in parts if each.name == "model"), b"")
    model = named.decode("utf-8", "replace") or host
    endpoint, _, adapter = model.partition("/")
    if host and endpoint != host:
        raise model_not_found(model)
    # By their places: of a list there may be several of one name.
    rest = {str(index): msgspec.Raw(each.written()) for index, each in enumerate(parts) if each.name != "model"}
    sizes = {BYTES_PER_TOKEN: 0, BYTES_PER_SOUND_TOKEN: 0}
    for each in parts:
        sizes[BYTES_PER_TOKEN if each.ending is None else BYTES_PER_SOUND_TOKEN] += len(each.content)
    estimate = 1 + sum(size // per for per, size in sizes.items())
    return Ask(
        api,
        model,
        stream=False,
        wants_usage=False,
        wants_running_usage=False,
        rest=rest,
        endpoint=endpoint,
        adapter=adapter,
        prompt_estimate=estimate,
        most=0,
        reservation=estimate,
        least=estimate,
    )


def sound_body(ask: Ask, *, engine_model: str) -> bytes:
    """What the engine reads: the client's fields, and its own name of the model."""
    return written_form((Part("model", (ask.adapter or engine_model).encode()).written(), *ask.rest.values()))


def _check(api: Api, parts: list[Part], host: str) -> None:
    seen: set[str] = set()
    for each in parts:
        if each.name not in FIELDS[api]:
            raise HttpRefusal(400, f"Unrecognized request argument supplied: {each.name}", param=each.name)
        if each.name in seen and not each.name.endswith("[]"):
            raise HttpRefusal(400, f"The field {each.name} appears more than once.", param=each.name)
        if (each.ending is None) == (each.name == "file"):
            raise HttpRefusal(400, "'file' must be a file, and nothing else may be one.", param=each.name)
        if each.ending is None and len(each.content) > VALUE_BYTES_MAX:
            raise HttpRefusal(400, f"'{each.name}' is longer than {VALUE_BYTES_MAX} bytes.", param=each.name)
        seen.add(each.name)
    if "model" not in seen and not host:
        raise HttpRefusal(400, "you must provide a model parameter", param="model")
    if "file" not in seen or not any(each.content for each in parts if each.name == "file"):
        raise HttpRefusal(400, "you must provide file", param="file")


def media_of(content_type: bytes) -> bytes:
    """What the client is told that an engine's answer is."""
    found = _MEDIA.fullmatch(content_type.strip())
    if found is not None:
        return found.group()
    return JSON if content_type.startswith(JSON) else b"application/octet-stream"


class _Counts(msgspec.Struct):
    input_tokens: Count | None = None
    output_tokens: Count | None = None


class _Transcript(msgspec.Struct):
    usage: _Counts | None = None


_TRANSCRIPT: Final = msgspec.json.Decoder(_Transcript)


def usage_of(api: Api, body: bytes) -> Usage:
    """The tokens that a whole answer says it took; not all engines count them. Raises BadUpstream for an empty one."""
    if not body:
        raise BadUpstream(f"the engine's answer to {api} is empty")
    said = None
    if body.lstrip()[:1] == b"{":
        try:
            said = _TRANSCRIPT.decode(body).usage
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            said = None  # Subtitles may begin so: what is no JSON of ours counts nothing.
    return Usage(said.input_tokens, said.output_tokens or 0) if said is not None else Usage(None, 0)
