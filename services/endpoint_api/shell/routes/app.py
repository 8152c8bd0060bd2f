"""The ASGI app: all routes behind the edge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from libs.common.errors import MillraceError
from libs.common.ids import Entropy
from services.endpoint_api.shell import problems
from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.auth import Authenticator
from services.endpoint_api.shell.doors.table import Front
from services.endpoint_api.shell.edge import Edge
from services.endpoint_api.shell.routes import (
    audit,
    docs,
    endpoints,
    keys,
    members,
    offers,
    operations,
    tenants,
    watch,
    webhooks,
)
from services.endpoint_api.shell.routes.asking import REFUSALS

ROUTERS: Final = (
    endpoints.router,
    operations.router,
    keys.router,
    offers.router,
    tenants.router,
    members.router,
    audit.router,
    watch.router,
    webhooks.router,
)


def create_app(
    api: Api,
    authenticator: Authenticator,
    *,
    entropy: Entropy,
    committed: Callable[[], None] = lambda: None,
) -> Edge:
    """The ASGI app. ``committed`` is called after each command, so that its events leave at once."""
    app = routed()
    app.state.api = api
    app.state.front = Front(api)
    app.state.authenticator = authenticator
    app.state.committed = committed
    app.add_exception_handler(MillraceError, problems.refused)
    app.add_exception_handler(RequestValidationError, problems.invalid)
    app.add_exception_handler(HTTPException, problems.http_refused)
    app.add_exception_handler(Exception, problems.broken)
    return Edge(app, entropy=entropy)


def routed() -> FastAPI:
    """All routes, with nothing behind them yet."""
    app = FastAPI(
        title="Millrace", version="1", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    for router in ROUTERS:
        app.include_router(router, prefix="/v1", responses=REFUSALS)
    app.include_router(docs.router)
    app.add_api_route("/healthz", healthz, methods=["GET"])
    return app


def healthz() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}
