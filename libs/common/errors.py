"""Errors that say what to do next: never again, later, or reload.

`code` is for programs and never changes once published; the message is for people: what, with which values, what to do.
"""

from __future__ import annotations


class MillraceError(Exception):
    """The root of every error we raise on purpose."""


class Rejected(MillraceError):
    """The same input will never succeed: tell the caller, or park the message."""

    code = "rejected"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or type(self).code


class Invalid(Rejected):
    """A value is malformed or outside what the contract allows."""

    code = "invalid"


class NotFound(Rejected):
    """No such thing, or not one that the caller may see: the two look the same on purpose."""

    code = "not_found"


class Conflict(Rejected):
    """The thing exists already, or is in a state that forbids this."""

    code = "conflict"


class QuotaExceeded(Rejected):
    """A counter would pass its limit; nothing was taken. Who knows what the counter counts can say it in words."""

    code = "quota_exceeded"

    def __init__(self, message: str, *, counter: str = "", wanted: int = 0, limit: int = 0) -> None:
        super().__init__(message)
        self.counter = counter
        self.wanted = wanted
        self.limit = limit


class UnknownEvent(Rejected):
    """An event type or version that this build does not know: park it, and re-drive it after an upgrade."""

    code = "unknown_event"


class Unavailable(MillraceError):
    """It may succeed later: try again after `retry_after_s` seconds."""

    code = "unavailable"

    def __init__(self, message: str, *, retry_after_s: float = 1.0, code: str | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.code = code or type(self).code


class Stale(MillraceError):
    """Somebody else wrote first: reload and decide again."""
