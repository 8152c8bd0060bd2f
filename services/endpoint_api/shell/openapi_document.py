"""The OpenAPI document of the HTTP API: made from an app's routes, told to people and programs alike."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

from libs.common.schemas.openapi import tidied

OPEN: Final = frozenset({"/healthz"})
DESCRIPTION: Final = (
    "Endpoints that serve a model, from the first request for one to its end, and everything around them: operations, "
    "keys, what is sold, who belongs to the tenant.\n\n"
    "Send your key as `Authorization: Bearer <key>`. What the key's tenant does not own is not found, whatever it is. "
    "A change is accepted with 202 and an operation; watch the endpoint's `status.stage`, or the events of the bus. "
    "Send `Idempotency-Key` with every change: the same key and body is the same change. Every refusal is a problem "
    "(RFC 9457) with a stable `code`, what to do in `detail`, and whether a repeat can help in `retryable`."
)


def document_of(app: FastAPI) -> dict[str, Any]:
    """The document of an app's routes as they are."""
    return tidied(app.openapi(), description=DESCRIPTION, is_open=OPEN)
