"""The form of a stream's events: an engine writes them all alike, but for the text, the counts, and what nobody reads.

An event that was read with care teaches its form, an expression over a whole HTTP chunk. What matches it would mean the
same if it were read with care: one piece of text and one running count, no reason to stop, no error. Whatever does not
match is read with care. An endpoint's streams share their forms, so that one is made once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from services.router.core.http_rules import chunk
from services.router.core.sse import USAGE, Piece

EVENT_BYTES_MAX: Final = 1023  # A token takes some 250 bytes; the tables of sizes end here.
SIZE_DIGITS_MAX: Final = len(b"%x" % EVENT_BYTES_MAX)
FORMS_MAX: Final = 16  # An endpoint's, of each kind. An engine has a few; one whose events never repeat gets no more.
SIZE_LINES: Final = tuple(b"%x\r\n" % size for size in range(EVENT_BYTES_MAX + 1))
_CHUNK_BYTES: Final[Mapping[bytes, int]] = {
    spelling % size: len(chunk(bytes(size))) for size in range(1, EVENT_BYTES_MAX + 1) for spelling in (b"%x", b"%X")
}
# How long a chunk is that begins with these digits; one that spells its size in another way is read with care.
chunk_bytes: Final = _CHUNK_BYTES.get

_TEXTS: Final = (b"content", b"text", b"reasoning_content", b"reasoning")
_COUNTS: Final = (b"prompt_tokens", b"completion_tokens")
# What is read of an event has a name that it says once, so that there is no doubt which value is meant.
_READ: Final = (*_TEXTS, b"refusal", b"finish_reason", b"tool_calls", b"choices", b"delta", b"usage", b"error")
_SCALAR: Final = re.compile(rb'"([A-Za-z_]+)": ?("[^"]*"|[1-9][0-9]*)(?=[,}])')

_SIZE: Final = rb"([1-9A-Fa-f][0-9A-Fa-f]{0,2})\r\n"
_PLAIN: Final = rb"[ !#-\[\]-\x7f]"
_OTHER: Final = (  # Escapes but those of code points, which may be halves of one; then UTF-8, as it is defined.
    rb'\\["\\/bfnrt]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|\xed[\x80-\x9f][\x80-\xbf]'
    rb"|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xf0[\x90-\xbf][\x80-\xbf]{2}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
    rb"|[\xf1-\xf3][\x80-\xbf]{3}"
)
_TEXT: Final = rb'"(?:%s+"|%s*(?:(?:%s)%s*)+")' % (_PLAIN, _PLAIN, _OTHER, _PLAIN)  # The usual first: it is cheaper.
_COUNT: Final = rb"([1-9][0-9]{0,7})"  # What is larger may be no count: it is read with care.
_WORD: Final = rb'"%s*"' % _PLAIN
_NUMBER: Final = rb"[1-9][0-9]{0,17}"

Match = Callable[[bytes], re.Match[bytes] | None]


class Form(msgspec.Struct, frozen=True):
    """How the events of one stream are known, and what its client sees of them.

    The groups of a match: the size's digits; the event up to its usage, if that is taken out; the counts of the prompt
    and of the answer, if there are any.
    """

    match: Match
    prompt: bytes  # Its count, in digits: an event with another one is read with care.
    instead: bytes  # What stands where the usage began, to the end of the chunk.


class Forms:
    """Those of one endpoint."""

    __slots__ = ("_cut", "_known")

    def __init__(self) -> None:
        self._known: dict[bytes, Match] = {}  # By pattern, of events that pass as they came,
        self._cut: dict[bytes, Match] = {}  # and of those whose usage is taken out.

    def learned(self, event: bytes, piece: Piece, *, wants_usage: bool) -> Form | None:
        """The form of a content event, which was read as ``piece``; None if its like may mean something else."""
        if piece.pieces != 1 or piece.finish_reason or len(event) > EVENT_BYTES_MAX:
            return None
        is_cut = piece.data != event
        match, data = self._match(event, is_cut=is_cut), chunk(event)
        found = None if match is None else match(data)
        if match is None or found is None:
            return None
        _, begin, prompt, count = found.groups()
        instead = (b',"usage":null}\n\n\r\n' if wants_usage else b"}\n\n\r\n") if is_cut else b""
        # What the form makes of its own event has to be what was made of it with care.
        is_meant = (prompt, count) == _counts(piece) and (not is_cut or begin + instead == piece.data + b"\r\n")
        return Form(match, prompt, instead) if is_meant else None

    def _match(self, event: bytes, *, is_cut: bool) -> Match | None:
        known, data = self._cut if is_cut else self._known, chunk(event)
        for match in known.values():
            if match(data) is not None:
                return match
        pattern = pattern_of(event, is_cut=is_cut) if len(known) < FORMS_MAX else None
        if pattern is None or pattern in known:  # It is, where this event says something that is always read with care.
            return None
        match = known[pattern] = re.compile(pattern).fullmatch
        return match


def first_chunk_bytes(data: bytes) -> int:
    """How long the HTTP chunk is that ``data`` begins with; 0 if that is not said as we know it."""
    return chunk_bytes(data[: data.find(b"\r", 0, SIZE_DIGITS_MAX + 1)]) or 0


def are_chunks(data: bytes, body: bytes) -> bool:
    """Whether ``data`` is HTTP chunks of whole events, of which a parser read ``body``: then it stands behind them.

    Had it begun within another chunk it would have read a size where here is an event, or failed.
    """
    events = []
    while data:
        length = first_chunk_bytes(data)
        part, data = data[:length], data[length:]
        event = part[part.find(b"\r\n") + 2 : -2]
        is_event = event.startswith((b"data:", b":")) and event.endswith(b"\n\n")
        if not length or len(part) < length or not part.endswith(b"\r\n") or not is_event:
            return False
        events.append(event)
    return b"".join(events) == body


def pattern_of(event: bytes, *, is_cut: bool) -> bytes | None:
    """How all chunks look that say the same as this event with another text and count; None if that is in doubt."""
    if b"\\" in event or not event.startswith(b"data: {") or (is_cut and USAGE not in event):
        return None
    if any(event.count(b'"%s"' % name) > 1 for name in (*_READ, *_COUNTS)):
        return None
    parts: list[bytes] = []
    counts: tuple[bytes, ...] = ()
    end = texts = 0
    for found in _SCALAR.finditer(event):
        name, value = found[1], found[2]
        if name in _TEXTS and len(value) > len(b'""'):
            texts, known = texts + 1, _TEXT
        elif name in _COUNTS:
            counts, known = (*counts, name), _COUNT
        elif name in _READ:
            continue  # To the letter.
        else:
            known = _WORD if value.startswith(b'"') else _NUMBER
        parts += [re.escape(event[end : found.start(2)]), known]
        end = found.end()
    pattern = b"".join((*parts, re.escape(event[end:])))
    if texts != 1 or counts not in ((), _COUNTS) or not pattern.isascii():
        return None
    usage = re.escape(USAGE)
    pattern = b"(" + pattern.replace(usage, b")" + usage) if is_cut else b"()" + pattern
    return _SIZE + pattern + (b"" if counts else b"()()") + rb"\r\n"


def _counts(piece: Piece) -> tuple[bytes, bytes] | None:
    """The prompt's and the answer's, in digits; None where the usage says more than these."""
    usage = piece.usage
    if usage is None:
        return b"", b""
    if usage.prompt_tokens_details is not None or usage.completion_tokens_details is not None:
        return None
    return b"%d" % (usage.prompt_tokens or 0), b"%d" % (usage.completion_tokens or 0)
