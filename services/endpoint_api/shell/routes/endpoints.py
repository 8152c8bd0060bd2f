"""Routes on endpoints. Every change goes through the table of commands, as it does over the bus."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from libs.common.events import command as cmd
from libs.common.events.endpoint import Stage
from services.endpoint_api.core.planning import PlanView
from services.endpoint_api.core.status import EndpointView, OperationView
from services.endpoint_api.shell.bodies import (
    CreateEndpointBody,
    DrainEndpointBody,
    PauseEndpointBody,
    ScaleEndpointBody,
    UpdateEndpointBody,
)
from services.endpoint_api.shell.doors.table import etag_of
from services.endpoint_api.shell.routes.answering import PROBLEM, accepted, whose
from services.endpoint_api.shell.routes.asking import Changing, Verbs, Who

router: Final = APIRouter(tags=["endpoints"])

Ref = Annotated[str, Path(min_length=1, max_length=64, description="Id or name of the endpoint.")]
DrainDeadline = Annotated[
    int | None, Query(ge=0, le=cmd.DRAIN_MAX_S, description="Seconds that live streams may still run; left out: 120.")
]
Filter = Annotated[str | None, Query(max_length=200)]

# What a change is answered with: an operation, or with `dry_run` a plan.
CHANGE: Final[dict[str, Any]] = {
    "status_code": 202,
    "response_model": OperationView,
    "responses": {
        200: {"model": PlanView, "description": "With `dry_run`: what would happen."},
        412: {**PROBLEM, "description": "It changed since the caller saw it."},
    },
}


class EndpointList(BaseModel):
    """One page of endpoints."""

    model_config = ConfigDict(frozen=True)

    items: tuple[EndpointView, ...]
    next_cursor: str | None


@router.post("/endpoints", **CHANGE)
def create_endpoint(ask: Changing, request: Request, body: CreateEndpointBody) -> Response:
    """Ask for an endpoint."""
    name = body.name[: cmd.NAME_MAX]  # Longer than a command can say, it is as wrong as its beginning.
    return accepted(request, ask, cmd.CreateEndpoint(**whose(ask), name=name, spec=body.spec))


@router.get("/endpoints")
def list_endpoints(
    who: Who,
    verbs: Verbs,
    cursor: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    stage: Stage | None = None,
    tier: Filter = None,
    model: Filter = None,
    name_prefix: Filter = None,
) -> EndpointList:
    """Endpoints of the project that are not deleted and fit every filter."""
    page = verbs.endpoints.list(
        who, cursor=cursor, limit=limit, stage=stage, tier=tier, model=model, name_prefix=name_prefix
    )
    return EndpointList(items=page.items, next_cursor=page.next_cursor)


@router.get("/endpoints/{ref}")
def get_endpoint(who: Who, verbs: Verbs, response: Response, ref: Ref) -> EndpointView:
    """One endpoint, by id or name. The ETag is its generation: what is asked for, not how it stands."""
    found = verbs.endpoints.get(who, ref)
    response.headers["etag"] = etag_of(found.status.generation)
    return found


@router.patch("/endpoints/{ref}", **CHANGE)
def update_endpoint(ask: Changing, request: Request, ref: Ref, body: UpdateEndpointBody) -> Response:
    """Change an endpoint's spec by an RFC 7396 merge patch; what is left out stays, null takes the default."""
    return accepted(request, ask, cmd.UpdateEndpoint(**whose(ask), endpoint=ref, spec=body.spec))


@router.post("/endpoints/{ref}/scale", **CHANGE)
def scale_endpoint(ask: Changing, request: Request, ref: Ref, body: ScaleEndpointBody) -> Response:
    """Change how many replicas may run; what is left out stays."""
    return accepted(request, ask, cmd.ScaleEndpoint(**whose(ask), endpoint=ref, scaling=body.scaling))


@router.post("/endpoints/{ref}/pause", **CHANGE)
def pause_endpoint(ask: Changing, request: Request, ref: Ref, body: PauseEndpointBody | None = None) -> Response:
    """Give back what it runs on; name, spec and keys stay."""
    deadline_s = body.drain_deadline_s if body else None
    return accepted(request, ask, cmd.PauseEndpoint(**whose(ask), endpoint=ref, drain_deadline_s=deadline_s))


@router.post("/endpoints/{ref}/drain", **CHANGE)
def drain_endpoint(ask: Changing, request: Request, ref: Ref, body: DrainEndpointBody) -> Response:
    """Take no new requests, let live streams finish until the deadline, then pause."""
    return accepted(request, ask, cmd.DrainEndpoint(**whose(ask), endpoint=ref, drain_deadline_s=body.drain_deadline_s))


@router.post("/endpoints/{ref}/resume", **CHANGE)
def resume_endpoint(ask: Changing, request: Request, ref: Ref) -> Response:
    """Bring back what was paused or has failed."""
    return accepted(request, ask, cmd.ResumeEndpoint(**whose(ask), endpoint=ref))


@router.delete("/endpoints/{ref}", **CHANGE)
def delete_endpoint(ask: Changing, request: Request, ref: Ref, drain_deadline_s: DrainDeadline = None) -> Response:
    """Take an endpoint away for good, by id or name."""
    return accepted(request, ask, cmd.DeleteEndpoint(**whose(ask), endpoint=ref, drain_deadline_s=drain_deadline_s))
