"""Reading requests off one connection: whole ones in order, or the reason why nothing more can be read.

A head is judged before its body is read, so that nobody without a key makes us keep 10 MiB. Nothing is decided inside
the parser's callbacks; they only collect.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import httptools

from libs.common.events.tables import KeyEntry
from services.router.core import http_rules, refusals
from services.router.core.http_rules import Head
from services.router.core.refusals import HttpRefusal

PIPELINED_MAX: Final = 8  # Requests that may wait for their turn; nobody we know sends even two.

Judge = Callable[[Head], KeyEntry | None]  # Whose request it is, None where that does not matter. Raises HttpRefusal.


class Reading(Enum):
    """What is being read."""

    NOTHING = 0
    HEAD = 1
    BODY = 2


@dataclass(slots=True)
class Incoming:
    """A request as it arrives."""

    target: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    head: Head | None = None
    key: KeyEntry | None = None
    parts: list[bytes] = field(default_factory=list)
    body_bytes: int = 0
    awaits_continue: bool = False

    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.parts)


class Intake:
    """The reading half of a connection."""

    def __init__(self, judge: Judge) -> None:
        self.ready: deque[Incoming] = deque()
        self.broken: HttpRefusal | None = None  # To be said after what is ready; then the connection ends.
        self._judge = judge
        self._parser = httptools.HttpRequestParser(self)
        self._incoming: Incoming | None = None
        self._unread_bytes = 0  # Fed since the last head was whole.

    @property
    def reading(self) -> Reading:
        """What is being read now."""
        if self._incoming is None:
            return Reading.NOTHING
        return Reading.HEAD if self._incoming.head is None else Reading.BODY

    def feed(self, data: bytes) -> None:
        """Read on; see `ready` and `broken`."""
        if self.broken is not None:
            return
        self._unread_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._break(HttpRefusal(400, "The request is not valid HTTP/1.1."))
        if self.reading is Reading.HEAD and self._unread_bytes > 2 * http_rules.HEAD_BYTES_MAX:
            self._break(http_rules.head_too_large())

    def wants_continue(self) -> bool:
        """Whether the client waits to be told to send its body; True once."""
        incoming = self._incoming
        if incoming is None or not incoming.awaits_continue:
            return False
        incoming.awaits_continue = False
        return True

    def _break(self, refusal: HttpRefusal) -> None:
        self.broken = self.broken or refusal
        self._incoming = None

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
        incoming = self._incoming
        if incoming is None:
            return
        self._unread_bytes = 0
        try:
            incoming.head = http_rules.check_head(
                method=self._parser.get_method(),
                target=incoming.target,
                version=self._parser.get_http_version(),
                headers=incoming.headers,
                keep_alive=self._parser.should_keep_alive(),
            )
            incoming.key = self._judge(incoming.head)
        except HttpRefusal as refusal:
            self._break(refusal)
            return
        incoming.awaits_continue = incoming.head.expects_continue

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        incoming = self._incoming
        if incoming is None:
            return
        incoming.body_bytes += len(body)
        incoming.parts.append(body)
        if incoming.body_bytes > http_rules.BODY_BYTES_MAX:
            self._break(refusals.too_large(http_rules.BODY_BYTES_MAX))

    def on_message_complete(self) -> None:
        """A request is whole."""
        incoming, self._incoming = self._incoming, None
        self._unread_bytes = 0
        if incoming is None or self.broken is not None:
            return
        waiting_bytes = sum(each.body_bytes for each in self.ready)
        if len(self.ready) >= PIPELINED_MAX or waiting_bytes > http_rules.BODY_BYTES_MAX:
            self._break(HttpRefusal(400, "Too many requests at once on one connection; wait for an answer."))
            return
        incoming.awaits_continue = False
        self.ready.append(incoming)
