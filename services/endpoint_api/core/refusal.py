"""Refusals of this service's own: which field is wrong, who is not known, what is not allowed."""

from __future__ import annotations

from libs.common.errors import Invalid, Rejected


class FieldRefused(Invalid):
    """One named field of a request is wrong. The message never carries what was sent."""

    def __init__(self, field: str, message: str, *, code: str = "invalid") -> None:
        super().__init__(message, code=code)
        self.field = field


class Unauthorized(Rejected):
    """No key, or none that is good: unknown, malformed, revoked and expired look the same on purpose."""

    code = "unauthorized"


class Forbidden(Rejected):
    """The key is good but lacks a scope."""

    code = "missing_scope"
