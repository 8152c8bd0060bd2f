"""Errors of the read API as RFC 9457 `application/problem+json`. What was sent is never in them."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Final

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request

from libs.common.errors import MillraceError, Rejected, Unavailable

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_MAX_S: Final = 60


class Problem(BaseModel):
    """An RFC 9457 problem. `code` is for programs and stable; `retryable`: the same request may succeed later."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="urn:millrace:problem:<code>.")
    title: str
    status: int
    detail: str
    code: str
    retryable: bool


class Unauthorized(Rejected):
    """No key, or not one that is good: the answer is the same whatever is wrong with it."""

    code = "unauthorized"


class Forbidden(Rejected):
    """The key is good, but not for this."""

    code = "forbidden"


class NotFound(Rejected):
    """There is none such, or it is somebody else's: the answer is the same."""

    code = "not_found"


STATUSES: Final[tuple[tuple[type[MillraceError], HTTPStatus], ...]] = (
    (Unauthorized, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (NotFound, HTTPStatus.NOT_FOUND),
    (Rejected, HTTPStatus.UNPROCESSABLE_ENTITY),
    (MillraceError, HTTPStatus.SERVICE_UNAVAILABLE),
)


def refused(_request: Request, error: Exception) -> JSONResponse:
    """One of our own errors."""
    assert isinstance(error, MillraceError), error
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    headers = {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, Unavailable):
        headers["retry-after"] = str(min(RETRY_AFTER_MAX_S, max(1, math.ceil(error.retry_after_s))))
    return _problem(status, code=getattr(error, "code", "unavailable"), detail=str(error), headers=headers)


def invalid(_request: Request, error: Exception) -> JSONResponse:
    """A query that is not what the contract says."""
    assert isinstance(error, RequestValidationError), error
    wrong = sorted({f"{each['loc'][-1]} ({each['msg']})" for each in error.errors()})
    return _problem(HTTPStatus.UNPROCESSABLE_ENTITY, code="invalid", detail=f"wrong query: {', '.join(wrong)}")


def no_route(_request: Request, error: Exception) -> JSONResponse:
    """What routing itself refuses."""
    assert isinstance(error, HTTPException), error
    status = HTTPStatus(error.status_code)
    return _problem(status, code=status.name.lower(), detail=status.description, headers=dict(error.headers or {}))


def broken(_request: Request, _error: Exception) -> JSONResponse:
    """A bug of ours; the log has its place, the answer has nothing of it."""
    return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, code="internal", detail="a bug on our side; it is in the log")


def _problem(status: HTTPStatus, *, code: str, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    body = Problem(
        type=f"urn:millrace:problem:{code.replace('_', '-')}",
        title=status.phrase,
        status=status,
        detail=detail,
        code=code,
        retryable=status >= HTTPStatus.INTERNAL_SERVER_ERROR,
    )
    return JSONResponse(body.model_dump(), status_code=status, media_type=MEDIA_TYPE, headers=headers)
