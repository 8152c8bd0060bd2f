"""`python -m services.endpoint_api.shell.openapi [--check]`: writes the OpenAPI document into schemas/."""

from __future__ import annotations

from typing import Any

from libs.common.events.event import Owner
from libs.common.schemas.openapi import write_or_check
from services.endpoint_api.shell.openapi_document import document_of
from services.endpoint_api.shell.routes.app import routed


def document() -> dict[str, Any]:
    """The document of this build."""
    return document_of(routed())


if __name__ == "__main__":
    raise SystemExit(write_or_check(Owner.ENDPOINT_API, document()))
