"""What an answer other than success means: later, never, or absent. Only this module reads the Platform's texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from libs.common.errors import Rejected, Unavailable
from services.capacity_manager.core.reasons import Reason

Json = dict[str, Any]

RETRY_FIRST_S: Final = 1.0
RETRY_QUOTA_S: Final = 5.0  # Somebody must delete something, or raise the project's quota.
RETRY_AFTER_MAX_S: Final = 60.0  # A server that asks for more is asked again all the same.
MESSAGE_MAX: Final = 300  # Characters of the Platform's own words that we pass on.

# Words of the Platform's denials (platform.md 1.5, 2.1, 2.11), lower case. Codes differ between versions; words less.
QUOTA_WORDS: Final = ("limit of", "exceeded quota", "insufficient quota", "quota exceeded", "would be exceeded")
NODE_TYPE_WORDS: Final = ("node type", "nodetype")
TEMPLATE_WORD: Final = "template"
NOT_ALLOWED: Final = "not allowed"


def is_absence_of(name: str, status: int, body: Json | None) -> bool:
    """Whether the API says that this very object is not there: not its path, its namespace, or a proxy's own 404."""
    if status != 404 or body is None or body.get("kind") != "Status" or body.get("reason") != "NotFound":
        return False
    details = body.get("details") or {}
    return details.get("name") == name or f'"{name}" not found' in str(body.get("message", ""))


def raise_for(status: int, body: Json | None, headers: Mapping[str, str]) -> None:
    """Return if the answer is a success. Raises Unavailable (later, or unknown) or Rejected (never) otherwise."""
    if 200 <= status < 300:
        return
    message = _message(status, body)
    if status == 401:
        raise _later(Reason.PLATFORM_UNAUTHORIZED, "the Platform does not accept our access key")
    if status == 429:
        raise _later(Reason.PLATFORM_THROTTLED, "the Platform asks for fewer requests", _retry_after_s(headers))
    if status == 409:
        raise _later(Reason.PLATFORM_CONFLICT, message)
    if body is None or body.get("kind") != "Status" or 300 <= status < 400:
        reason = Reason.PLATFORM_UNAVAILABLE if status >= 500 else Reason.PLATFORM_GARBLED
        raise _later(reason, f"the Platform answered HTTP {status} without a status object")
    if status >= 500 or status in {408, 410}:
        raise _later(Reason.PLATFORM_UNAVAILABLE, f"the Platform answered HTTP {status}")
    _raise_for_denial(status, message)


def is_already_there(failure: Unavailable) -> bool:
    """Whether a create failed because the name is in use."""
    return failure.code == Reason.PLATFORM_CONFLICT and "already exists" in str(failure)


def _raise_for_denial(status: int, message: str) -> None:
    words = message.lower()
    if status in {403, 422} and any(each in words for each in QUOTA_WORDS):
        raise _later(Reason.QUOTA_EXCEEDED, message, RETRY_QUOTA_S)
    if status in {403, 422} and NOT_ALLOWED in words:
        _raise_for_disallowed(message, words)
    if status in {400, 404, 422} and TEMPLATE_WORD in words:
        raise Rejected(message, code=Reason.TEMPLATE_UNKNOWN if "not found" in words else Reason.TEMPLATE_INVALID)
    if status == 403:
        raise _later(Reason.PLATFORM_FORBIDDEN, message)
    if status == 404:  # Right after its creation a project has no namespace yet.
        raise _later(Reason.PROJECT_PENDING if "namespace" in words else Reason.PLATFORM_UNAVAILABLE, message)
    raise Rejected(message, code=Reason.PLATFORM_REFUSED)


def _raise_for_disallowed(message: str, words: str) -> None:
    if any(each in words for each in NODE_TYPE_WORDS):
        raise Rejected(message, code=Reason.NODE_TYPE_NOT_ALLOWED)
    if TEMPLATE_WORD in words:
        raise Rejected(message, code=Reason.TEMPLATE_NOT_ALLOWED)


def _later(reason: Reason, message: str, retry_after_s: float = RETRY_FIRST_S) -> Unavailable:
    return Unavailable(message, retry_after_s=retry_after_s, code=reason)


def _retry_after_s(headers: Mapping[str, str]) -> float:
    text = headers.get("retry-after", "")
    return min(float(text), RETRY_AFTER_MAX_S) if text.isdigit() else RETRY_FIRST_S


def _message(status: int, body: Json | None) -> str:
    text = str((body or {}).get("message") or f"HTTP {status}")
    return text[:MESSAGE_MAX]
