"""A customer's webhook receiver on this machine, which verifies signatures by the words of the standard alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Final

from libs.common.clock import SystemClock

TOLERANCE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Got:
    """One message as it came."""

    id: str
    timestamp: str
    signatures: tuple[str, ...]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The event in it."""
        event: dict[str, Any] = json.loads(self.body)
        return event

    def is_signed_with(self, secret: str) -> bool:
        """Whether it was made just now by somebody who has the secret."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.id}.{self.timestamp}.".encode() + self.body
        wanted = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        is_fresh = abs(SystemClock().now_ms() / 1000 - int(self.timestamp)) < TOLERANCE_S
        return is_fresh and any(hmac.compare_digest(wanted, each) for each in self.signatures)


@dataclass
class Receiver:
    """Takes what is sent to it while it is up; the port stays its own."""

    got: list[Got] = field(default_factory=list)
    port: int = 0
    _server: HTTPServer | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/hook"

    def up(self) -> None:
        """Listen."""
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                signatures = tuple(self.headers["webhook-signature"].split(" "))
                got.append(Got(self.headers["webhook-id"], self.headers["webhook-timestamp"], signatures, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_words: object) -> None:
                """Say nothing: the test does."""

        self._server = HTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def down(self) -> None:
        """Listen no more: who comes is refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
