"""The ASGI app: all routes behind the edge."""

from __future__ import annotations

from functools import cache
from typing import Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from libs.common.errors import MillraceError
from libs.common.ids import Entropy
from services.endpoint_api.shell import problems
from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.auth import Authenticator
from services.endpoint_api.shell.behind import Behind
from services.endpoint_api.shell.doors.http import Remember, Repeated, repeated
from services.endpoint_api.shell.edge import Edge
from services.endpoint_api.shell.routes import (
    audit,
    docs,
    domains,
    endpoints,
    keys,
    members,
    offers,
    operations,
    tenants,
    watch,
    webhooks,
)
from services.endpoint_api.shell.routes.asking import OF_ANY, REFUSALS

PREFIX: Final = "/v1"
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
    domains.router,
)


def create_app(
    api: Api,
    authenticator: Authenticator,
    *,
    entropy: Entropy,
) -> Edge:
    """The ASGI app."""
    return Edge(Remember(routed(), Behind(api, authenticator)), entropy=entropy)


@cache
def routed() -> FastAPI:
    """All routes, with nothing behind them yet: each request says what is (`behind`)."""
    app = FastAPI(
        title="Millrace", version="1", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX, responses=REFUSALS)
    app.include_router(docs.router)
    app.add_api_route("/healthz", healthz, methods=["GET"], responses={code: REFUSALS[code] for code in OF_ANY})
    app.state.allowed = allowed
    app.add_exception_handler(MillraceError, problems.refused)
    app.add_exception_handler(Repeated, repeated)
    app.add_exception_handler(RequestValidationError, problems.invalid)
    app.add_exception_handler(HTTPException, problems.http_refused)
    app.add_exception_handler(Exception, problems.broken)
    return app


def allowed(path: str) -> str:
    """All methods of a path that there is, for an Allow header: each route by itself knows its own only."""
    inner = path.removeprefix(PREFIX)
    routes = [each for router in ROUTERS for each in router.routes if isinstance(each, APIRoute)]
    found = {method for each in routes if each.path_regex.match(inner) for method in each.methods or ()} or {"GET"}
    return ", ".join(sorted(found | ({"HEAD"} if "GET" in found else set())))


def healthz() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}
