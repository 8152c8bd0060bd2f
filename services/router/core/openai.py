"""The OpenAI surface: what of a request we read, and what of it the engine may see.

The body that the engine reads is built anew: of keys given twice the last counts, for us and for the engine alike.
`surface` has the calls and the fields of each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from services.router.core.refusals import HttpRefusal, model_not_found
from services.router.core.surface import ALLOWED, DROPPED, NEEDED, OURS, OUTPUTS, PROMPTS, READERS, Api

DEPTH_MAX: Final = 32  # Deeper JSON serves only to exhaust a parser's stack.
BYTES_PER_TOKEN: Final = 4  # Of English prose; other text has more tokens, which are owed once the engine counts them.
CLAMPED_TOKENS_MIN: Final = 16  # A limit with room for less refuses: an answer of a few words helps nobody.
BATCH_TIERS: Final = frozenset({"flex", "batch"})
COMPLETION_TOKENS: Final = 1024  # Reserved for a request that says nothing of how much it may generate.
TEMPLATE_TOKENS: Final = 256  # What a chat template may add of its own: a default system prompt, turns, roles.
MANY: Final = ("prompt", "input")  # Where there may be several prompts, each with an answer of its own.


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for a model: what we read of it, and the rest as it came. `model` is `<endpoint>[/<adapter>]`."""

    api: Api
    model: str
    stream: bool
    wants_usage: bool
    wants_running_usage: bool
    rest: Mapping[str, msgspec.Raw]
    endpoint: str
    adapter: str
    session: str = ""  # What the client says to send to the same replica (OpenAI's prompt_cache_key).
    is_batch: bool = False  # Whether it may wait while others do not (OpenAI's flex tier).


_RAW: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(api: Api, body: bytes, *, host: str = "") -> Ask:
    """Read a request's body; ``host`` is the endpoint that its address names, if it names one.

    Raises HttpRefusal that names the field, and never carries its value.
    """
    _check_depth(body)
    try:
        raw = _RAW.decode(body)
        _check_names(api, raw, host)
        fields = READERS[api].decode(body)
    except msgspec.ValidationError as wrong:
        raise _invalid(str(wrong)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise HttpRefusal(400, "The request body is not valid JSON.") from None
    options = fields.stream_options
    if options is not None and not fields.stream:
        raise HttpRefusal(
            400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    model = fields.model or host
    endpoint, _, adapter = model.partition("/")
    if host and endpoint != host:
        raise model_not_found(model)
    return Ask(
        api=api,
        model=model,
        stream=bool(fields.stream),
        wants_usage=options is not None and bool(options.include_usage),
        wants_running_usage=options is not None and bool(options.continuous_usage_stats),
        rest={name: value for name, value in raw.items() if name not in OURS and name not in DROPPED},
        endpoint=endpoint,
        adapter=adapter,
        session=_text(raw, "prompt_cache_key"),
        is_batch=_text(raw, "service_tier") in BATCH_TIERS,
    )


def upstream_body(ask: Ask, *, engine_model: str, cache_salt: str = "", tokens_max: int | None = None) -> bytes:
    """What the engine reads: its own name of the model or adapter, usage always, and whose prefix cache it is.

    ``tokens_max`` is how much it may generate where that is less than the client allowed.
    """
    parts = [b'"model":%s' % msgspec.json.encode(ask.adapter or engine_model)]
    parts += [
        b"%s:%s" % (msgspec.json.encode(name), bytes(value))
        for name, value in ask.rest.items()
        if tokens_max is None or name not in OUTPUTS
    ]
    if tokens_max is not None:
        name = b"max_output_tokens" if ask.api is Api.RESPONSES else b"max_tokens"
        parts.append(b'"%s":%d' % (name, tokens_max))
    if cache_salt:
        parts.append(b'"cache_salt":%s' % msgspec.json.encode(cache_salt))
    if ask.api is Api.RESPONSES:
        parts.append(b'"store":false')  # An engine keeps answers for whoever guesses their ids.
    if ask.stream:
        parts.append(_STREAM_OF_ITEMS if ask.api is Api.RESPONSES else _STREAM)
    return b"{%s}" % b",".join(parts)


_STREAM: Final = b'"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}'
_STREAM_OF_ITEMS: Final = b'"stream":true'  # Its usage is in its last event always.


def prompt_bytes(ask: Ask) -> bytes:
    """The prompt as it came, for those who only compare its beginning."""
    found = next((ask.rest[name] for name in PROMPTS if name in ask.rest), None)
    return b"" if found is None else bytes(found)


def prompt_estimate(ask: Ask) -> int:
    """How many tokens the prompt may have, before the engine counts them."""
    prompt = (ask.rest.get(name) for name in PROMPTS)
    return sum(len(bytes(each)) for each in prompt if each is not None) // BYTES_PER_TOKEN + 1


def reservation(ask: Ask) -> int:
    """How many tokens the request may use: its prompt, and the most that it lets the engine generate."""
    return prompt_estimate(ask) + most(ask) * _choices(ask)


def least_reservation(ask: Ask) -> int:
    """How few tokens the request makes sense with, if there is no room for all that it may use."""
    fewest = max(CLAMPED_TOKENS_MIN, _number(ask, "min_tokens") or 0)
    return prompt_estimate(ask) + min(fewest, most(ask)) * _choices(ask)


def clamped(ask: Ask, granted: int) -> int | None:
    """How many tokens each answer may have if so many were granted; None if that is what was asked for."""
    if granted >= reservation(ask):
        return None
    return (granted - prompt_estimate(ask)) // _choices(ask)


def most(ask: Ask) -> int:
    """How many tokens each answer may have."""
    if ask.api is Api.EMBEDDINGS:
        return 0
    return next((found for name in OUTPUTS if (found := _number(ask, name))), COMPLETION_TOKENS)


def _choices(ask: Ask) -> int:
    return _number(ask, "n") or 1


def _text(raw: Mapping[str, msgspec.Raw], name: str) -> str:
    """The field if it is text, else nothing: what has no meaning for an engine need not be right."""
    if name not in raw:
        return ""
    found = msgspec.json.decode(raw[name])
    return found if isinstance(found, str) else ""


def bound(ask: Ask, most: int) -> int:
    """More tokens than a request can use of whose answers each has at most ``most``.

    No tokenizer makes more of a prompt than it has bytes; a batch of prompts has answers to each.
    """
    said = next((msgspec.json.decode(ask.rest[name]) for name in MANY if name in ask.rest), "")
    prompts = len(said) if isinstance(said, list) and said and not isinstance(said[0], int) else 1
    whole = sum(len(bytes(each)) for each in ask.rest.values())
    return whole + TEMPLATE_TOKENS * prompts + most * _choices(ask) * prompts


def _number(ask: Ask, name: str) -> int | None:
    return msgspec.json.decode(ask.rest[name], type=int | None) if name in ask.rest else None


def _check_names(api: Api, raw: Mapping[str, msgspec.Raw], host: str) -> None:
    for name in raw:
        if name not in ALLOWED[api] and name not in DROPPED:
            shown = name[:64]
            raise HttpRefusal(400, f"Unrecognized request argument supplied: {shown}", param=shown)
    if "model" not in raw and not host:
        raise HttpRefusal(400, "you must provide a model parameter", param="model")
    if NEEDED[api] not in raw:
        raise HttpRefusal(400, f"you must provide {NEEDED[api]}", param=NEEDED[api])


_PLACE: Final = re.compile(r"`\$\.?([^`]*)`$")


def _invalid(text: str) -> HttpRefusal:
    """msgspec says ``Expected `int`, got `str` - at `$.max_tokens` ``: kinds and a place, never the value.

    The one message that does quote is that of an enum, ours of a part's or tool's type; it is said in our own words.
    """
    found = _PLACE.search(text)
    param = found.group(1) if found else None
    if text.startswith("Invalid enum value"):
        served = "tools of type 'function' are" if (param or "").startswith("tools") else "text content is"
        return HttpRefusal(400, f"Only {served} served by this endpoint.", param=param)
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
