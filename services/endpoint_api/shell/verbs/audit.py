"""The verb on the audit: who changed what, read by those it concerns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libs.common.audit import Sealed
from services.endpoint_api.core.auditing import part_of
from services.endpoint_api.core.caller import Caller
from services.endpoint_api.core.refusal import FieldRefused
from services.endpoint_api.shell.ports import Ports

LIST_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Line:
    """A row under the number that its reader knows it by."""

    number: int
    row: Sealed


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some rows, and the number to go on from; None after the last."""

    items: tuple[Line, ...]
    next_after: int | None


class AuditVerbs:
    """What a tenant may ask of the audit. Raises Forbidden for a missing scope."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def list(self, caller: Caller, *, after: int = 0, limit: int = 50) -> AuditPage:
        """The rows that the caller may see, in their order, from behind row ``after``."""
        seen = part_of(caller)
        if not 1 <= limit <= LIST_MAX:
            raise FieldRefused("limit", f"must be 1 to {LIST_MAX}")
        if not 0 <= after < 1 << 53:
            raise FieldRefused("after", "must be a row's number, or 0 to begin")
        found = self._ports.store.deeds(
            tenant_id=seen.tenant_id, project_id=seen.project_id, after=after, limit=limit + 1
        )
        items = tuple(Line(seen.number(each), each) for each in found[:limit])
        return AuditPage(items, items[-1].number if len(found) > limit else None)
