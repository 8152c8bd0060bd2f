"""Routes on operations."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from libs.common.events import command as cmd
from services.endpoint_api.core.state import Outcome
from services.endpoint_api.core.status import OperationView
from services.endpoint_api.shell.routes.answering import accepted, whose
from services.endpoint_api.shell.routes.asking import Asking, Verbs, Who

router: Final = APIRouter(tags=["operations"])

Id = Annotated[str, Path(min_length=1, max_length=64, description="Id of the operation.")]


class OperationList(BaseModel):
    """One page of operations."""

    model_config = ConfigDict(frozen=True)

    items: tuple[OperationView, ...]
    next_cursor: str | None


@router.get("/operations")
def list_operations(
    who: Who,
    verbs: Verbs,
    endpoint: Annotated[str | None, Query(max_length=64, description="Id or name of the only endpoint.")] = None,
    status: Outcome | None = None,
    cursor: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> OperationList:
    """Operations of the project's endpoints: by endpoint, oldest first."""
    page = verbs.operations.list(who, endpoint=endpoint, status=status, cursor=cursor, limit=limit)
    return OperationList(items=page.items, next_cursor=page.next_cursor)


@router.get("/operations/{operation_id}")
def get_operation(who: Who, verbs: Verbs, operation_id: Id) -> OperationView:
    """How an accepted command stands."""
    return verbs.operations.get(who, operation_id)


@router.post("/operations/{operation_id}/cancel", status_code=202, response_model=OperationView)
def cancel_operation(ask: Asking, request: Request, operation_id: Id) -> Response:
    """Undo what still runs: an update goes back to what ran before, a create is deleted."""
    return accepted(request, ask, cmd.CancelOperation(**whose(ask), operation=operation_id))


@router.post("/operations/{operation_id}/pause", status_code=202, response_model=OperationView)
def pause_operation(ask: Asking, request: Request, operation_id: Id) -> Response:
    """Hold a rollout where it is: no further replica is replaced until it is resumed; what serves goes on serving."""
    return accepted(request, ask, cmd.PauseOperation(**whose(ask), operation=operation_id))


@router.post("/operations/{operation_id}/resume", status_code=202, response_model=OperationView)
def resume_operation(ask: Asking, request: Request, operation_id: Id) -> Response:
    """Let a rollout that was paused go on."""
    return accepted(request, ask, cmd.ResumeOperation(**whose(ask), operation=operation_id))
