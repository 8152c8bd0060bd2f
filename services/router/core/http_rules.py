"""The strict rules of the HTTP edge: which request heads we accept, and how our answers are written.

The parser (llhttp, strict) already refuses bare LF, folded headers, bad tokens, doubled or odd Content-Length and
Content-Length beside Transfer-Encoding; this gate adds what it lets through. What passes is forwarded to no one: the
request to the engine is built anew from parsed values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import msgspec

from libs.common.units import KIB, MIB
from services.router.core.refusals import HttpRefusal, too_large
from services.router.core.surface import PATHS, Api

HEAD_BYTES_MAX: Final = 16 * KIB  # Keys and cookies fit many times over; more is an attack or a mistake.
HEADERS_MAX: Final = 64
TARGET_BYTES_MAX: Final = 2 * KIB
BODY_BYTES_MAX: Final = 10 * MIB  # reliability.md 3.5; a prompt of two million tokens.
ONCE: Final = frozenset(
    {b"host", b"authorization", b"content-length", b"transfer-encoding", b"content-type", b"expect"}
)

JSON: Final = b"application/json"
EVENTS: Final = b"text/event-stream; charset=utf-8"
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")
_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
REASONS: Final[Mapping[int, bytes]] = {each.value: each.phrase.encode() for each in HTTPStatus}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
H2C: Final = b"h2c"  # An offer of HTTP/2, as the JDK's client makes with each request: we may leave it (RFC 9110 7.8).
LAST_CHUNK: Final = b"0\r\n\r\n"


class Head(msgspec.Struct, frozen=True):
    """A request head that passed the gate."""

    method: str
    path: str
    bearer: str
    body_bytes: int | None  # None: chunked, or no body at all.
    keep_alive: bool
    expects_continue: bool
    forwarded_for: str = ""
    host: str = ""
    request_id: str = ""
    traceparent: str = ""
    content_type: bytes = b""
    api: Api | None = None  # The call that its path is; None: nothing that an engine answers.


def check_head(
    *, method: bytes, target: bytes, version: str, headers: Sequence[tuple[bytes, bytes]], keep_alive: bool
) -> Head:
    """Read a head.

    Raises HttpRefusal for whatever two servers in a row could understand differently.
    """
    if version != "1.1":
        raise HttpRefusal(505, "Only HTTP/1.1 is spoken here.")
    _check_size(target, headers)
    fields = _fields(headers)
    path = _path(target, fields)
    return Head(
        method=method.decode("ascii", "replace"),
        path=path,
        bearer=_bearer(fields),
        body_bytes=_body_bytes(fields),
        keep_alive=keep_alive,
        expects_continue=_expects_continue(fields),
        forwarded_for=fields.get(b"x-forwarded-for", b"").decode("ascii", "replace"),
        host=fields[b"host"].decode("ascii", "replace"),
        request_id=_request_id(fields),
        traceparent=fields.get(b"traceparent", b"").decode("ascii", "replace"),
        content_type=fields.get(b"content-type", b""),
        api=PATHS.get(path),
    )


def _check_size(target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    if len(target) > TARGET_BYTES_MAX:
        raise HttpRefusal(414, f"The request target is longer than {TARGET_BYTES_MAX} bytes.")
    if len(headers) > HEADERS_MAX:
        raise HttpRefusal(431, f"More than {HEADERS_MAX} headers.")
    if sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_BYTES_MAX:
        raise head_too_large()


def head_too_large() -> HttpRefusal:
    """The head is larger than we read."""
    return HttpRefusal(431, f"Headers are larger than {HEAD_BYTES_MAX} bytes.")


def _fields(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for raw, value in headers:
        name = raw.lower()
        if name in fields and name in ONCE:
            raise HttpRefusal(400, f"The header {name.decode()} appears more than once.")
        value = value.strip(b" \t")
        fields[name] = b"%s,%s" % (fields[name], value) if name == b"x-forwarded-for" and name in fields else value
    if not fields.get(b"host"):
        raise HttpRefusal(400, "Exactly one Host header is needed.")
    if _HOST.fullmatch(fields[b"host"]) is None:
        raise HttpRefusal(400, "The Host header is neither a name nor an address.")
    if b"content-length" in fields and b"transfer-encoding" in fields:
        raise HttpRefusal(400, "Content-Length and Transfer-Encoding exclude each other.")
    if fields.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        raise HttpRefusal(501, "The only transfer coding understood is chunked.")
    if b"upgrade" in fields and (fields[b"upgrade"].lower() != H2C or b"transfer-encoding" in fields):
        raise HttpRefusal(400, "Upgrades are not supported.")
    return fields


def _path(target: bytes, fields: Mapping[bytes, bytes]) -> str:
    text = target.decode("ascii", "replace")
    if text.startswith("/"):
        return text.split("?", 1)[0]
    try:
        parts = urlsplit(text)
    except ValueError:
        raise HttpRefusal(400, "The request target is malformed.") from None
    if parts.scheme not in ("http", "https") or parts.netloc.encode().lower() != fields[b"host"].lower():
        raise HttpRefusal(400, "An absolute request target must name the Host.")
    return parts.path or "/"


def _bearer(fields: Mapping[bytes, bytes]) -> str:
    scheme, _, token = fields.get(b"authorization", b"").partition(b" ")
    return token.strip().decode("ascii", "replace") if scheme.lower() == b"bearer" else ""


def _request_id(fields: Mapping[bytes, bytes]) -> str:
    """What the client calls its request, if that is fit for logs and headers."""
    found = fields.get(b"x-request-id", b"")
    return found.decode() if _SANE_ID.fullmatch(found) else ""


def _body_bytes(fields: Mapping[bytes, bytes]) -> int | None:
    text = fields.get(b"content-length")
    if text is None:
        return None
    if not text.isdigit() or len(text) > 18:
        raise HttpRefusal(400, "Content-Length is not a number.")
    if int(text) > BODY_BYTES_MAX:
        raise too_large(BODY_BYTES_MAX)
    return int(text)


def _expects_continue(fields: Mapping[bytes, bytes]) -> bool:
    expect = fields.get(b"expect")
    if expect is None:
        return False
    if expect.lower() != b"100-continue":
        raise HttpRefusal(417, "The only expectation understood is 100-continue.")
    return True


def answer(
    status: int,
    body: bytes,
    *,
    request_id: str,
    keep_alive: bool,
    retry_after_s: int | None = None,
    headers: bytes = b"",
    media: bytes = b"",
) -> bytes:
    """A whole answer, of JSON if ``media`` does not say otherwise; ``headers`` are more of them, as lines."""
    extra = headers if retry_after_s is None else b"%sretry-after: %d\r\n" % (headers, retry_after_s)
    if not keep_alive:
        extra += b"connection: close\r\n"
    return b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\nx-request-id: %s\r\n%scontent-length: %d\r\n\r\n%s" % (
        status, REASONS.get(status, b"Error"), media or JSON, request_id.encode(), extra, len(body), body,
    )  # fmt: skip


def allowed(methods: str, *, request_id: str, keep_alive: bool) -> bytes:
    """The answer to OPTIONS: which methods there are."""
    return b"HTTP/1.1 204 No Content\r\nallow: %s\r\nx-request-id: %s\r\n%s\r\n" % (
        methods.encode(), request_id.encode(), b"" if keep_alive else b"connection: close\r\n",
    )  # fmt: skip


def without_body(answer: bytes) -> bytes:
    """The same answer as HEAD gets it: its length, and nothing of it."""
    return answer[: answer.index(b"\r\n\r\n") + 4]


def stream_head(*, request_id: str, keep_alive: bool, headers: bytes = b"", media: bytes = b"") -> bytes:
    """The head of a streamed answer, of events if ``media`` does not say otherwise; ``headers`` are more, as lines."""
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncache-control: no-cache\r\n"
        b"x-request-id: %s\r\n%s%stransfer-encoding: chunked\r\n\r\n"
    ) % (media or EVENTS, request_id.encode(), headers, b"" if keep_alive else b"connection: close\r\n")


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def upstream_head(*, path: str, host: str, media: bytes = JSON) -> bytes:
    """How every request of a kind to one replica begins: nothing in it is copied from a client's head."""
    return b"POST %s HTTP/1.1\r\nhost: %s\r\ncontent-type: %s\r\naccept: */*\r\nx-request-id: " % (
        path.encode(), host.encode(), media,
    )  # fmt: skip


def upstream_request(head: bytes, request_id: str, body_bytes: int, traceparent: str = "") -> bytes:
    """The head of the request that the engine reads."""
    trace = b"traceparent: %s\r\n" % traceparent.encode() if traceparent else b""
    return b"%s%s\r\n%scontent-length: %d\r\n\r\n" % (head, request_id.encode(), trace, body_bytes)
