"""A chat request that says nothing unusual, as nearly all do: read in one pass over its text.

Whatever is not plain (a field that we don't know, content that is no text, JSON that may be nested deep) is left to
`openai.read`, which reads with more care and says what is wrong. So nothing is plain that would be refused there.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET

from services.router.core.surface import CHOICES_MAX, DEPTH_MAX, TOKENS_MAX, StreamOptions, Tokens

Passed = msgspec.Raw | msgspec.UnsetType  # As it came, or left out.
QUOTE: Final = ord('"')
NESTING: Final = b"[{"
SHALLOW_BYTES: Final = 2 * DEPTH_MAX  # Each level has two brackets.
NULL: Final = msgspec.Raw(b"null")


class Message(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """One of a conversation."""

    role: str
    content: Passed = UNSET
    name: Passed = UNSET
    tool_calls: Passed = UNSET
    tool_call_id: Passed = UNSET


class Part(msgspec.Struct, forbid_unknown_fields=True):
    """Of a message's content."""

    type: Literal["text"]
    text: str


class Tool(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What the model may call."""

    type: Literal["function"]
    function: Passed = UNSET


class Plain(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The request."""

    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    tools: list[Tool] | msgspec.UnsetType = UNSET
    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)] | None = None
    min_tokens: Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)] | None = None
    temperature: Passed = UNSET
    top_p: Passed = UNSET
    top_k: Passed = UNSET
    stop: Passed = UNSET
    seed: Passed = UNSET
    user: Passed = UNSET
    presence_penalty: Passed = UNSET
    frequency_penalty: Passed = UNSET
    tool_choice: Passed = UNSET
    parallel_tool_calls: Passed = UNSET
    response_format: Passed = UNSET

    @property
    def most(self) -> int | None:
        """How many tokens the client lets each answer have; None if it does not say."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def prompts(self) -> int:
        """A chat is one."""
        return 1


_READ: Final = msgspec.json.Decoder(Plain)
_PARTS: Final = msgspec.json.Decoder(list[Part])
_NAMES: Final = (
    "temperature", "top_p", "top_k", "stop", "seed", "user", "presence_penalty", "frequency_penalty", "tool_choice",
    "parallel_tool_calls", "response_format",
)  # fmt: skip
_PASSED: Final = attrgetter(*_NAMES)
_NOTHING: Final = (UNSET,) * len(_NAMES)
_OTHERS: Final = attrgetter("name", "tool_calls", "tool_call_id")
_NO_OTHERS: Final = (UNSET,) * 3
_encode: Final = msgspec.json.Encoder().encode


def read(body: bytes) -> tuple[Plain, dict[str, msgspec.Raw], int] | None:
    """What the body says, if it is plain and names its model; what an engine may read of it; how long its prompt is."""
    try:
        said = _READ.decode(body)
        if not body.isascii():
            str(body, "utf-8")  # Of texts that are passed on unread nobody else would say that they are none.
        for each in said.messages:
            content, others = each.content, _OTHERS(each)
            if content is not UNSET and memoryview(content)[0] != QUOTE and content != NULL:
                _PARTS.decode(content)
            if others != _NO_OTHERS and _is_deep(others):
                return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    passed = _PASSED(said)
    if not said.model or (passed != _NOTHING and _is_deep(passed)):
        return None
    messages, tools = _encode(said.messages), said.tools
    fields = _fields(said, messages, passed)
    if tools is UNSET:
        return said, fields, len(messages)
    if _is_deep([each.function for each in tools]):
        return None
    written = _encode(tools)
    fields["tools"] = msgspec.Raw(written)
    return said, fields, len(messages) + len(written)


def _fields(said: Plain, messages: bytes, passed: tuple[Passed, ...]) -> dict[str, msgspec.Raw]:
    """By name, as JSON."""
    found = {"messages": msgspec.Raw(messages)}
    if passed != _NOTHING:
        for name, value in zip(_NAMES, passed, strict=True):
            if value is not UNSET:
                found[name] = value
    # By name costs less than a loop. Of both bounds the one that we count on; an engine might go by the other.
    if (count := said.max_completion_tokens) is not None:
        found["max_completion_tokens"] = msgspec.Raw(b"%d" % count)
    elif (count := said.max_tokens) is not None:
        found["max_tokens"] = msgspec.Raw(b"%d" % count)
    if (count := said.n) is not None:
        found["n"] = msgspec.Raw(b"%d" % count)
    if (count := said.min_tokens) is not None:
        found["min_tokens"] = msgspec.Raw(b"%d" % count)
    return found


def _is_deep(passed: tuple[Passed, ...] | list[Passed]) -> bool:
    """Whether one of them may be nested deeper than we pass on."""
    for each in passed:
        if each is not UNSET and len(view := memoryview(each)) > SHALLOW_BYTES and view[0] in NESTING:
            text = bytes(view)
            if text.count(b"[") + text.count(b"{") > DEPTH_MAX // 2:
                return True
    return False
