"""The verb on the audit: a tenant reads who changed what of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libs.common.audit import Sealed
from services.endpoint_api.core.caller import Caller, Scope
from services.endpoint_api.core.refusal import FieldRefused
from services.endpoint_api.shell.ports import Ports

LIST_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some rows, and the number to go on from; None after the last."""

    items: tuple[Sealed, ...]
    next_after: int | None


class AuditVerbs:
    """What a tenant may ask of the audit. Raises Forbidden for a missing scope."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def list(self, caller: Caller, *, after: int = 0, limit: int = 50) -> AuditPage:
        """The tenant's rows in their order, from behind row ``after``."""
        caller.needs(Scope.MANAGE)
        if not 1 <= limit <= LIST_MAX:
            raise FieldRefused("limit", f"must be 1 to {LIST_MAX}")
        if not 0 <= after < 1 << 53:
            raise FieldRefused("after", "must be a row's number, or 0 to begin")
        found = self._ports.store.deeds(tenant_id=caller.tenant_id, after=after, limit=limit + 1)
        items = tuple(found[:limit])
        return AuditPage(items, items[-1].seq if len(found) > limit else None)
