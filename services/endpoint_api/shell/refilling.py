"""Puts again what the buckets `keys` and `quotas` lost: a broker without its disk comes back with empty ones.

A deletion is put again, too: a router that missed it must hear of it. It goes through the record and its outbox, in
the order of commits, so that it can't undo a revocation.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

from libs.common.bus.mirror import BucketMirror
from libs.common.bus.streams import KEYS, QUOTAS
from libs.common.clock import Clock
from libs.common.decision import Put
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal
from libs.common.ids import event_id
from libs.common.runner import Runner
from libs.common.telemetry.logging import fields
from libs.common.units import MINUTE_MS
from services.endpoint_api.core import keys, tenants
from services.endpoint_api.core.commands import PutKeyAgain
from services.endpoint_api.core.state import Key
from services.endpoint_api.core.tenants import PutTenantAgain, Tenant
from services.endpoint_api.shell import metrics

log = logging.getLogger(__name__)

ANEW_MS: Final = 5 * MINUTE_MS  # A bucket that nothing changed in is compared this often, all the same.


class Refilling:
    """Compares what the buckets hold with the records. What differs twice in a row is not just on its way."""

    def __init__(self, keys_runner: Runner[Key], tenants_runner: Runner[Tenant], clock: Clock) -> None:
        self.mirrors = {KEYS: BucketMirror(), QUOTAS: BucketMirror()}
        self._keys = keys_runner
        self._tenants = tenants_runner
        self._clock = clock
        self._suspects: frozenset[tuple[str, str]] = frozenset()
        self._clean_at: tuple[int, ...] | None = None
        self._compared_ms = 0

    def run(self) -> int:
        """Compare, and put again what differed before; returns how many records were put."""
        now_ms, changes = self._clock.now_ms(), tuple(each.changes for each in self.mirrors.values())
        if changes == self._clean_at and now_ms - self._compared_ms < ANEW_MS:
            return 0
        differing = dict(self._differing())
        again = [each for each in differing if each in self._suspects]
        for kind, key in again:
            self._put(kind, key, differing[kind, key], now_ms)
        if again:
            metrics.REFILLED.inc(len(again))
            log.warning("bucket lacked what is recorded; put again", extra=fields(count=len(again)))
        self._suspects = frozenset(differing) - frozenset(again)
        self._clean_at, self._compared_ms = (None if differing else changes), now_ms
        return len(again)

    def _differing(self) -> Iterator[tuple[tuple[str, str], Internal]]:
        for key in self._keys.every():
            if key.sha256 and self._differs(keys.put_of(key)):
                yield ("key", key.id), PutKeyAgain()
        for tenant in self._tenants.every():
            if tenant.is_known and any(map(self._differs, tenants.puts_of(tenant))):
                yield ("tenant", tenant.id), PutTenantAgain()

    def _differs(self, put: Put) -> bool:
        return not self.mirrors[put.bucket].says(put.key, put.value)

    def _put(self, kind: str, key: str, again: Internal, now_ms: int) -> None:
        envelope = Envelope(event_id(key, f"{again.kind}|{now_ms}", 0), again, subject=key, time_ms=now_ms)
        if kind == "key":
            self._keys.take(key, envelope)
        else:
            self._tenants.take(key, envelope)
