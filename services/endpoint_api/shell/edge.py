"""The gate before the routes: request and trace ids, and limits on what a request may be, however it is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from fastapi.responses import JSONResponse

from libs.common.ids import Entropy
from libs.common.units import KIB
from services.endpoint_api.shell.problems import HTTP_CODES, problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

BODY_MAX_BYTES: Final = 64 * KIB  # The largest honest body is a few KiB.
HEADERS_MAX: Final = 64  # Browsers and proxies together send about thirty.
HEADER_BYTES_MAX: Final = 16 * KIB
MEDIA_TYPES: Final = ("application/json", "application/merge-patch+json")
ONCE: Final = (b"authorization", b"host", b"content-length", b"content-type", b"idempotency-key")

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
# W3C trace context, version 00; all zeros mean that there is none.
TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Edge:
    """Wraps an ASGI app. The app finds ``request_id``, ``traceparent`` and ``body`` in its request's state.

    HEAD is answered as GET is, without the body.
    """

    def __init__(self, app: App, *, entropy: Entropy, body_max_bytes: int = BODY_MAX_BYTES) -> None:
        self._app = app
        self._entropy = entropy
        self._body_max_bytes = body_max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        request_id = _accepted(headers, b"x-request-id", REQUEST_ID) or f"req-{self._hex(8)}"
        traceparent = _accepted(headers, b"traceparent", TRACEPARENT) or f"00-{self._hex(16)}-{self._hex(8)}-01"
        scope["state"] = {**scope.get("state", {}), "request_id": request_id, "traceparent": traceparent}
        answer = _with_header(send, b"x-request-id", request_id.encode())
        body = await _read(receive, self._body_max_bytes)
        if body is None:
            return
        refusal = _refusal(headers, body, self._body_max_bytes, request_id)
        if refusal is not None:
            await refusal(scope, receive, answer)
            return
        scope["state"]["body"] = body
        if scope["method"] == "HEAD":
            await _head(self._app, scope, body, answer)
            return
        await self._app(scope, _replay(body, receive), answer)

    def _hex(self, count: int) -> str:
        return self._entropy.token_bytes(count).hex()


async def _read(receive: Receive, max_bytes: int) -> bytes | None:
    """The body; one byte over the limit if it is longer. None if the client left."""
    body = b""
    while len(body) <= max_bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part: bytes = message.get("body", b"")
        body += part
        if not message.get("more_body", False):
            return body
    return body[: max_bytes + 1]


def _refusal(headers: Headers, body: bytes, max_bytes: int, request_id: str) -> JSONResponse | None:
    names = [name.lower() for name, _ in headers]
    if len(names) > HEADERS_MAX or sum(len(name) + len(value) for name, value in headers) > HEADER_BYTES_MAX:
        detail = f"at most {HEADERS_MAX} headers of together {HEADER_BYTES_MAX} bytes"
        return problem(431, code="headers_too_large", detail=detail, request_id=request_id)
    if any(names.count(name) > 1 for name in ONCE) or {b"content-length", b"transfer-encoding"} <= set(names):
        detail = "a header that may come once came twice, or Content-Length came with Transfer-Encoding"
        return problem(400, code="malformed_request", detail=detail, request_id=request_id)
    if len(body) > max_bytes:
        detail = f"a body may have at most {max_bytes} bytes"
        return problem(
            413, code="body_too_large", detail=detail, request_id=request_id, headers={"connection": "close"}
        )
    kind = _first(headers, b"content-type").partition(";")[0].strip().lower()
    if body and kind not in MEDIA_TYPES:
        return problem(
            415, code="unsupported_media_type", detail="send Content-Type: application/json", request_id=request_id
        )
    if not _is_text(body):
        code, detail = HTTP_CODES[400]
        return problem(400, code=code, detail=detail, request_id=request_id)
    return None


def _is_text(body: bytes) -> bool:
    """Whether all its strings are text: half a surrogate pair is none, and no event or database could hold it."""
    if b"\\" not in body:
        return True
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    except (ValueError, RecursionError):
        return True  # It is no JSON at all: the routes say so.
    return True


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, then whatever comes after."""
    told = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _head(app: App, scope: Scope, body: bytes, send: Send) -> None:
    """The head of what GET would answer. Its body goes nowhere, and a stream ends as if the client had left."""

    async def gone() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    async def head(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body"})

    await app({**scope, "method": "GET"}, _replay(body, gone), head)


def _with_header(send: Send, name: bytes, value: bytes) -> Send:
    async def send_with(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (name, value)]}
        await send(message)

    return send_with


def _first(headers: Headers, name: bytes) -> str:
    return next((value.decode("latin-1") for each, value in headers if each.lower() == name), "")


def _accepted(headers: Headers, name: bytes, form: re.Pattern[str]) -> str:
    """What the client sent, if it has the right form; else empty."""
    value = _first(headers, name)
    return value if form.fullmatch(value) else ""
