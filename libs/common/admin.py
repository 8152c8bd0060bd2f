"""The admin pages of a process: health, metrics, and what its service shows beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from libs.common.errors import Unavailable

OK: Final = 200
NOT_MODIFIED: Final = 304
NOT_FOUND: Final = 404
UNAVAILABLE: Final = 503


class AdminPages:
    """``/healthz`` the process lives, ``/readyz`` it can work, ``/metrics`` Prometheus text; `pages` as JSON by path.

    A page that raises Unavailable is a 503. Who has a page already, by its ETag, is not sent it again.
    """

    def __init__(self, is_ready: Callable[[], bool], pages: Mapping[str, Callable[[], bytes]]) -> None:
        self._is_ready = is_ready
        self._pages = pages

    async def __call__(
        self, scope: MutableMapping[str, Any], _receive: object, send: Callable[..., Awaitable[None]]
    ) -> None:
        """Answer a request, as ASGI."""
        if scope["type"] != "http":
            return
        status, body, kind = self._answer(scope["path"])
        tag = b'"%s"' % hashlib.sha256(body).hexdigest().encode()
        if status == OK and (b"if-none-match", tag) in map(tuple, scope["headers"]):
            status, body = NOT_MODIFIED, b""
        headers = [(b"content-type", kind.encode()), (b"etag", tag)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, path: str) -> tuple[int, bytes, str]:
        if path == "/healthz":
            return OK, b"ok\n", "text/plain"
        if path == "/readyz":
            if self._is_ready():
                return OK, b"ready\n", "text/plain"
            return UNAVAILABLE, b"bus not connected or consumers missing\n", "text/plain"
        if path == "/metrics":
            return OK, generate_latest(), CONTENT_TYPE_LATEST
        if path not in self._pages:
            return NOT_FOUND, b"not found\n", "text/plain"
        try:
            return OK, self._pages[path](), "application/json"
        except Unavailable as later:
            return UNAVAILABLE, f"{later}\n".encode(), "text/plain"
