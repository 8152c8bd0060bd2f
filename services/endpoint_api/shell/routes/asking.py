"""What every route begins with: whose request it is, and the verbs."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Query, Request

from services.endpoint_api.core.caller import Ask, Caller
from services.endpoint_api.core.identity import PROJECT_HEADER
from services.endpoint_api.shell import problems
from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.auth import Authenticator

REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    code: {"model": problems.Problem, "content": {problems.MEDIA_TYPE: {}}}
    for code in (400, 401, 403, 404, 409, 413, 415, 422, 429, 503)
}

IdempotencyKey = Annotated[str | None, Header(description="Makes a repeat of this request the same request.")]

IfMatch = Annotated[
    str, Header(max_length=100, description="ETag that the endpoint must still have; left out: whatever it has.")
]
DryRun = Annotated[bool, Query(description="Answer with the plan, and change nothing.")]

ProjectHeader = Annotated[
    str,
    Header(
        alias=PROJECT_HEADER,
        max_length=100,
        description="`<tenant>/<project>`, or `<tenant>`: which of theirs a person or operator means. A key has one.",
    ),
]


def committed(request: Request) -> None:
    """Let the events of a command leave at once."""
    request.app.state.committed()


def _api(request: Request) -> Api:
    api: Api = request.app.state.api
    return api


def _caller(request: Request, project: ProjectHeader = "") -> Caller:
    authenticator: Authenticator = request.app.state.authenticator
    address = request.client.host if request.client else ""
    return authenticator.caller(request.headers.get("authorization", ""), project=project, address=address)


Verbs = Annotated[Api, Depends(_api)]
Who = Annotated[Caller, Depends(_caller)]


def _ask(request: Request, who: Who, idempotency_key: IdempotencyKey = None) -> Ask:
    return Ask(who, request.state.request_id, idempotency_key, request.state.traceparent)


Asking = Annotated[Ask, Depends(_ask)]


def _change(ask: Asking, if_match: IfMatch = "", dry_run: DryRun = False) -> Ask:
    return replace(ask, if_match=if_match, dry_run=dry_run)


Changing = Annotated[Ask, Depends(_change)]
