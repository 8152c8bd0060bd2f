"""Decide for keys: recorded by hash, told to routers through the bucket `keys`, refused for good once revoked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from libs.common.bus.streams import KEYS
from libs.common.decision import Decision, Give, Put, Take
from libs.common.errors import Conflict, NotFound
from libs.common.events.endpoint import KeyCreated, KeyRevoked, KeyRotated, Limits
from libs.common.events.envelope import Envelope
from libs.common.events.tables import KeyEntry
from libs.common.ids import ProjectId, TenantId
from libs.common.key_snapshot import OVER_KEPT_MS, KeySnapshot
from libs.common.keys import networks_of
from libs.common.runner import Woke
from services.endpoint_api.core import admission, quotas
from services.endpoint_api.core.caller import Scope
from services.endpoint_api.core.commands import CreateKey, PutKeyAgain, RevokeKey, RotateKey, SetKeyBudget, UseKey
from services.endpoint_api.core.refusal import FieldRefused
from services.endpoint_api.core.state import Key

OVERLAP_S: Final = 24 * 3600
OVERLAP_MAX_S: Final = 30 * 24 * 3600
DROP_AFTER_MS: Final = 5 * 60 * 1000  # Beyond any clock's error: the key works until its time on every router.
VERSION_COUNTER: Final = "keys_version"  # The store's: how often anything that routers must know of keys changed.
NEXT_VERSION: Final = Take(VERSION_COUNTER, 1, 2**53)  # A number that JSON of any language can carry; never reached.
LIST_MAX: Final = 64  # Names or blocks of one key; it keeps the entry small in every router's memory.


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a key may do less than its scopes say: only these endpoints, from there, so much a minute and a month."""

    models: tuple[str, ...] = ()
    allowed_ips: tuple[str, ...] = ()
    tokens_per_month: int | None = None
    money_per_month_nano: int | None = None
    limits: Limits | None = None


UNBOUND: Final = Bounds()


def decide(key: Key, envelope: Envelope, now_ms: int) -> Decision[Key]:
    """The key after ``envelope``. A revoked key stays revoked. What routers are told raises the version of all keys."""
    decision = _decided(key, envelope, now_ms)
    if not decision.puts:
        return decision
    # First, so that of two changes in one commit none holds a tenant's counter while it waits for this one.
    return replace(decision, counters=(NEXT_VERSION, *decision.counters))


def _decided(key: Key, envelope: Envelope, now_ms: int) -> Decision[Key]:
    match envelope.data:
        case CreateKey() as command:
            return _create(key, command, now_ms)
        case RotateKey() as command:
            return _rotate(key, command, now_ms)
        case SetKeyBudget() as command:
            return _set_budget(key, command, now_ms)
        case Woke():
            return _drop(key, now_ms)
        case RevokeKey():
            return _revoke(key, now_ms)
        case UseKey() as use:
            last_ms = max(use.last_used_ms, key.last_used_ms or 0) if key.sha256 else None
            return Decision(replace(key, last_used_ms=last_ms), wake_at_ms=_drop_at_ms(key))
        case PutKeyAgain():
            return Decision(key, puts=(put_of(key),) if key.sha256 else (), wake_at_ms=_drop_at_ms(key))
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
        models=key.models,
        allowed_ips=key.allowed_ips,
        budget=key.budget if key.has_budget else "",
        tokens_per_month=quotas.tokens_of(tokens=key.tokens_per_month, nano=key.money_per_month_nano),
        money_per_month_nano=key.money_per_month_nano,
        **({} if key.limits is None else key.limits.model_dump()),
    )


def snapshot_of(keys: Iterable[Key], *, epoch: int, version: int, now_ms: int) -> KeySnapshot:
    """What routers are to know of all keys. ``version`` was read before the first of them."""
    entries, over = [], []
    for key in keys:
        entry = None if key.is_dropped else entry_of(key)
        if entry is not None:
            entries.append(entry)
        elif now_ms - max(key.revoked_ms or 0, key.expires_at_ms or 0) <= OVER_KEPT_MS:
            over.append(key.id)
    return KeySnapshot(epoch=epoch, version=version, issued_at_ms=now_ms, keys=tuple(entries), over=tuple(over))


def put_of(key: Key) -> Put:
    """What the bucket is to say of a key: its entry, or that it is gone for good."""
    entry = None if key.is_dropped else entry_of(key)
    return Put(KEYS, key.id, None if entry is None else entry.model_dump_json().encode())


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
        models=command.models,
        allowed_ips=command.allowed_ips,
        is_test=command.is_test,
        tokens_per_month=command.tokens_per_month,
        money_per_month_nano=command.money_per_month_nano,
        budget=command.budget,
        limits=command.limits,
    )
    created = _with_budget(created)
    told = KeyCreated(tenant_id=created.tenant_id, project_id=created.project_id, key_id=key.id, scopes=created.scopes)
    return Decision(
        created,
        events=(told,),
        counters=(Take(keys_counter(created.tenant_id), 1, command.keys_max),),
        wake_at_ms=_drop_at_ms(created),
        puts=(put_of(created),),
    )


def _set_budget(key: Key, command: SetKeyBudget, now_ms: int) -> Decision[Key]:
    check_is_good(key, now_ms=now_ms)
    changed = _with_budget(
        replace(key, tokens_per_month=command.tokens_per_month, money_per_month_nano=command.money_per_month_nano)
    )
    return Decision(changed, puts=() if changed == key else (put_of(changed),), wake_at_ms=_drop_at_ms(changed))


def _with_budget(key: Key) -> Key:
    """The key with the name of what it spends; one that it had stays its own, also while nothing limits it."""
    if key.budget or not key.has_budget:
        return key
    return replace(key, budget=f"{key.tenant_id}.{key.project_id}.{key.id}")


def is_over(key: Key, *, now_ms: int) -> bool:
    """Whether it was revoked, or its time has passed."""
    return key.revoked_ms is not None or (key.expires_at_ms is not None and now_ms >= key.expires_at_ms)


def check_is_good(key: Key, *, now_ms: int) -> None:
    """Raises NotFound for a key that never was, Conflict for one that is over."""
    if not key.sha256:
        raise NotFound(f"there is no key {key.id}")
    if is_over(key, now_ms=now_ms):
        raise Conflict(f"key {key.id} is revoked or expired: make a new key instead", code="key_over")


def check_rotation(key: Key, *, overlap_s: int, now_ms: int) -> None:
    """Raises FieldRefused for an overlap out of bounds, Conflict for a key that is over or was rotated before."""
    if not 0 <= overlap_s <= OVERLAP_MAX_S:
        raise FieldRefused("overlap_s", f"must be 0 to {OVERLAP_MAX_S} seconds; left out, {OVERLAP_S}")
    if key.successor:
        raise Conflict(f"key {key.id} was rotated before: rotate its successor {key.successor}", code="key_rotated")
    check_is_good(key, now_ms=now_ms)


def check_bounds(bounds: Bounds, *, scopes: Sequence[str]) -> None:
    """Raises FieldRefused for a list of models or addresses that can't be meant, and what would not bind the key."""
    models, allowed_ips = bounds.models, bounds.allowed_ips
    if len(models) > LIST_MAX or len(set(models)) < len(models):
        raise FieldRefused("models", f"must name at most {LIST_MAX} endpoints, each once")
    for each in models:
        admission.check_name(each, field="models")
    for name in ("models", "tokens_per_month", "money_per_month_nano", "limits"):
        if getattr(bounds, name) not in ((), None) and Scope.MANAGE in scopes:
            raise FieldRefused(name, "can't bind a key that may manage: it could make itself one that is not bound")
    if len(allowed_ips) > LIST_MAX:
        raise FieldRefused("allowed_ips", f"must be at most {LIST_MAX} blocks")
    try:
        networks_of(allowed_ips)
    except ValueError:
        message = "must be CIDR blocks such as 192.0.2.0/24 or 2001:db8::/32, without bits beyond the prefix"
        raise FieldRefused("allowed_ips", message) from None


def _rotate(key: Key, command: RotateKey, now_ms: int) -> Decision[Key]:
    check_rotation(key, overlap_s=0, now_ms=now_ms)
    ends_ms = min(command.expires_at_ms, key.expires_at_ms or command.expires_at_ms)
    is_over = ends_ms <= now_ms  # Without an overlap: taken from routers at once, whatever their clocks say.
    rotated = replace(key, expires_at_ms=ends_ms, successor=command.successor, is_dropped=is_over)
    told = KeyRotated(
        tenant_id=key.tenant_id,
        project_id=key.project_id,
        key_id=key.id,
        successor_id=command.successor,
        old_expires_at_ms=ends_ms,
    )
    return Decision(
        rotated,
        events=(told,),
        counters=(Give(keys_counter(key.tenant_id), 1),) if is_over else (),
        puts=(put_of(rotated),),
        wake_at_ms=_drop_at_ms(rotated),
    )


def _drop(key: Key, now_ms: int) -> Decision[Key]:
    """Routers refuse an expired key by themselves; when all clocks agree that it is over, it makes room."""
    due_ms = _drop_at_ms(key)
    if due_ms is None:
        return Decision(key)
    if now_ms < due_ms:
        return Decision(key, wake_at_ms=due_ms)
    dropped = replace(key, is_dropped=True)
    return Decision(dropped, counters=(Give(keys_counter(key.tenant_id), 1),), puts=(put_of(dropped),))


def _drop_at_ms(key: Key) -> int | None:
    if key.expires_at_ms is None or key.revoked_ms is not None or key.is_dropped:
        return None
    return key.expires_at_ms + DROP_AFTER_MS


def _revoke(key: Key, now_ms: int) -> Decision[Key]:
    if not key.sha256:
        raise NotFound(f"there is no key {key.id}")
    if key.revoked_ms is not None:
        return Decision(key)
    told = KeyRevoked(tenant_id=key.tenant_id, project_id=key.project_id, key_id=key.id)
    revoked = replace(key, revoked_ms=max(now_ms, key.created_ms))
    counters = () if key.is_dropped else (Give(keys_counter(key.tenant_id), 1),)
    return Decision(revoked, events=(told,), counters=counters, puts=(put_of(revoked),))
