"""Refusals of this service's own: which field is wrong, who is not known, what is not allowed."""

from __future__ import annotations

from libs.common.errors import Conflict, Invalid, Rejected


class FieldRefused(Invalid):
    """One named field of a request is wrong. The message never carries what was sent."""

    def __init__(self, field: str, message: str, *, code: str = "invalid") -> None:
        super().__init__(message, code=code)
        self.field = field


class FieldsRefused(Invalid):
    """Several named fields are wrong, or of a wrong type. The message never carries what was sent."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        super().__init__(f"wrong fields: {', '.join(fields)}")
        self.fields = fields


class Unauthorized(Rejected):
    """No key, or none that is good: unknown, malformed, revoked and expired look the same on purpose."""

    code = "unauthorized"


class Forbidden(Rejected):
    """The key is good but lacks a scope."""

    code = "missing_scope"


class PreconditionFailed(Conflict):
    """It changed since the caller saw it: `If-Match` names another generation."""

    code = "precondition_failed"


class Outpaced(Conflict):
    """It changed since the command was made from it: read it again, and make the command anew."""

    code = "changed_meanwhile"


class Gone(Rejected):
    """It was there, and is forgotten by now: begin anew."""

    code = "gone"
