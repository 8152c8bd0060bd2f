"""The stream of `/v1/responses`: events with names, usage in the last of them, and no `[DONE]`.

The engine gives no running count here, so until its last word each piece of content counts as one token.
"""

from __future__ import annotations

from typing import Final

import msgspec

from services.router.core.sse import (
    DONE,
    EVENT_BYTES_MAX,
    BadUpstream,
    CompletionDetails,
    Count,
    Kind,
    Piece,
    PromptDetails,
    Usage,
)

CONTENT: Final = frozenset(
    {
        "response.output_text.delta", "response.refusal.delta", "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta", "response.function_call_arguments.delta",
    }
)  # fmt: skip
ENDS: Final = frozenset({"response.completed", "response.incomplete"})
FAILURES: Final = frozenset({"response.failed", "error"})


class _ItemUsage(msgspec.Struct):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_tokens_details: PromptDetails | None = None
    output_tokens_details: CompletionDetails | None = None

    def usage(self) -> Usage:
        """The same in the words of the other calls."""
        return Usage(self.input_tokens, self.output_tokens, self.input_tokens_details, self.output_tokens_details)


class Response(msgspec.Struct):
    """An answer as far as the bill reads it."""

    status: str | None = None
    usage: _ItemUsage | None = None

    @property
    def finish_reason(self) -> str:
        """How it ended, in the words of the other calls."""
        return "length" if self.status == "incomplete" else "stop"


class _Event(msgspec.Struct):
    type: str = ""
    response: Response | None = None


_EVENT: Final = msgspec.json.Decoder(_Event)


def read_event(event: bytes) -> Piece:
    """Understand one event; the client sees it as it is. Raises BadUpstream."""
    payload = _data_of(event)
    if not payload:
        return Piece(Kind.OTHER, event)
    if payload == b"[DONE]":
        return Piece(Kind.DONE, DONE)
    try:
        said = _EVENT.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadUpstream("the engine sent an event that is not a response event") from None
    if said.type in FAILURES or not said.type:
        raise BadUpstream("the engine reported an error in its stream")
    if said.type in CONTENT:
        return Piece(Kind.CONTENT, event, pieces=1)
    if said.type not in ENDS:
        return Piece(Kind.OTHER, event)
    found = said.response or Response()
    usage = found.usage.usage() if found.usage else Usage()
    return Piece(Kind.FINAL_USAGE, event, usage=usage, finish_reason=found.finish_reason)


def _data_of(event: bytes) -> bytes:
    """The event's one line of data; nothing for a comment. Raises BadUpstream."""
    if len(event) > EVENT_BYTES_MAX:
        raise BadUpstream("an event of the engine's stream is larger than we read")
    data = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
    if len(data) > 1:
        raise BadUpstream("the engine sent an event with several lines of data")
    return data[0] if data else b""
