"""The route on the audit."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from services.endpoint_api.core.shown import rfc3339
from services.endpoint_api.shell.routes.asking import Verbs, Who
from services.endpoint_api.shell.verbs.audit import Line

router: Final = APIRouter(tags=["audit"])


class AuditRow(BaseModel):
    """Who changed what. `hash` covers the row and the tenant's before it: keep the newest, and none can be unsaid."""

    model_config = ConfigDict(frozen=True)

    seq: int = Field(description="The tenant's number of it, without gaps; for an operator of no tenant, that of all.")
    tenant_id: str
    project_id: str = Field(description="Empty for what concerns the tenant as a whole.")
    at: str
    actor: str = Field(description="key:<id>, user:<subject>, frontend:<actor> or operator:<id>.")
    action: str
    target: str
    request_id: str
    before_sha256: str = Field(description="Of the record before; empty if there was none.")
    after_sha256: str
    previous: str = Field(description="Hash of the tenant's row before; empty for its first.")
    hash: str


class AuditList(BaseModel):
    """Some rows, oldest first."""

    model_config = ConfigDict(frozen=True)

    items: tuple[AuditRow, ...]
    next_after: int | None


@router.get("/audit")
def list_audit(
    who: Who, verbs: Verbs, after: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> AuditList:
    """Changes that were asked for, oldest first, from behind row `after`: a key reads those of its project, who has a
    role in the whole tenant all of the tenant's, an operator all of the tenant it names, or of everybody.
    """
    page = verbs.audit.list(who, after=after, limit=limit)
    return AuditList(items=tuple(_row(each) for each in page.items), next_after=page.next_after)


def _row(line: Line) -> AuditRow:
    sealed, deed = line.row, line.row.deed
    return AuditRow(
        seq=line.number,
        tenant_id=deed.tenant_id,
        project_id=deed.project_id,
        at=rfc3339(deed.at_ms),
        actor=deed.actor,
        action=deed.action,
        target=deed.target,
        request_id=deed.request_id,
        before_sha256=deed.before_sha256,
        after_sha256=deed.after_sha256,
        previous=sealed.tenant_previous,
        hash=sealed.tenant_hash,
    )
