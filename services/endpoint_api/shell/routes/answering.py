"""How a route answers a command: as the table of commands says, to the byte."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request, Response

from libs.common.events.command import Command
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.shell import problems
from services.endpoint_api.shell.behind import behind
from services.endpoint_api.shell.doors.http import response_of
from services.endpoint_api.shell.doors.table import answer_to

PROBLEM: Final[dict[str, Any]] = {"model": problems.Problem, "content": {problems.MEDIA_TYPE: {}}}
OVER_HTTP: Final = "http"  # Who asked is known from the key; only a command on the bus says it itself.


def whose(ask: Ask) -> dict[str, Any]:
    """The part of a command that says for whom it is and how it is to be done."""
    caller = ask.caller
    return {"tenant_id": caller.tenant_id, "project_id": caller.project_id, "actor": OVER_HTTP}


def accepted(request: Request, ask: Ask, command: Command) -> Response:
    """The answer to a command."""
    return response_of(answer_to(behind(request).api, ask, command))
