"""How this engine refuses."""

from __future__ import annotations


class BadRequest(Exception):
    """A request that is refused; `param` names what is wrong."""

    def __init__(
        self, message: str, *, status: int = 400, kind: str = "BadRequestError", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
