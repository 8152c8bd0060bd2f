"""The HTTP routes: read the request, call the verb, answer. No rules; those are in core/."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from libs.common.errors import MillraceError
from libs.common.ids import Entropy
from services.endpoint_api.core.admission import Caller
from services.endpoint_api.core.offers import ModelView, TierView
from services.endpoint_api.core.status import EndpointView, KeyView, OperationView
from services.endpoint_api.shell import problems
from services.endpoint_api.shell.api import EndpointApi
from services.endpoint_api.shell.auth import Authenticator
from services.endpoint_api.shell.bodies import CreateEndpointBody, CreateKeyBody
from services.endpoint_api.shell.edge import Edge

REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    code: {"model": problems.Problem, "content": {problems.MEDIA_TYPE: {}}}
    for code in (400, 401, 403, 404, 409, 413, 415, 422, 429, 503)
}

router: Final = APIRouter(prefix="/v1", responses=REFUSALS)


class EndpointList(BaseModel):
    """One page of endpoints."""

    model_config = ConfigDict(frozen=True)

    items: tuple[EndpointView, ...]
    next_cursor: str | None


class KeyList(BaseModel):
    """All keys of the project."""

    model_config = ConfigDict(frozen=True)

    items: tuple[KeyView, ...]


class NewKeyView(KeyView):
    """A new key. `key` is the secret: shown this once."""

    key: str


class TierList(BaseModel):
    """Tiers that may be named in a spec."""

    model_config = ConfigDict(frozen=True)

    items: tuple[TierView, ...]


class ModelList(BaseModel):
    """Models that may be named in a spec."""

    model_config = ConfigDict(frozen=True)

    items: tuple[ModelView, ...]


def create_app(
    api: EndpointApi,
    authenticator: Authenticator,
    *,
    entropy: Entropy,
    committed: Callable[[], None] = lambda: None,
) -> Edge:
    """The ASGI app. ``committed`` is called after each command, so that its events leave at once."""
    app = FastAPI(title="Millrace", version="1", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.api = api
    app.state.authenticator = authenticator
    app.state.committed = committed
    app.include_router(router)
    app.add_api_route("/healthz", healthz, methods=["GET"])
    app.add_exception_handler(MillraceError, problems.refused)
    app.add_exception_handler(RequestValidationError, problems.invalid)
    app.add_exception_handler(HTTPException, problems.http_refused)
    app.add_exception_handler(Exception, problems.broken)
    return Edge(app, entropy=entropy)


def healthz() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}


def _api(request: Request) -> EndpointApi:
    api: EndpointApi = request.app.state.api
    return api


def _caller(request: Request) -> Caller:
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator.caller(request.headers.get("authorization", ""))


Api = Annotated[EndpointApi, Depends(_api)]
Who = Annotated[Caller, Depends(_caller)]
IdempotencyKey = Annotated[str | None, Header(description="Makes a repeat of this request the same request.")]


@router.post("/endpoints", status_code=202)
def create_endpoint(
    who: Who,
    api: Api,
    request: Request,
    response: Response,
    body: CreateEndpointBody,
    idempotency_key: IdempotencyKey = None,
) -> OperationView:
    """Ask for an endpoint."""
    operation = api.create_endpoint(
        who,
        name=body.name,
        spec=body.spec.spec(),
        idempotency_key=idempotency_key,
        request_id=request.state.request_id,
        traceparent=request.state.traceparent,
    )
    return _accepted(request, response, operation)


@router.get("/endpoints")
def list_endpoints(who: Who, api: Api, cursor: str = "", limit: int = 50) -> EndpointList:
    """Endpoints of the project."""
    page = api.list_endpoints(who, cursor=cursor, limit=limit)
    return EndpointList(items=page.items, next_cursor=page.next_cursor)


@router.get("/endpoints/{ref}")
def get_endpoint(who: Who, api: Api, ref: str) -> EndpointView:
    """One endpoint, by id or name."""
    return api.get_endpoint(who, ref)


@router.delete("/endpoints/{ref}", status_code=202)
def delete_endpoint(who: Who, api: Api, request: Request, response: Response, ref: str) -> OperationView:
    """Ask for an endpoint's end, by id or name."""
    return _accepted(request, response, api.delete_endpoint(who, ref, traceparent=request.state.traceparent))


@router.get("/operations/{operation_id}")
def get_operation(who: Who, api: Api, operation_id: str) -> OperationView:
    """How an accepted command stands."""
    return api.get_operation(who, operation_id)


@router.post("/keys", status_code=201)
def create_key(
    who: Who,
    api: Api,
    request: Request,
    response: Response,
    body: CreateKeyBody,
    idempotency_key: IdempotencyKey = None,
) -> NewKeyView:
    """Make a key; the answer is the only place that ever shows it."""
    made = api.create_key(
        who,
        name=body.name,
        scopes=body.scopes,
        expires_in_s=body.expires_in_s,
        idempotency_key=idempotency_key,
        traceparent=request.state.traceparent,
    )
    request.app.state.committed()
    response.headers["cache-control"] = "no-store"
    response.headers["location"] = f"/v1/keys/{made.key.id}"
    return NewKeyView(**made.key.model_dump(), key=made.plaintext)


@router.get("/keys")
def list_keys(who: Who, api: Api) -> KeyList:
    """All keys of the project, without their secrets."""
    return KeyList(items=api.list_keys(who))


@router.delete("/keys/{key_id}")
def revoke_key(who: Who, api: Api, request: Request, key_id: str) -> KeyView:
    """Refuse a key from now on."""
    revoked = api.revoke_key(who, key_id, traceparent=request.state.traceparent)
    request.app.state.committed()
    return revoked


@router.get("/tiers")
def list_tiers(who: Who, api: Api) -> TierList:
    """What can be bought."""
    return TierList(items=api.list_tiers(who))


@router.get("/models")
def list_models(who: Who, api: Api) -> ModelList:
    """What can be served."""
    return ModelList(items=api.list_models(who))


def _accepted(request: Request, response: Response, operation: OperationView) -> OperationView:
    request.app.state.committed()
    response.headers["location"] = f"/v1/operations/{operation.id}"
    return operation
