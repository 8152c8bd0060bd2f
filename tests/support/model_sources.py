"""Servers of models that do what they are told, wrong things too: one that speaks S3, and a hub with its other host."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

BLOCK_BYTES: Final = 16 * 1024
RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass
class Shelf:
    """What a server has, by path, and how it behaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)  # Instead of a file.
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    truncated: int = 0  # How many of the next bodies end in the middle.
    unavailable: int = 0  # How many of the next requests are answered with 503.
    knows_ranges: bool = True
    block_s: float = 0.0  # Between two blocks: a slow link.
    held_at_bytes: int = 0  # Sends no more than this in all, until `released`; 0: no end.
    released: threading.Event = field(default_factory=threading.Event)
    sent_bytes: int = 0
    url: str = ""

    @property
    def host(self) -> str:
        """As in its URL."""
        return self.url.removeprefix("http://")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    shelf: Shelf

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""

    def do_GET(self) -> None:
        shelf = self.shelf
        shelf.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        if shelf.unavailable:
            shelf.unavailable -= 1
            self._say(503, {"retry-after": "0"}, b"<Error><Code>SlowDown</Code></Error>")
        elif self.path in shelf.answers:
            self._say(*shelf.answers[self.path])
        elif self.path in shelf.files:
            self._file(shelf.files[self.path])
        else:
            self._say(404, {}, b"<Error><Code>NoSuchKey</Code></Error>")

    def _file(self, content: bytes) -> None:
        asked = RANGE.fullmatch(self.headers.get("range", "")) if self.shelf.knows_ranges else None
        start, end = (int(asked[1]), int(asked[2]) + 1) if asked else (0, len(content))
        headers = {"content-range": f"bytes {start}-{end - 1}/{len(content)}"} if asked else {}
        self._say(206 if asked else 200, headers, content[start:end], may_break=True)

    def _say(self, status: int, headers: dict[str, str], body: bytes, *, may_break: bool = False) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        breaks = may_break and self.shelf.truncated > 0
        if breaks:
            self.shelf.truncated -= 1
            self.close_connection = True
        for at in range(0, len(body) // 2 if breaks else len(body), BLOCK_BYTES):
            block = body[at : at + BLOCK_BYTES]
            if self.shelf.held_at_bytes and self.shelf.sent_bytes >= self.shelf.held_at_bytes:
                self.shelf.released.wait()
            self.wfile.write(block)
            self.shelf.sent_bytes += len(block)
            if self.shelf.block_s:
                time.sleep(self.shelf.block_s)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is what is tested."""


@contextmanager
def served(shelf: Shelf) -> Iterator[Shelf]:
    """Serve a shelf on a port that the system chooses."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"shelf": shelf}))
    shelf.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield shelf
    finally:
        shelf.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def linked(content: bytes, location: str) -> tuple[int, dict[str, str], bytes]:
    """How the hub answers for a large file: it is elsewhere, and this is its size and sha256."""
    sha256 = hashlib.sha256(content).hexdigest()
    return 302, {"location": location, "x-linked-size": str(len(content)), "x-linked-etag": f'"{sha256}"'}, b""
