"""What stands behind the routes of one process. The routes themselves are the same in every process, and made once."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.auth import Authenticator


@dataclass(frozen=True, slots=True)
class Behind:
    """The verbs, and who may use them."""

    api: Api
    authenticator: Authenticator


def behind(request: Request) -> Behind:
    """What stands behind the route that this request came to."""
    found: Behind = request.state.behind
    return found
