"""The verbs on keys: mint outside the core, record the hash, show the secret once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from libs.common.errors import Conflict, NotFound
from libs.common.events.envelope import Envelope
from libs.common.ids import KeyId
from libs.common.keys import Minted, digest, key_id_of, mint
from libs.common.runner import Runner
from libs.common.store.port import Taken
from libs.common.telemetry.logging import fields
from libs.common.units import SECOND_MS
from services.endpoint_api.core import admission, keys, status
from services.endpoint_api.core.caller import Ask, Caller, Scope
from services.endpoint_api.core.commands import CreateKey, RevokeKey, RotateKey, SetKeyBudget, command_envelope
from services.endpoint_api.core.keys import UNBOUND, Bounds
from services.endpoint_api.core.refusal import FieldRefused
from services.endpoint_api.core.state import Key, home_of, scope_of_key
from services.endpoint_api.core.status import KeyView
from services.endpoint_api.shell import metrics
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.tenancy import request_of

log = logging.getLogger(__name__)

NOT_MINTED: Final = KeyId("")  # Of grants for which there is no key yet.
NO_KEY: Final = "no such key in this project"  # The same for another tenant's and for one that never was.


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made; `plaintext` is in no other place and can't be had again."""

    key: KeyView
    plaintext: str

    def __repr__(self) -> str:
        """Without the secret, so that it can't slip into a log."""
        return f"NewKey(id={self.key.id!r})"


class KeyVerbs:
    """What a tenant does with keys, and an operator with the first one."""

    def __init__(self, runner: Runner[Key], ports: Ports) -> None:
        self._keys = runner
        self._ports = ports

    def create(
        self,
        ask: Ask,
        *,
        name: str,
        scopes: Sequence[str],
        expires_in_s: int | None = None,
        member: str = "",
        bounds: Bounds = UNBOUND,
        is_test: bool = False,
    ) -> NewKey:
        """Make a key for the caller's project; its plaintext is in this answer only.

        ``member`` is the service account that it is of, if any: then the account's role decides what it may do.

        Raises Conflict if the Idempotency-Key made a key before: a secret can't be shown twice.
        """
        with metrics.counted("create_key"):
            ask.caller.needs(Scope.MANAGE, *([Scope.OPERATE] if member else []))  # A new tenant's first key.
            admission.check_name(name)
            if not member:
                admission.check_scopes(tuple(scopes))
            keys.check_bounds(bounds, scopes=scopes)
            admission.check_expiry(expires_in_s)
            now_ms = self._ports.clock.now_ms()
            grants = Key(
                id=NOT_MINTED,
                name=name,
                scopes=tuple(sorted(scopes)),
                expires_at_ms=None if expires_in_s is None else now_ms + expires_in_s * SECOND_MS,
                member=member,
                models=bounds.models,
                allowed_ips=bounds.allowed_ips,
                is_test=is_test,
                tokens_per_month=bounds.tokens_per_month,
                money_per_month_nano=bounds.money_per_month_nano,
                limits=bounds.limits,
            )
            minted, making = self._minted(ask, grants, now_ms)
            with _shown_once():
                key = self._keys.take(minted.key_id, making)
        log.info("key created", extra=fields(key_id=key.id, tenant_id=key.tenant_id))
        return NewKey(status.key_view(key), minted.plaintext)

    def rotate(self, ask: Ask, key_id: str, *, overlap_s: int = keys.OVERLAP_S) -> NewKey:
        """Make a successor with the same grants, and refuse the old key ``overlap_s`` from now, in one commit.

        The successor lives as long as the old one was to live. Raises Conflict for a key that is over, or that was
        rotated before: it names the successor then.
        """
        with metrics.counted("rotate_key"):
            ask.caller.needs(Scope.MANAGE)
            old, now_ms = self._find(ask.caller, key_id), self._ports.clock.now_ms()
            keys.check_rotation(old, overlap_s=overlap_s, now_ms=now_ms)
            life_ms = None if old.expires_at_ms is None else old.expires_at_ms - old.created_ms
            grants = replace(old, expires_at_ms=None if life_ms is None else now_ms + life_ms)
            minted, making = self._minted(ask, grants, now_ms)
            rotate = RotateKey(
                actor=ask.caller.actor,
                request_id=ask.request_id,
                successor=minted.key_id,
                expires_at_ms=now_ms + overlap_s * SECOND_MS,
            )
            ending = command_envelope(key_id, rotate, now_ms, ask.traceparent, ask=minted.key_id)
            with _shown_once():  # The old one first: without an overlap, its place is the new one's.
                _, made = self._keys.take_together([(key_id, ending), (minted.key_id, making)])
        log.info("key rotated", extra=fields(key_id=key_id, tenant_id=old.tenant_id))
        return NewKey(status.key_view(made), minted.plaintext)

    def set_budget(self, ask: Ask, key_id: str, *, tokens: int | None, nano: int | None) -> KeyView:
        """Let a key, and all that spend its budget with it, spend so much a month from now on.

        Raises Conflict for a key that is over, FieldRefused for one that a budget would not bind.
        """
        with metrics.counted("set_key_budget"):
            ask.caller.needs(Scope.MANAGE)
            key, now_ms = self._find(ask.caller, key_id), self._ports.clock.now_ms()
            keys.check_is_good(key, now_ms=now_ms)
            keys.check_bounds(Bounds(tokens_per_month=tokens, money_per_month_nano=nano), scopes=key.scopes)
            command = SetKeyBudget(
                actor=ask.caller.actor, request_id=ask.request_id, tokens_per_month=tokens, money_per_month_nano=nano
            )
            once = request_of(ask, command)
            together = (key_id, *(each.id for each in self._spenders(key) if each.id != key_id))
            changed, *_ = self._keys.take_together(
                [(each, command_envelope(each, command, now_ms, ask.traceparent, ask=once)) for each in together]
            )
        log.info("key budget set", extra=fields(key_id=key_id, tenant_id=changed.tenant_id))
        return status.key_view(changed)

    def _spenders(self, key: Key) -> Iterator[Key]:
        """The good keys that spend the same budget: those that a rotation made, and the one before, for a while."""
        now_ms = self._ports.clock.now_ms()
        for each in self._keys.every(scope=scope_of_key(key)):
            if key.budget and each.budget == key.budget and not keys.is_over(each, now_ms=now_ms):
                yield each

    def _minted(self, ask: Ask, grants: Key, now_ms: int) -> tuple[Minted, Envelope]:
        """A new secret, and the command that records its hash with these grants."""
        minted = mint(self._ports.entropy, live=not grants.is_test)
        once = ask.idempotency_key
        command = CreateKey(
            actor=ask.caller.actor,
            request_id=ask.request_id,
            tenant_id=ask.caller.tenant_id,
            project_id=ask.caller.project_id,
            name=grants.name,
            scopes=grants.scopes,
            sha256=minted.sha256,
            expires_at_ms=grants.expires_at_ms,
            request=admission.request_key(idempotency_key=once, request_id="") if once else "",
            keys_max=self._ports.keys_max,
            member=grants.member,
            models=grants.models,
            allowed_ips=grants.allowed_ips,
            is_test=grants.is_test,
            tokens_per_month=grants.tokens_per_month,
            money_per_month_nano=grants.money_per_month_nano,
            budget=grants.budget,
            limits=grants.limits,
        )
        return minted, command_envelope(minted.key_id, command, now_ms, ask.traceparent)

    def get(self, caller: Caller, key_id: str) -> KeyView:
        """One key of the caller's project, without its secret. Raises NotFound."""
        caller.needs(Scope.READ)
        return status.key_view(self._find(caller, key_id))

    def _find(self, caller: Caller, key_id: str) -> Key:
        key = self._keys.state(key_id) if admission.KEY_ID_FORM.fullmatch(key_id) else None
        if key is None or scope_of_key(key) != home_of(caller.tenant_id, caller.project_id):
            raise NotFound(NO_KEY)
        return key

    def list(self, caller: Caller, *, name: str = "", revoked: bool | None = None) -> tuple[KeyView, ...]:
        """The keys of the caller's project, revoked ones too unless filtered, without their secrets."""
        caller.needs(Scope.READ)
        home = home_of(caller.tenant_id, caller.project_id)
        return tuple(
            status.key_view(each)
            for each in self._keys.every(scope=home)
            if name in ("", each.name) and revoked in (None, each.revoked_ms is not None)
        )

    def revoke(self, ask: Ask, key_id: str) -> KeyView:
        """Refuse a key from now on; revoking it again changes nothing."""
        with metrics.counted("revoke_key"):
            ask.caller.needs(Scope.MANAGE)
            self._find(ask.caller, key_id)
            command = RevokeKey(actor=ask.caller.actor, request_id=ask.request_id)
            now_ms = self._ports.clock.now_ms()
            key = self._keys.take(key_id, command_envelope(key_id, command, now_ms, ask.traceparent))
        log.info("key revoked", extra=fields(key_id=key.id, tenant_id=key.tenant_id))
        return status.key_view(key)

    def record(self, plaintext: str, *, tenant_id: str, project_id: str, name: str, scopes: Sequence[str]) -> None:
        """Record a key that the operator made, once; a revoked one stays revoked.

        Raises Invalid for a malformed key or name, or if the same id was recorded with another secret.
        """
        key_id = key_id_of(plaintext)
        if key_id is None:
            raise FieldRefused("key", "is not a key; make one with libs.common.keys.mint")
        admission.check_name(tenant_id, field="tenant_id")
        admission.check_name(project_id, field="project_id")
        admission.check_scopes(tuple(scopes))
        self._record(key_id, plaintext, tenant_id=tenant_id, project_id=project_id, name=name, scopes=scopes)

    def homes(self) -> frozenset[tuple[str, str]]:
        """Tenant and project of all keys that are not revoked; the operator's keys have none."""
        live = (each for each in self._keys.every() if each.revoked_ms is None and each.tenant_id)
        return frozenset((each.tenant_id, each.project_id) for each in live)

    def record_operator(self, plaintext: str) -> None:
        """Record a key of the operator, once: of no tenant, and good for nothing but to operate. Raises Invalid."""
        key_id = key_id_of(plaintext)
        if key_id is None:
            raise FieldRefused("operator_key", "is not a key; make one with libs.common.keys.mint")
        self._record(key_id, plaintext, tenant_id="", project_id="", name="operator", scopes=[Scope.OPERATE])

    def _record(
        self, key_id: KeyId, plaintext: str, *, tenant_id: str, project_id: str, name: str, scopes: Sequence[str]
    ) -> None:
        sha256 = digest(plaintext)
        command = CreateKey(
            actor="operator:bootstrap",
            tenant_id=tenant_id,
            project_id=project_id,
            name=name,
            scopes=tuple(sorted(scopes)),
            sha256=sha256,
            expires_at_ms=None,
            request="",
            keys_max=self._ports.keys_max,
        )
        key = self._keys.state(key_id)  # Asked first: an inbox forgets after a while, a record does not.
        if key is None:
            key = self._keys.take(key_id, command_envelope(key_id, command, self._ports.clock.now_ms()))
        if key.sha256 != sha256 or scope_of_key(key) != home_of(tenant_id, project_id):
            raise FieldRefused("key", f"key {key_id} was recorded before with another secret, tenant or project")


@contextmanager
def _shown_once() -> Iterator[None]:
    """Says of an Idempotency-Key that made a key before why it can't give that key again."""
    try:
        yield
    except Taken:
        raise Conflict(
            "this Idempotency-Key made a key before, and a secret is shown once; revoke that key if its secret"
            " is lost, and use a new Idempotency-Key",
            code="key_already_made",
        ) from None
