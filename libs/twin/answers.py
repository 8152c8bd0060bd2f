"""What an API server answers: responses, and errors as Kubernetes `Status` objects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from libs.twin.objects import Json

JSON_TYPE: Final = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Json:
        """The body as an object."""
        value: Json = json.loads(self.body)
        return value


@dataclass(frozen=True)
class ApiError(Exception):
    """An answer other than success. `reason` is one of Kubernetes' `StatusReason`s."""

    code: int
    reason: str
    message: str
    details: Json = field(default_factory=dict)
    retry_after_s: int | None = None

    def status(self) -> Json:
        """The `Status` object."""
        status: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            status["details"] = self.details
        return status

    def response(self) -> Response:
        """The HTTP answer."""
        headers = dict(JSON_TYPE)
        if self.retry_after_s is not None:
            headers["retry-after"] = str(self.retry_after_s)
        return Response(self.code, headers, encode(self.status()))


def encode(value: object) -> bytes:
    """JSON as bytes."""
    return msgspec.json.encode(value)


def answer(value: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(status, JSON_TYPE, encode(value))


def bad_request(message: str) -> ApiError:
    """400."""
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """401, whatever is wrong with the key."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(message: str, details: Json | None = None) -> ApiError:
    """403."""
    return ApiError(403, "Forbidden", message, details or {})


def not_found(plural: str, name: str, group: str = "") -> ApiError:
    """404 for a named object."""
    return ApiError(
        404,
        "NotFound",
        f'{_qualified(plural, group)} "{name}" not found',
        {"name": name, "group": group, "kind": plural},
    )


def no_such_path() -> ApiError:
    """404 for a path that nothing serves."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(plural: str, name: str, group: str = "") -> ApiError:
    """409 for a second create."""
    details = {"name": name, "group": group, "kind": plural}
    return ApiError(409, "AlreadyExists", f'{_qualified(plural, group)} "{name}" already exists', details)


def conflict(plural: str, name: str, group: str = "", why: str = "") -> ApiError:
    """409 for a write on an old version."""
    reason = why or "the object has been modified; please apply your changes to the latest version and try again"
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {_qualified(plural, group)} "{name}": {reason}',
        {"name": name, "group": group, "kind": plural},
    )


def expired(wanted: int, oldest: int) -> ApiError:
    """410 for a version that history no longer holds."""
    return ApiError(410, "Expired", f"too old resource version: {wanted} ({oldest})")


def invalid(kind: str, name: str, causes: Sequence[tuple[str, str, str]], group: str = "") -> ApiError:
    """422; each cause is ``(field, reason, message)``, e.g. ``("spec.replicas", "FieldValueInvalid", "…")``."""
    text = ", ".join(f"{where}: {message}" for where, _, message in causes)
    details = {
        "name": name,
        "group": group,
        "kind": kind,
        "causes": [{"reason": reason, "message": message, "field": where} for where, reason, message in causes],
    }
    qualified = f"{kind}.{group}" if group else kind
    return ApiError(422, "Invalid", f'{qualified} "{name}" is invalid: {text}', details)


def unavailable(message: str) -> ApiError:
    """503."""
    return ApiError(503, "ServiceUnavailable", message, retry_after_s=1)


def throttled() -> ApiError:
    """429."""
    return ApiError(
        429, "TooManyRequests", "Too many requests, please try again later.", {"retryAfterSeconds": 1}, retry_after_s=1
    )


def _qualified(plural: str, group: str) -> str:
    return f"{plural}.{group}" if group else plural
