"""What stands behind the routes of one process. The routes themselves are the same in every process, and made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request

from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.auth import Authenticator


@dataclass(frozen=True, slots=True)
class Behind:
    """The verbs, who may use them, and whom to wake: ``committed`` is called after each command."""

    api: Api
    authenticator: Authenticator
    committed: Callable[[], None]


def behind(request: Request) -> Behind:
    """What stands behind the route that this request came to."""
    found: Behind = request.state.behind
    return found
