"""Decide for keys: recorded by hash, told to routers through the bucket `keys`, refused for good once revoked."""

from __future__ import annotations

from dataclasses import replace

from libs.common.bus.streams import KEYS
from libs.common.decision import Decision, Give, Put, Take
from libs.common.errors import Conflict, NotFound
from libs.common.events.endpoint import KeyCreated, KeyRevoked
from libs.common.events.envelope import Envelope
from libs.common.events.tables import KeyEntry
from libs.common.ids import ProjectId, TenantId
from services.endpoint_api.core.commands import CreateKey, RevokeKey
from services.endpoint_api.core.state import Key


def decide(key: Key, envelope: Envelope, now_ms: int) -> Decision[Key]:
    """The key after ``envelope``. A revoked key stays revoked."""
    match envelope.data:
        case CreateKey() as command:
            return _create(key, command, now_ms)
        case RevokeKey():
            return _revoke(key, now_ms)
        case other:
            raise AssertionError(f"keys hear no {other.kind}")


def keys_counter(tenant_id: str) -> str:
    """The store's counter of a tenant's keys that are not revoked."""
    return f"keys/{tenant_id}"


def entry_of(key: Key) -> KeyEntry | None:
    """The key as those who check it know it; None once it is revoked, or if it never was."""
    if not key.sha256 or key.revoked_ms is not None:
        return None
    return KeyEntry(
        key_id=key.id,
        sha256=key.sha256,
        tenant_id=key.tenant_id,
        project_id=key.project_id,
        scopes=key.scopes,
        expires_at_ms=key.expires_at_ms,
    )


def _create(key: Key, command: CreateKey, now_ms: int) -> Decision[Key]:
    if key.sha256:
        raise Conflict(f"key {key.id} exists already", code="key_exists")
    created = replace(
        key,
        tenant_id=TenantId(command.tenant_id),
        project_id=ProjectId(command.project_id),
        name=command.name,
        scopes=command.scopes,
        sha256=command.sha256,
        created_ms=now_ms,
        expires_at_ms=command.expires_at_ms,
        request=command.request,
        member=command.member,
    )
    entry = entry_of(created)
    assert entry is not None, key.id
    told = KeyCreated(tenant_id=created.tenant_id, project_id=created.project_id, key_id=key.id, scopes=created.scopes)
    return Decision(
        created,
        events=(told,),
        counters=(Take(keys_counter(created.tenant_id), 1, command.keys_max),),
        puts=(Put(KEYS, key.id, entry.model_dump_json().encode()),),
    )


def _revoke(key: Key, now_ms: int) -> Decision[Key]:
    if not key.sha256:
        raise NotFound(f"there is no key {key.id}")
    if key.revoked_ms is not None:
        return Decision(key)
    told = KeyRevoked(tenant_id=key.tenant_id, project_id=key.project_id, key_id=key.id)
    return Decision(
        replace(key, revoked_ms=max(now_ms, key.created_ms)),
        events=(told,),
        counters=(Give(keys_counter(key.tenant_id), 1),),
        puts=(Put(KEYS, key.id, None),),
    )
