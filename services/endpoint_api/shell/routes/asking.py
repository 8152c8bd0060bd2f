"""What every route begins with: whose request it is, and the verbs."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Depends, Header, Query, Request

from services.endpoint_api.core.caller import Ask, Caller
from services.endpoint_api.core.identity import PROJECT_HEADER
from services.endpoint_api.shell import problems
from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.behind import behind
from services.endpoint_api.shell.doors.http import begin

OF_ANY: Final = (400, 405, 413, 415, 431)  # Of what nobody has looked into yet.
REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    code: {"model": problems.Problem, "content": {problems.MEDIA_TYPE: {}}}
    for code in sorted((*OF_ANY, 401, 403, 404, 409, 422, 429, 503))
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


def _api(request: Request) -> Api:
    return behind(request).api


def _caller(request: Request, project: ProjectHeader = "") -> Caller:
    return behind(request).authenticator.caller(
        request.headers.get("authorization", ""),
        project=project,
        peer=request.client.host if request.client else "",
        forwarded_for=",".join(request.headers.getlist("x-forwarded-for")),
    )


Verbs = Annotated[Api, Depends(_api)]
Who = Annotated[Caller, Depends(_caller)]


def _ask(request: Request, who: Who, idempotency_key: IdempotencyKey = None) -> Ask:
    ask = Ask(who, request.state.request_id, idempotency_key, request.state.traceparent)
    begin(request, ask)
    return ask


Asking = Annotated[Ask, Depends(_ask)]


def _change(
    request: Request,
    who: Who,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = "",
    dry_run: DryRun = False,
) -> Ask:
    ask = Ask(who, request.state.request_id, idempotency_key, request.state.traceparent, if_match, dry_run)
    begin(request, ask)
    return ask


Changing = Annotated[Ask, Depends(_change)]
CHANGES: Final = frozenset({_ask, _change})  # Every route that changes something depends on one of them.
