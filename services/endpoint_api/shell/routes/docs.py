"""Routes on the contract itself: as pages for people, as documents for programs. No key is needed."""

from __future__ import annotations

from functools import cache
from typing import Final

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from libs.common.schemas import asyncapi
from services.endpoint_api.shell.openapi_document import document_of
from services.endpoint_api.shell.pages.asyncapi_page import asyncapi_page
from services.endpoint_api.shell.pages.markup import POLICY
from services.endpoint_api.shell.pages.openapi_page import openapi_page

router: Final = APIRouter(include_in_schema=False)

HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


@router.get("/docs")
def http_page(request: Request) -> Response:
    """The HTTP API as a page."""
    return _page(_http_page(request.app))


@router.get("/docs/events")
def bus_page() -> Response:
    """The bus as a page."""
    return _page(_bus_page())


@router.get("/openapi.json")
def openapi_document(request: Request) -> Response:
    """The HTTP API as OpenAPI 3.1."""
    return JSONResponse(document_of(request.app), headers={"cache-control": "no-cache"})


@router.get("/asyncapi.yaml")
def asyncapi_document() -> Response:
    """The bus as AsyncAPI 3."""
    return Response(_bus_document(), media_type="application/yaml", headers={"cache-control": "no-cache"})


def _page(text: str) -> Response:
    return Response(text, media_type="text/html; charset=utf-8", headers=HEADERS)


@cache
def _http_page(app: FastAPI) -> str:
    return openapi_page(document_of(app))


@cache
def _bus_page() -> str:
    return asyncapi_page(asyncapi.document())


@cache
def _bus_document() -> str:
    return asyncapi.asyncapi_file()
