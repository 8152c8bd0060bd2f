"""Who may read which part of the audit.

A project's key reads its project's rows; who holds a role in the whole tenant, all of the tenant's; an operator, those
of the tenant it looks at, or all. A tenant knows rows by its own numbers: those of the whole would count others' work.
"""

from __future__ import annotations

from dataclasses import dataclass

from libs.common.audit import Sealed
from services.endpoint_api.core.caller import Caller, Scope


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the audit; None: of all tenants, of all projects and the tenant as a whole."""

    tenant_id: str | None
    project_id: str | None

    def number(self, row: Sealed) -> int:
        """What the reader of this part calls the row."""
        return row.seq if self.tenant_id is None else row.tenant_seq


def part_of(caller: Caller) -> Part:
    """What the caller may read. Raises Forbidden for one that may change nothing, and so has nothing to answer for."""
    caller.needs_anywhere(Scope.MANAGE, Scope.OPERATE)
    if Scope.OPERATE in caller.tenant_scopes:
        return Part(caller.tenant_id or None, caller.project_id or None)
    has_all = Scope.MANAGE in caller.tenant_scopes
    return Part(caller.tenant_id, None if has_all else caller.project_id)
