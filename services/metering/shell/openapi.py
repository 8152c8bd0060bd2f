"""`python -m services.metering.shell.openapi [--check]`: writes the usage API's OpenAPI document into schemas/."""

from __future__ import annotations

from typing import Any, Final

from libs.common.events.event import Owner
from libs.common.schemas.openapi import tidied, write_or_check
from services.metering.shell.api import routed

DESCRIPTION: Final = (
    "What was used, as totals and as the lines they are the sum of: the proof behind every `usage.recorded` event.\n\n"
    "Send a key with scope read or manage as `Authorization: Bearer <key>`. You see the key's tenant, and nothing "
    "else: an endpoint of somebody else looks like one that never was."
)


def document() -> dict[str, Any]:
    """The document of this build."""
    return tidied(routed().openapi(), description=DESCRIPTION, is_open=frozenset(), is_traced=False)


if __name__ == "__main__":
    raise SystemExit(write_or_check(Owner.METERING, document()))
