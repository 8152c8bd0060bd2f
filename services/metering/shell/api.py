"""The HTTP API of metering, joined: what was used, what was stated, what differs, and what is left."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from libs.common.errors import MillraceError
from services.metering.shell import accounting, budgeting, problems, routes
from services.metering.shell.accounting import Accounts
from services.metering.shell.budgeting import Budgets
from services.metering.shell.routes import Reader


def create_app(reader: Reader, accounts: Accounts, budgets: Budgets) -> FastAPI:
    """The ASGI app over a ledger and its books."""
    app = routed()
    app.state.reader = reader
    app.state.accounts = accounts
    app.state.budgets = budgets
    app.add_exception_handler(MillraceError, problems.refused)
    app.add_exception_handler(RequestValidationError, problems.invalid)
    app.add_exception_handler(HTTPException, problems.no_route)
    app.add_exception_handler(Exception, problems.broken)
    return app


def routed() -> FastAPI:
    """All routes, with nothing behind them yet."""
    app = FastAPI(
        title="Millrace usage", version="1", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    app.include_router(routes.router())
    app.include_router(accounting.router())
    app.include_router(budgeting.router())
    return app
