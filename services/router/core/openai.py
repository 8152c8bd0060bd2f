"""The OpenAI surface: what of a request we read, and what of it the engine may see.

The body that the engine reads is built anew: of keys given twice the last counts, for us and for the engine alike.
`surface` has the calls and the fields of each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec

from services.router.core import plain, shape
from services.router.core.plain import NULL
from services.router.core.refusals import HttpRefusal, model_not_found
from services.router.core.shape import LARGE_BYTES
from services.router.core.surface import (
    CHAT,
    COUNTS_NO_ANSWER,
    DROPPED,
    INPUTS_MAX,
    KNOWN,
    NEEDED,
    OURS,
    OUTPUTS,
    PROMPTS,
    READERS,
    RESPONSES,
    SPEECH,
    Api,
    Fields,
)

BYTES_PER_TOKEN: Final = 4  # Of English prose; other text has more tokens, which are owed once the engine counts them.
CLAMPED_TOKENS_MIN: Final = 16  # A limit with room for less refuses: an answer of a few words helps nobody.
BATCH_TIERS: Final = frozenset({"flex", "batch"})
COMPLETION_TOKENS: Final = 1024  # Reserved for a request that says nothing of how much it may generate.
TEMPLATE_TOKENS: Final = 256  # What a chat template may add of its own: a default system prompt, turns, roles.


class Ask(msgspec.Struct, frozen=True, gc=False):
    """A request for a model: what we read of it, and the rest of its fields. `model` is `<endpoint>[/<adapter>]`.

    `prompt_estimate` is how many tokens the prompt may have, before the engine counts them; each of `choices` answers,
    to all of its `prompts` together, has at most `most` (0: it is no tokens). So it may use `reservation` in all; with
    fewer than `least` it makes no sense.
    """

    api: Api
    model: str
    stream: bool
    wants_usage: bool
    wants_running_usage: bool
    rest: dict[str, msgspec.Raw]
    endpoint: str
    adapter: str
    session: str = ""  # What the client says to send to the same replica (OpenAI's prompt_cache_key).
    is_batch: bool = False  # Whether it may wait while others do not (OpenAI's flex tier).
    prompt_estimate: int = 1
    most: int = COMPLETION_TOKENS
    choices: int = 1
    prompts: int = 1
    reservation: int = 1 + COMPLETION_TOKENS
    least: int = 1 + CLAMPED_TOKENS_MIN


NOT_PASSED: Final = (*OURS, *DROPPED)
_encode: Final = msgspec.json.Encoder().encode
_RAW: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(api: Api, body: bytes, *, host: str = "") -> Ask:
    """Read a request's body; ``host`` is the endpoint that its address names, if it names one.

    Raises HttpRefusal that names the field, and never carries its value.
    """
    if len(body) > LARGE_BYTES:
        shape.check_strings(body)
    if api is CHAT:
        found = plain.read(body)
        if found is not None:
            said, rest, prompt_bytes = found
            return _ask(api, said, rest, prompt_bytes, host)
    raw, fields = _read_with_care(api, body, host)
    prompt_bytes = sum([memoryview(raw[name]).nbytes for name in PROMPTS if name in raw])
    session, tier = _text(raw, "prompt_cache_key"), _text(raw, "service_tier")
    for name in NOT_PASSED:
        raw.pop(name, None)
    return _ask(api, fields, raw, prompt_bytes, host, session, is_batch=tier in BATCH_TIERS)


def _ask(
    api: Api,
    fields: Fields | plain.Plain,
    rest: dict[str, msgspec.Raw],
    prompt_bytes: int,
    host: str,
    session: str = "",
    *,
    is_batch: bool = False,
) -> Ask:
    options = fields.stream_options
    if options is not None and not fields.stream:
        raise HttpRefusal(
            400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    model = fields.model or host
    endpoint, adapter = model, ""
    if "/" in model:
        endpoint, _, adapter = model.partition("/")
    if host and endpoint != host:
        raise model_not_found(model)
    prompt = 1 + prompt_bytes // BYTES_PER_TOKEN
    prompts = 1 if api is CHAT else fields.prompts
    choices, most = (fields.n or 1) * prompts, 0 if api in COUNTS_NO_ANSWER else fields.most or COMPLETION_TOKENS
    few = max(CLAMPED_TOKENS_MIN, fields.min_tokens) if fields.min_tokens else CLAMPED_TOKENS_MIN
    return Ask(
        api,
        model,
        fields.stream is True or api is SPEECH,  # Sound is passed on as it is made.
        options is not None and bool(options.include_usage),
        options is not None and bool(options.continuous_usage_stats),
        rest,
        endpoint,
        adapter,
        session,
        is_batch,
        prompt_estimate=prompt,
        most=most,
        choices=choices,
        prompts=prompts,
        reservation=prompt + most * choices,
        least=prompt + (few if few < most else most) * choices,
    )


def _read_with_care(api: Api, body: bytes, host: str) -> tuple[dict[str, msgspec.Raw], Fields]:
    """The fields as they came, and what we read of them."""
    shape.check_depth(body)
    try:
        raw = _RAW.decode(body)
        if not KNOWN[api].issuperset(raw) or NEEDED[api] not in raw or "model" not in raw:
            _check_names(api, raw, host)
        fields = READERS[api].decode(body)
        if not body.isascii():
            str(body, "utf-8")  # Of what is passed on unread nobody else would say that it is no text.
    except msgspec.ValidationError as wrong:
        raise _invalid(str(wrong)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise HttpRefusal(400, "The request body is not valid JSON.") from None
    if api is Api.COMPLETIONS and fields.prompts > INPUTS_MAX:
        raise HttpRefusal(400, f"'prompt' has more than {INPUTS_MAX} prompts.", param="prompt")
    if raw.get("max_completion_tokens", NULL) != NULL:
        raw.pop("max_tokens", None)  # We count on the other; an engine that went by this one might generate more.
    return raw, fields


def upstream_body(ask: Ask, *, engine_model: str, cache_salt: str = "", tokens_max: int | None = None) -> bytes:
    """What the engine reads: its own name of the model or adapter, usage always, and whose prefix cache it is.

    ``tokens_max`` is how much it may generate where that is less than the client allowed.
    """
    fields = _ours(ask.api, ask.stream, ask.adapter or engine_model, cache_salt) | ask.rest
    if tokens_max is not None:
        for name in OUTPUTS:
            fields.pop(name, None)
        fields["max_output_tokens" if ask.api is RESPONSES else "max_tokens"] = msgspec.Raw(b"%d" % tokens_max)
    return _encode(fields)


@lru_cache(maxsize=1024)
def _ours(api: Api, stream: bool, model: str, cache_salt: str) -> dict[str, msgspec.Raw]:
    """What we say to the engine in every request of a kind."""
    said: dict[str, object] = {"model": model}
    if api is RESPONSES:
        said["store"] = False  # An engine keeps answers for whoever guesses their ids, if it may.
    if api is not SPEECH:  # What it generates from is no prompt that a cache could know, nor does it count tokens.
        if cache_salt:
            said["cache_salt"] = cache_salt
        if stream:
            said["stream"] = True
        if stream and api is not RESPONSES:  # Whose usage is in its last event always.
            said["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    return {name: msgspec.Raw(_encode(value)) for name, value in said.items()}


def prompt_bytes(ask: Ask) -> bytes | memoryview:
    """The prompt as it came, for those who only compare its beginning."""
    for name in PROMPTS:
        if name in ask.rest:
            return memoryview(ask.rest[name])
    return b""


def clamped(ask: Ask, granted: int) -> int:
    """How many tokens each answer may have if so many were granted, fewer than it may use."""
    return (granted - ask.prompt_estimate) // ask.choices


def _text(raw: Mapping[str, msgspec.Raw], name: str) -> str:
    """The field if it is text, else nothing: what has no meaning for an engine need not be right."""
    if name not in raw:
        return ""
    try:
        return msgspec.json.decode(raw[name], type=str)
    except msgspec.DecodeError:
        return ""


def bound(ask: Ask, most: int) -> int:
    """More tokens than a request can use of whose answers each has at most ``most``.

    No tokenizer makes more of a prompt than it has bytes; a batch of prompts has answers to each.
    """
    whole = sum(memoryview(each).nbytes for each in ask.rest.values())
    return whole + TEMPLATE_TOKENS * ask.prompts + most * ask.choices


def _check_names(api: Api, raw: Mapping[str, msgspec.Raw], host: str) -> None:
    for name in raw:
        if name not in KNOWN[api]:
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
