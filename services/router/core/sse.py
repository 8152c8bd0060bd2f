"""The engine's event stream: cut into events, whatever the reads were, and tidied for the client.

We ask the engine for running and final usage always; a client that did not ask never sees either. The usage of the
last event and ``[DONE]`` form the terminal frame, which is held back until the bill is written.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, Final

import msgspec

from libs.common.errors import Unavailable
from libs.common.units import MIB

COUNT_MAX: Final = 100_000_000  # Tokens; beyond it the ledger takes a count for a fault.
EVENT_BYTES_MAX: Final = 1 * MIB  # A token with its log-probabilities is a few KiB.
DONE: Final = b"data: [DONE]\n\n"


class BadUpstream(Unavailable):
    """The engine said something that is not an OpenAI event stream or answer."""

    code = "bad_upstream"


Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]  # What is none can't be billed: such an answer is refused.


class PromptDetails(msgspec.Struct, frozen=True, gc=False):
    """Of the prompt, what needed no work."""

    cached_tokens: Count | None = None


class CompletionDetails(msgspec.Struct, frozen=True, gc=False):
    """Of the completion, what nobody was shown."""

    reasoning_tokens: Count | None = None


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What the engine counted."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None

    @property
    def cached_tokens(self) -> int | None:
        """How much of the prompt was in the engine's prefix cache; None if it does not say."""
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None

    @property
    def reasoning_tokens(self) -> int | None:
        """How much of the completion was thought; None if it does not say."""
        return self.completion_tokens_details.reasoning_tokens if self.completion_tokens_details else None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # As newer engines call it.
    refusal: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw(b"")


class Choice(msgspec.Struct, gc=False):
    """One of the answers, or a part of it."""

    index: int = 0
    finish_reason: str | None = None
    delta: _Delta | None = None
    text: str | None = None

    def pieces(self) -> int:
        """1 if the choice carries content in this event."""
        if self.text:
            return 1
        delta = self.delta
        if delta is None:
            return 0
        thought = delta.reasoning_content or delta.reasoning
        return int(bool(delta.content or thought or delta.refusal or _has(delta)))


def _has(delta: _Delta) -> bool:
    return bytes(delta.tool_calls) not in (b"", b"null", b"[]")


class _Event(msgspec.Struct, gc=False):
    choices: list[Choice] = []
    usage: Usage | None = None
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Kind(Enum):
    """What an event is for us."""

    CONTENT = 1
    FINAL_USAGE = 2
    DONE = 3
    OTHER = 4  # A comment, or a chunk without choices: passed on, worth nothing.


class Piece(msgspec.Struct, frozen=True):
    """One event: what the client sees of it, and what it says of the bill."""

    kind: Kind
    data: bytes
    pieces: int = 0
    usage: Usage | None = None
    finish_reason: str | None = None
    index: int = 0  # Of the first answer that it is a part of.


_EVENT: Final = msgspec.json.Decoder(_Event)
_RAW: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NULL: Final = msgspec.Raw(b"null")


class Splitter:
    """Cuts bytes into events; an event is given out when its blank line has come."""

    __slots__ = ("rest",)

    def __init__(self) -> None:
        self.rest = b""  # Of an event whose blank line has not come.

    def feed(self, data: bytes) -> list[bytes]:
        """The events that ``data`` completes, each with its blank line. Raises BadUpstream for an endless one."""
        if not self.rest and b"\r" not in data and data.find(b"\n\n") == len(data) - 2 > 0:
            return [data]  # As engines write: an event a read, or some each whole.
        text = self.rest + data
        if b"\r" in text:
            # A CR at the very end may be half of a CRLF: it waits for the next read.
            held = b"\r" if text.endswith(b"\r") else b""
            text = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        *events, self.rest = text.split(b"\n\n")
        if len(self.rest) > EVENT_BYTES_MAX:
            raise BadUpstream("an event of the engine's stream is larger than we read")
        return [each + b"\n\n" for each in events if each]


def read_event(event: bytes, *, wants_usage: bool, wants_running_usage: bool) -> Piece:
    """Understand one event and tidy it for the client. Raises BadUpstream."""
    if not event.startswith(b"data:") or event.find(b"\n") != len(event) - 2:
        event = _in_one_line(event)
        if not event.startswith(b"data:"):
            return Piece(Kind.OTHER, event)
    payload = event[5:].strip()
    if payload == b"[DONE]":
        return Piece(Kind.DONE, DONE)
    try:
        said = _EVENT.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadUpstream("the engine sent an event that is not a completion chunk") from None
    if said.error is not msgspec.UNSET and bytes(said.error) != b"null":
        raise BadUpstream("the engine reported an error in its stream")
    usage = said.usage
    if not said.choices:
        return Piece(Kind.FINAL_USAGE if usage else Kind.OTHER, event, usage=usage)
    pieces, reason = 0, None
    for each in said.choices:
        pieces += each.pieces()
        reason = reason or each.finish_reason
    data = event if wants_running_usage or usage is None else _without_usage(payload, as_null=wants_usage)
    return Piece(Kind.CONTENT, data, pieces, usage, reason, said.choices[0].index)


_NO_DATA: Final = frozenset({b"", b"id", b"retry", b"event"})  # Fields of an event, the first one of comments.


def _in_one_line(event: bytes) -> bytes:
    """The same event as one line of data; as it is if it has none. Raises BadUpstream.

    Comments, names and ids beside the data are legal, and some engines write them; no client of chunks has a use for
    them. An event that calls itself an error is one, whatever its data.
    """
    if len(event) > EVENT_BYTES_MAX:
        raise BadUpstream("an event of the engine's stream is larger than we read")
    data: list[bytes] = []
    for line in event.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.strip())
        elif field not in _NO_DATA:
            raise BadUpstream("the engine sent an event that is not a completion chunk")
        elif field == b"event" and value.strip() == b"error":
            raise BadUpstream("the engine reported an error in its stream")
    return b"data: %s\n\n" % b" ".join(data) if data else event


USAGE: Final = b',"usage":{'  # How it begins, where it is not the first that an event says.
_AT_THE_END: Final = re.compile(rb',"usage":\{(?:"[a-z_]+":(?:[0-9]+|null),?)*\}\}')


def _without_usage(payload: bytes, *, as_null: bool) -> bytes:
    """The same event without the count that we asked for; OpenAI says null where usage comes at the end.

    Where it is flat and the last that the event says, as vLLM has it, what follows is the brace that ends the event:
    then it is a field of the event itself, and can be cut off. Raises BadUpstream if a field's name is no text.
    """
    at = payload.find(USAGE)
    if at > 0 and _AT_THE_END.fullmatch(payload, at):
        return b"data: %s%s}\n\n" % (payload[:at], b',"usage":null' if as_null else b"")
    try:
        fields = _RAW.decode(payload)
    except UnicodeDecodeError:
        raise BadUpstream("the engine sent an event that is not a completion chunk") from None
    if as_null:
        fields["usage"] = _NULL
    else:
        del fields["usage"]
    return b"data: %s\n\n" % msgspec.json.encode(fields)
