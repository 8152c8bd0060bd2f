"""Every error as RFC 9457 `application/problem+json`. What was sent is never in it; field names are."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request

from libs.common.errors import Conflict, Invalid, MillraceError, NotFound, QuotaExceeded, Rejected, Unavailable
from services.endpoint_api.core.refusal import (
    FieldRefused,
    FieldsRefused,
    Forbidden,
    Gone,
    Outpaced,
    PreconditionFailed,
    Unauthorized,
)
from services.endpoint_api.core.requests import InFlight
from services.endpoint_api.shell import codes

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_MAX_S: Final = 60  # Longer waits are for people to decide on.
FIELD_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")

# The first that fits decides. A quota is 429: the request is right, the tenant has too much at present.
STATUSES: Final[tuple[tuple[type[MillraceError], HTTPStatus], ...]] = (
    (Unauthorized, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (NotFound, HTTPStatus.NOT_FOUND),
    (Gone, HTTPStatus.GONE),
    (PreconditionFailed, HTTPStatus.PRECONDITION_FAILED),
    (QuotaExceeded, HTTPStatus.TOO_MANY_REQUESTS),
    (Conflict, HTTPStatus.CONFLICT),
    (Rejected, HTTPStatus.UNPROCESSABLE_ENTITY),
    (MillraceError, HTTPStatus.SERVICE_UNAVAILABLE),
)

# Codes of refusals that the HTTP layer itself makes.
HTTP_CODES: Final[Mapping[int, tuple[str, str]]] = {
    400: ("malformed_request", "the body can't be read: send JSON in UTF-8, nested a few levels at most"),
    404: ("no_such_route", "there is nothing at this path"),
    405: ("method_not_allowed", "this path does not have this method; the Allow header lists those it has"),
}


class FieldError(BaseModel):
    """One field that is wrong, and why."""

    model_config = ConfigDict(frozen=True)

    field: str
    message: str


class Problem(BaseModel):
    """An RFC 9457 problem. `code` is for programs and stable; `retryable`: the same request may succeed later."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="urn:millrace:problem:<code>.")
    title: str
    status: int
    detail: str
    code: str = Field(description=codes.in_words())
    request_id: str
    retryable: bool
    errors: tuple[FieldError, ...] = ()

    def content(self) -> dict[str, Any]:
        """As it is sent: `errors` only where a field is wrong."""
        return self.model_dump(mode="json", exclude=None if self.errors else {"errors"})


def problem(
    status: int,
    *,
    code: str,
    detail: str,
    request_id: str,
    retryable: bool = False,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The answer that says what went wrong and what to do."""
    body = _document(status, code=code, detail=detail, request_id=request_id, retryable=retryable, errors=errors)
    return JSONResponse(body.content(), status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def document_of(error: MillraceError, *, request_id: str) -> Problem:
    """One of our own errors as a problem."""
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    field = error.field if isinstance(error, FieldRefused) else None
    wrong = [FieldError(field=field, message=str(error))] if field else []
    if isinstance(error, FieldsRefused):
        wrong = [FieldError(field=named(each), message="is missing, unknown or wrong") for each in error.fields]
    return _document(
        status,
        code=getattr(error, "code", Unavailable.code),
        detail=f"{field}: {error}" if field else str(error),
        request_id=request_id,
        retryable=status is HTTPStatus.SERVICE_UNAVAILABLE or isinstance(error, InFlight | Outpaced),
        errors=wrong,
    )


def refused(request: Request, error: Exception) -> JSONResponse:
    """One of our own errors."""
    assert isinstance(error, MillraceError), error
    body = document_of(error, request_id=request.state.request_id)
    headers: dict[str, str] = {}
    if body.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if body.retryable:
        after_s = error.retry_after_s if isinstance(error, Unavailable) else 1.0
        headers["retry-after"] = str(min(RETRY_AFTER_MAX_S, max(1, math.ceil(after_s))))
    return JSONResponse(body.content(), status_code=body.status, media_type=MEDIA_TYPE, headers=headers)


def invalid(request: Request, error: Exception) -> JSONResponse:
    """A body, query or path that is not what the contract says: 400 if it is no JSON, else 422 with the fields."""
    assert isinstance(error, RequestValidationError), error
    wrong = error.errors()
    if any(each["type"] == "json_invalid" for each in wrong):
        return problem(400, code="malformed_json", detail="the body is not JSON", request_id=request.state.request_id)
    errors = tuple(FieldError(field=_field(each["loc"]), message=_reason(each)) for each in wrong)
    return problem(
        422,
        code=Invalid.code,
        detail=f"wrong fields: {', '.join(f'{each.field} ({each.message})' for each in errors)}",
        request_id=request.state.request_id,
        errors=errors,
    )


def http_refused(request: Request, error: Exception) -> JSONResponse:
    """What routing itself refuses."""
    assert isinstance(error, HTTPException), error
    code, detail = HTTP_CODES.get(error.status_code, ("http_error", HTTPStatus(error.status_code).phrase))
    headers = error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"allow": request.app.state.allowed(request.url.path)}
    return problem(error.status_code, code=code, detail=detail, request_id=request.state.request_id, headers=headers)


def broken(request: Request, _error: Exception) -> JSONResponse:
    """A bug of ours; the log has its place, the answer has nothing of it."""
    return problem(
        500,
        code="internal",
        detail="a bug on our side; the request id finds it in the log",
        request_id=request.state.request_id,
        retryable=True,
    )


def _document(
    status: int, *, code: str, detail: str, request_id: str, retryable: bool, errors: Sequence[FieldError]
) -> Problem:
    return Problem(
        type=f"urn:millrace:problem:{code.replace('_', '-')}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        request_id=request_id,
        retryable=retryable,
        errors=tuple(errors),
    )


def named(path: str) -> str:
    """The path of a field without names that are no plain words: those were the client's own."""
    return ".".join(part if part.isdigit() or FIELD_NAME.fullmatch(part) else "(unknown)" for part in path.split("."))


def _reason(wrong: Mapping[str, Any]) -> str:
    return str(wrong["msg"]).removeprefix("Value error, ")


def _field(loc: Sequence[int | str]) -> str:
    """The path of a field as a client writes it. A name that is no plain word was the client's own: it is left out."""
    parts = [str(each) for each in loc]
    path = parts[1:] if parts[0] in ("body", "query", "path", "header") else parts
    named = (part if part.isdigit() or FIELD_NAME.fullmatch(part) else "(unknown)" for part in path)
    return ".".join(named) or parts[0]
