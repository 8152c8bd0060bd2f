"""GET over HTTP, in ranges: one kept connection a thread and host, and no byte more or less than was asked for."""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Final

from libs.model_fetch.manifest import File
from libs.model_fetch.reasons import FetchFailed, Interrupted, Reason

BLOCK_BYTES: Final = 256 * 1024
SAID_BYTES_MAX: Final = 8 * 1024  # Of an error's body: enough for its words.
CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
RETRY_AFTER_MAX_S: Final = 300.0  # The hub's windows of so many requests are five minutes long.
LATER: Final = frozenset({408, 425, 429})  # And everything from 500 on.

Connection = http.client.HTTPConnection


class Web:
    """Where models are downloaded from. ``idle_s``: how long a source may send nothing at all."""

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._local = threading.local()

    def get(self, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """The answer, its body unread. Raises Interrupted if there is none."""
        parts = urllib.parse.urlsplit(url)
        path = parts.path or "/"
        target = f"{path}?{parts.query}" if parts.query else path
        connection = self._connection(parts.scheme, parts.netloc)
        try:
            connection.request("GET", target, headers={"user-agent": "millrace-model-fetch", **headers})
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as wrong:
            self.drop()
            raise Interrupted(f"{parts.netloc} does not answer: {wrong or type(wrong).__name__}") from wrong

    def said(self, response: http.client.HTTPResponse) -> str:
        """The beginning of the body of an answer that is not the file; its connection is used no more."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return response.read(SAID_BYTES_MAX).decode(errors="replace")
        return ""

    def body(self, response: http.client.HTTPResponse, file: File, start: int, end: int) -> Iterator[bytes]:
        """The bytes of a file from ``start`` up to ``end``, of the answer to `span(file, start, end)`.

        Raises Interrupted if they end early, SizeMismatch if the file is not as large as the manifest says.
        """
        skip = self._offset(response, file, start)
        left = skip + end - start
        while left:
            try:
                block = response.read(min(BLOCK_BYTES, left))
            except (OSError, http.client.HTTPException) as wrong:
                self.drop()
                raise Interrupted(f"{file.path}: the connection broke: {wrong or type(wrong).__name__}") from wrong
            if not block:
                self.drop()
                raise Interrupted(f"{file.path}: the answer ended {left} bytes early")
            left -= len(block)
            kept = block[min(skip, len(block)) :]
            skip -= len(block) - len(kept)
            if kept:
                yield kept
        if response.read(1):
            self.drop()  # More than was asked for; the digest says whether it matters.

    def drop(self) -> None:
        """Forget this thread's connections: what is still in them belongs to no answer."""
        for each in self._connections().values():
            each.close()
        self._connections().clear()

    @staticmethod
    def _offset(response: http.client.HTTPResponse, file: File, start: int) -> int:
        """How many bytes come before those that were asked for: none, unless the source knows no ranges."""
        if response.status == 206:
            found = CONTENT_RANGE.fullmatch(response.getheader("content-range", ""))
            if found is None or int(found[1]) != start:
                raise Interrupted(f"{file.path}: asked from byte {start}, answered another range")
            _check_size(file, int(found[3]))
            return 0
        length = response.getheader("content-length")
        if length is not None:
            _check_size(file, int(length))
        return start

    def _connection(self, scheme: str, netloc: str) -> Connection:
        kept = self._connections()
        found = kept.get((scheme, netloc))
        if found is None:
            if scheme == "https":
                context = ssl.create_default_context()
                found = http.client.HTTPSConnection(netloc, timeout=self._idle_s, context=context)
            else:
                found = http.client.HTTPConnection(netloc, timeout=self._idle_s)
            kept[scheme, netloc] = found
        return found

    def _connections(self) -> dict[tuple[str, str], Connection]:
        found: dict[tuple[str, str], Connection] | None = getattr(self._local, "connections", None)
        if found is None:
            found = self._local.connections = {}
        return found


def span(file: File, start: int, end: int) -> dict[str, str]:
    """The header that asks for these bytes; none if that is the whole file."""
    return {} if (start, end) == (0, file.size_bytes) else {"range": f"bytes={start}-{end - 1}"}


def retry_after_s(response: http.client.HTTPResponse) -> float:
    """How long a source asks us to wait; 0 if it does not say, or says a date."""
    said = response.getheader("retry-after", "")
    return min(float(said), RETRY_AFTER_MAX_S) if said.isdecimal() else 0.0


def is_for_later(status: int) -> bool:
    """Whether the same request may succeed by itself."""
    return status in LATER or status >= 500


def _check_size(file: File, found: int) -> None:
    if found != file.size_bytes:
        raise FetchFailed(
            Reason.SIZE_MISMATCH, f"{file.path} is {found} bytes at its source, the manifest says {file.size_bytes}"
        )
