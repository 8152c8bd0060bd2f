"""The event of the audit: each change that somebody asked for, told where a holder of the database can not unsay it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from libs.common.events.event import Event, Owner


class AuditRecorded(Event):
    """Somebody asked for a change and it was made; the subject is the row's number in the audit."""

    kind: ClassVar[str] = "audit.recorded"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    seq: int = Field(ge=1, description="The row's number, from 1 without a gap.")
    hash: str = Field(description="SHA-256 of the row and of the hashes of the rows before it, see libs.common.audit.")
    at_ms: int
    tenant_id: str = Field(description="Empty for what concerns no tenant.")
    project_id: str = Field(default="", description="Empty for what concerns the tenant as a whole.")
    actor: str = Field(description="key:<id>, user:<subject>, frontend:<actor> or operator:<id>.")
    action: str = Field(description="What was asked, such as create_endpoint.")
    target: str = Field(description="Id of the thing that changed.")
    request_id: str
