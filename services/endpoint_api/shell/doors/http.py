"""The door over HTTP: every change may carry an Idempotency-Key, and is then one request with one answer.

The dependency that says who asks begins it (`begin`); the ASGI layer around the routes (`Remember`) keeps the answer
as it leaves. So no route has to know of it. A refusal over HTTP is not kept: the key may be used again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common.errors import Conflict, Unavailable
from services.endpoint_api.core.admission import request_key
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.requests import request_id
from services.endpoint_api.shell import problems
from services.endpoint_api.shell.behind import Behind, behind
from services.endpoint_api.shell.doors.answer import Answer
from services.endpoint_api.shell.doors.once import Turn, digest_of

BEGUN: Final = "begun"

# Routes under /v1 that show a secret, with the code of a repeat: no store has the answer, so it can't be given again.
SHOWN_ONCE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "/keys": "key_already_made",
        "/keys/{key_id}/rotate": "key_already_made",
        "/members/{member_id}/keys": "key_already_made",
        "/webhooks": "webhook_already_made",
        "/webhooks/{webhook_id}/rotate": "secret_already_made",
    }
)
LOST: Final = (
    "this Idempotency-Key made a secret before, and a secret is shown once; if it is lost, revoke or rotate what it was"
    " made for, with a new Idempotency-Key"
)


class Repeated(Exception):
    """This was asked and answered before."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("answered before")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn over HTTP; `shows_secret`: its answer must not be kept."""

    turn: Turn
    shows_secret: bool


def begin(request: Request, ask: Ask) -> None:
    """Begin what is asked, if it has an Idempotency-Key. Raises Repeated, Reused, InFlight, and Conflict for a secret.

    Callers with other rights have keys of their own: what one may see, another must not be shown.
    """
    assert ask.request_id, "the edge gives each request an id"
    if ask.idempotency_key is None or ask.dry_run:
        return
    key = request_key(idempotency_key=ask.idempotency_key, request_id=ask.request_id)
    caller, route = ask.caller, request.scope["route"].path.removeprefix("/v1")
    rights = digest_of(sorted(caller.scopes), sorted(caller.tenant_scopes))
    found = behind(request).api.once.begin(
        request_id(caller.tenant_id, caller.project_id, f"{key} {rights}"), _digest(request)
    )
    if isinstance(found, Turn):
        setattr(request.state, BEGUN, Begun(found, route in SHOWN_ONCE))
    elif route in SHOWN_ONCE:
        raise Conflict(LOST, code=SHOWN_ONCE[route])
    else:
        raise Repeated(found)


def response_of(answer: Answer) -> Response:
    """An answer as a response."""
    headers = {name: value for name, value in (("location", answer.location), ("etag", answer.etag)) if value}
    kind = problems.MEDIA_TYPE if answer.status >= HTTPStatus.BAD_REQUEST else "application/json"
    return Response(
        answer.body or None, status_code=answer.status, media_type=kind if answer.body else None, headers=headers
    )


def repeated(_request: Request, trouble: Exception) -> Response:
    """The answer that was given before."""
    assert isinstance(trouble, Repeated), trouble
    return response_of(trouble.answer)


class Remember:
    """Wraps the routes: says what stands behind them, and keeps the answer to what was begun, before it is sent."""

    def __init__(self, app: ASGIApp, behind_it: Behind) -> None:
        self._app = app
        self._api = behind_it.api
        self._behind = behind_it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope.setdefault("state", {})["behind"] = self._behind
        held: list[Message] = []

        async def keep(message: Message) -> None:
            begun = scope.get("state", {}).get(BEGUN)
            if begun is None:
                await send(message)
                return
            held.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                for each in await run_in_threadpool(self._kept, begun, held):
                    await send(each)

        await self._app(scope, receive, keep)

    def _kept(self, begun: Begun, held: list[Message]) -> list[Message]:
        """The answer to send: this one, or that of whoever was faster."""
        start, body = held[0], b"".join(each.get("body", b"") for each in held[1:])
        if start["status"] >= HTTPStatus.BAD_REQUEST:
            self._api.once.drop(begun.turn)
            return held
        if begun.shows_secret or _header(start["headers"], b"cache-control") == "no-store":
            with suppress(Unavailable):
                self._api.once.answer(begun.turn, Answer(HTTPStatus.CONFLICT, ""))
            return [{**start, "headers": _unstored(start["headers"])}, *held[1:]]
        answer = Answer(
            start["status"], body.decode(), _header(start["headers"], b"location"), _header(start["headers"], b"etag")
        )
        try:
            kept = self._api.once.answer(begun.turn, answer)
        except Unavailable:  # It is done: the client hears so. A repeat finds what was done by its id.
            return held
        return held if kept == answer else _messages(response_of(kept))


def _messages(response: Response) -> list[Message]:
    start: MutableMapping[str, Any] = {
        "type": "http.response.start", "status": response.status_code, "headers": response.raw_headers
    }  # fmt: skip
    return [start, {"type": "http.response.body", "body": response.body}]


def _unstored(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [*(each for each in headers if each[0] != b"cache-control"), (b"cache-control", b"no-store")]


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    return next((value.decode("latin-1") for each, value in headers if each == name), "")


def _digest(request: Request) -> str:
    """What is asked: method, path, query, precondition and body."""
    body: bytes = request.state.body
    try:
        content = json.loads(body) if body else None
    except (ValueError, RecursionError):
        content = body.hex()  # Refused below; until then it is what it is.
    query, match = sorted(request.query_params.multi_items()), request.headers.get("if-match", "")
    return digest_of(request.method, request.url.path, query, match, content)
