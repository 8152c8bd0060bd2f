"""What the runner writes into the audit for a command that was taken, and what it tells the bus of it."""

from __future__ import annotations

import hashlib

from libs.common.audit import Deed, Sealed
from libs.common.events.audit import AuditRecorded
from libs.common.events.envelope import Envelope, effect
from libs.common.events.event import Command
from libs.common.store.port import Record


def deed_of(cause: Envelope, record: Record, *, tenant_id: str, project_id: str, after: bytes, now_ms: int) -> Deed:
    """Who changed ``record`` into ``after``, as the audit keeps it."""
    asked = cause.data
    assert isinstance(asked, Command), asked.kind
    return Deed(
        at_ms=now_ms,
        tenant_id=tenant_id,
        actor=asked.actor,
        action=asked.kind.removeprefix("internal."),
        target=record.key,
        request_id=asked.request_id,
        before_sha256=_sha256(record.state) if record.version else "",
        after_sha256=_sha256(after),
        project_id=project_id,
    )


def told_of(row: Sealed, cause: Envelope, record: Record) -> Envelope:
    """The event that makes the end of the chain known outside this database."""
    deed = row.deed
    told = AuditRecorded(
        seq=row.seq,
        hash=row.hash,
        at_ms=deed.at_ms,
        tenant_id=deed.tenant_id,
        project_id=deed.project_id,
        actor=deed.actor,
        action=deed.action,
        target=deed.target,
        request_id=deed.request_id,
    )
    teller = f"audit|{record.kind}|{record.key}"
    return effect(
        cause, told, teller=teller, subject=str(row.seq), index=0, generation=0, sequence=row.seq, now_ms=deed.at_ms
    )


def _sha256(state: bytes) -> str:
    return hashlib.sha256(state).hexdigest()
