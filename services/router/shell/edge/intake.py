"""Reading requests off one connection: whole ones in order, or the reason why nothing more can be read.

A head is judged before its body is read, so that nobody without a key makes us keep 10 MiB. Nothing is decided inside
the parser's callbacks; they only collect.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final

import httptools
import msgspec

from libs.common.events.tables import KeyEntry
from libs.common.units import KIB
from services.router.core import http_rules, refusals
from services.router.core.familiar import Familiar, familiar
from services.router.core.http_rules import Head
from services.router.core.refusals import HttpRefusal

PIPELINED_MAX: Final = 8  # Requests that may wait for their turn; nobody we know sends even two.
# Of a body in chunks, what may be neither head nor body: sizes, extensions, trailers. Nobody needs a key to send those.
FRAMING_BYTES_MAX: Final = 32 * KIB
FRAMING_PER_BYTE: Final = 4  # And so much more for each byte of the body, for clients that write a few at a time.
SMALL_BYTES: Final = 512  # Pieces of a body below this are put together: an object for each would be larger than they.

# Whose request it is, of whoever connected; None where that does not matter. Raises HttpRefusal.
Judge = Callable[[Head, str], KeyEntry | None]


class Reading(IntEnum):
    """What is being read."""

    NOTHING = 0
    HEAD = 1
    BODY = 2


class Incoming(msgspec.Struct):
    """A request as it arrives. `owed` is what is to come of a body whose head needed no parsing."""

    target: bytes = b""
    headers: list[tuple[bytes, bytes]] = []
    head: Head | None = None
    key: KeyEntry | None = None
    parts: list[bytes | bytearray] = []
    body_bytes: int = 0
    owed: int = 0
    awaits_continue: bool = False

    def body(self) -> bytes:
        """The whole body."""
        first = self.parts[0] if len(self.parts) == 1 else None
        return first if isinstance(first, bytes) else b"".join(self.parts)

    def take(self, body: bytes) -> None:
        """One more piece of it. What needs no key needs no body either: nobody is to make us keep one without."""
        self.body_bytes += len(body)
        if self.key is None:
            return
        last = self.parts[-1] if self.parts else None
        if last is None or len(body) >= SMALL_BYTES:
            self.parts.append(body)
        elif isinstance(last, bytearray):
            last += body
        else:
            self.parts.append(bytearray(body))


class Intake:
    """The reading half of a connection."""

    __slots__ = (
        "_incoming", "_judge", "_judged", "_parser", "_unread_bytes", "broken", "broken_at", "familiar", "known_key",
        "peer", "ready",
    )  # fmt: skip

    def __init__(self, judge: Judge) -> None:
        self.ready: list[Incoming] = []
        self.broken: HttpRefusal | None = None  # To be said after what is ready; then the connection ends.
        self.broken_at: Head | None = None  # Of what it is said, where that had a head that could be read.
        self._judge = judge
        self._parser: httptools.HttpRequestParser | None = None  # While a request is read that needs one.
        self._incoming: Incoming | None = None
        self._unread_bytes = 0  # Fed since the last head was whole.
        self._judged = 0  # Heads that were parsed.
        self.familiar: Familiar[Head] | None = None
        self.known_key: KeyEntry | None = None  # Who sent the head that is familiar.
        self.peer = ""  # Who connected.

    @property
    def reading(self) -> Reading:
        """What is being read now."""
        if self._incoming is None:
            return Reading.NOTHING
        return Reading.HEAD if self._incoming.head is None else Reading.BODY

    def feed(self, data: bytes) -> None:
        """Read on; see `ready` and `broken`. Nothing more is read once it is broken."""
        if self._incoming is not None and self._incoming.owed:
            data = self._read_owed(self._incoming, data)
        while data and self.familiar is not None and self._incoming is None and self.broken is None:
            found = self.familiar.body_of(data)
            if found is None:
                break
            data = self._recognised(self.familiar.head, data, *found)
        if data and self.broken is None:
            self._parse(data)

    def _recognised(self, head: Head, data: bytes, begin: int, length: int) -> bytes:
        """A head that came before, and its body or the beginning of it; returns what comes after."""
        try:
            key = self.known_key = self._judge(head, self.peer)  # Anew: a key may have ended.
        except HttpRefusal as refusal:
            self.stop(refusal, head)
            return b""
        incoming = Incoming(head=head, key=key, owed=length)
        rest = self._read_owed(incoming, data[begin:])
        if incoming.owed:
            self._incoming = incoming
        elif not length:
            self._whole(incoming)
        return rest

    def _read_owed(self, incoming: Incoming, data: bytes) -> bytes:
        if not incoming.owed:
            return data
        body, rest = (data, b"") if len(data) <= incoming.owed else (data[: incoming.owed], data[incoming.owed :])
        incoming.take(body)
        incoming.owed -= len(body)
        if not incoming.owed:
            self._incoming = None
            self._whole(incoming)
        return rest

    def _parse(self, data: bytes) -> None:
        begins, judged = self._incoming is None, self._judged
        self._unread_bytes += len(data)
        self._parser = parser = self._parser or httptools.HttpRequestParser(self)
        rest = b""
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as offered:
            rest, self._parser = data[offered.args[0] :], None  # We leave the offer; the body is still to come.
        except httptools.HttpParserError:
            self.stop(HttpRefusal(400, "The request is not valid HTTP/1.1."))
        if self.reading is Reading.HEAD and self._unread_bytes > 2 * http_rules.HEAD_BYTES_MAX:
            self.stop(http_rules.head_too_large())
        incoming = self._incoming
        if incoming is not None and incoming.head is not None:
            framing = self._unread_bytes - (1 + FRAMING_PER_BYTE) * incoming.body_bytes
            if framing > FRAMING_BYTES_MAX:
                self.stop(HttpRefusal(400, "The chunks of the body have more around them than in them."))
        if begins and self._judged == judged + 1 and self.broken is None:
            self._learn(data)
        if self._incoming is None:
            self._parser = None  # It knows us: a circle, and a KiB for as long as an answer takes.
        if rest:
            self.feed(rest)

    def _learn(self, data: bytes) -> None:
        """The one head that was read here began with ``data``; the next may be the same."""
        incoming = self._incoming or (self.ready[-1] if self.ready else None)
        if incoming is not None and incoming.head is not None:
            self.familiar, self.known_key = familiar(data, incoming.head), incoming.key

    @property
    def is_between(self) -> bool:
        """Whether what comes next begins a request."""
        return self._incoming is None

    def recognise(self, data: bytes) -> bytes | None:
        """The body of a request whose head is `familiar`, if ``data`` is one and no more than that.

        Whether `known_key` is still good is for the caller to see.
        """
        known = self.familiar
        if known is None or self._incoming is not None or self.ready or self.broken is not None:
            return None
        return known.whole(data)

    @property
    def body_bytes(self) -> int:
        """What is kept of bodies that were not given out yet."""
        size_bytes = 0 if self._incoming is None or self._incoming.key is None else self._incoming.body_bytes
        for each in self.ready:
            size_bytes += each.body_bytes
        return size_bytes

    @property
    def last_key(self) -> KeyEntry | None:
        """Whose the last of them is."""
        last = self._incoming or (self.ready[-1] if self.ready else None)
        return None if last is None else last.key

    @property
    def is_idle(self) -> bool:
        """Whether nothing is read, waits or is wrong."""
        return self._incoming is None and not self.ready and self.broken is None

    def wants_continue(self) -> bool:
        """Whether the client waits to be told to send its body; True once."""
        incoming = self._incoming
        if incoming is None or not incoming.awaits_continue:
            return False
        incoming.awaits_continue = False
        return True

    def stop(self, refusal: HttpRefusal, head: Head | None = None) -> None:
        """Read no more; this is why, and the ``head`` of what it is said of, if that is not being read now."""
        if self.broken is None:
            self.broken = refusal.with_traceback(None)  # Where it was raised, we are known.
            self.broken_at = self._incoming.head if self._incoming is not None else head
        self._incoming = None

    def forget(self) -> None:
        """The client is gone: its parser knows us, and with us it would keep what came of a body, up to 10 MiB."""
        self._parser = self._incoming = None
        self.ready.clear()

    def drop(self, is_revoked: Callable[[KeyEntry], bool]) -> None:
        """Serve nothing that was let in with a key that was taken back since, nor what came after it."""
        reading = self._incoming
        for index, each in enumerate((*self.ready, *(() if reading is None else (reading,)))):
            if each.key is not None and is_revoked(each.key):
                del self.ready[index:]
                self.stop(refusals.invalid_key(), each.head)
                return

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A head begins."""
        self._incoming = Incoming()

    def on_url(self, url: bytes) -> None:
        """The request target, or a part of it."""
        if self._incoming is not None:
            self._incoming.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; after the head a trailer, which is dropped."""
        incoming = self._incoming
        if incoming is not None and incoming.head is None and len(incoming.headers) <= http_rules.HEADERS_MAX:
            incoming.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Judge the head."""
        incoming, parser = self._incoming, self._parser
        if incoming is None or parser is None:
            return
        self._unread_bytes = 0
        try:
            incoming.head = http_rules.check_head(
                method=parser.get_method(),
                target=incoming.target,
                version=parser.get_http_version(),
                headers=incoming.headers,
                keep_alive=parser.should_keep_alive(),
            )
            incoming.key = self._judge(incoming.head, self.peer)
            self._judged += 1
        except HttpRefusal as refusal:
            self.stop(refusal)
            return
        incoming.awaits_continue = incoming.head.expects_continue

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        incoming = self._incoming
        if incoming is None:
            return
        incoming.take(body)
        if incoming.body_bytes > http_rules.BODY_BYTES_MAX:
            self.stop(refusals.too_large(http_rules.BODY_BYTES_MAX))

    def on_message_complete(self) -> None:
        """A request is whole."""
        incoming, self._incoming = self._incoming, None
        self._unread_bytes = 0
        if incoming is None or self.broken is not None:
            return
        length = incoming.head.body_bytes if incoming.head is not None else None
        if length is not None and incoming.body_bytes < length:  # Of an upgrade the parser reads no body.
            self._incoming, incoming.owed = incoming, length
        else:
            self._whole(incoming)

    def _whole(self, incoming: Incoming) -> None:
        if self.ready:
            waiting_bytes = sum(each.body_bytes for each in self.ready)
            if len(self.ready) >= PIPELINED_MAX or waiting_bytes > http_rules.BODY_BYTES_MAX:
                self.stop(HttpRefusal(400, "Too many requests at once on one connection; wait for an answer."))
                return
        incoming.awaits_continue = False
        self.ready.append(incoming)
