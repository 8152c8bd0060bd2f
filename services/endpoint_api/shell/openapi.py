"""The OpenAPI document of the HTTP API: `python -m services.endpoint_api.shell.openapi [--check]` writes the file."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

from libs.common.events.event import Owner
from libs.common.schemas.openapi import tidied, write_or_check
from services.endpoint_api.shell.routes.app import routed

OPEN: Final = frozenset({"/healthz"})
DESCRIPTION: Final = (
    "Endpoints that serve a model, from the first request for one to its end, and everything around them: operations, "
    "keys, what is sold, who belongs to the tenant.\n\n"
    "Send your key as `Authorization: Bearer <key>`. What the key's tenant does not own is not found, whatever it is. "
    "A change is accepted with 202 and an operation; watch the endpoint's `status.stage`, or the events of the bus. "
    "Send `Idempotency-Key` with every change: the same key and body is the same change. Every refusal is a problem "
    "(RFC 9457) with a stable `code`, what to do in `detail`, and whether a repeat can help in `retryable`."
)


def document(app: FastAPI | None = None) -> dict[str, Any]:
    """The document of the routes as they are."""
    return tidied((app or routed()).openapi(), description=DESCRIPTION, is_open=OPEN)


if __name__ == "__main__":
    raise SystemExit(write_or_check(Owner.ENDPOINT_API, document()))
