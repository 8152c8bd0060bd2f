"""Routes on endpoints and their operations."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from services.endpoint_api.core.status import EndpointView, OperationView
from services.endpoint_api.shell.bodies import CreateEndpointBody
from services.endpoint_api.shell.routes.asking import Asking, Verbs, Who, committed

router: Final = APIRouter(tags=["endpoints"])


class EndpointList(BaseModel):
    """One page of endpoints."""

    model_config = ConfigDict(frozen=True)

    items: tuple[EndpointView, ...]
    next_cursor: str | None


@router.post("/endpoints", status_code=202)
def create_endpoint(
    ask: Asking, verbs: Verbs, request: Request, response: Response, body: CreateEndpointBody
) -> OperationView:
    """Ask for an endpoint."""
    return _accepted(request, response, verbs.endpoints.create(ask, name=body.name, spec=body.spec.spec()))


@router.get("/endpoints")
def list_endpoints(who: Who, verbs: Verbs, cursor: str = "", limit: int = 50) -> EndpointList:
    """Endpoints of the project."""
    page = verbs.endpoints.list(who, cursor=cursor, limit=limit)
    return EndpointList(items=page.items, next_cursor=page.next_cursor)


@router.get("/endpoints/{ref}")
def get_endpoint(who: Who, verbs: Verbs, ref: str) -> EndpointView:
    """One endpoint, by id or name."""
    return verbs.endpoints.get(who, ref)


@router.delete("/endpoints/{ref}", status_code=202)
def delete_endpoint(ask: Asking, verbs: Verbs, request: Request, response: Response, ref: str) -> OperationView:
    """Ask for an endpoint's end, by id or name."""
    return _accepted(request, response, verbs.endpoints.delete(ask, ref))


@router.get("/operations/{operation_id}")
def get_operation(who: Who, verbs: Verbs, operation_id: str) -> OperationView:
    """How an accepted command stands."""
    return verbs.endpoints.operation(who, operation_id)


def _accepted(request: Request, response: Response, operation: OperationView) -> OperationView:
    committed(request)
    response.headers["location"] = f"/v1/operations/{operation.id}"
    return operation
