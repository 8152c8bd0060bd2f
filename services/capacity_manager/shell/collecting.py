"""Surveys the Platform for the reconciler, and has what nobody wants there given back like anything else."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from libs.common.clock import Clock
from libs.common.errors import Unavailable
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal
from libs.common.ids import event_id
from libs.common.runner import Runner
from libs.common.store.port import Attention, Store
from libs.common.telemetry.logging import fields
from services.capacity_manager.core.observed import Observed
from services.capacity_manager.core.orphans import (
    NOTHING_SEEN,
    Caution,
    Found,
    Orphans,
    PoolStanding,
    Standing,
    Strays,
    Survey,
    orphans,
    stray_shares,
)
from services.capacity_manager.core.pool_life import found_by
from services.capacity_manager.core.pools import Pool, PoolFound, SharesStray
from services.capacity_manager.core.state import Claim
from services.capacity_manager.core.tenancy import pool_id
from services.capacity_manager.shell import metrics

log = logging.getLogger(__name__)

KEYS_MAX = 1000  # Records read at once.


class Sight(Protocol):
    """The Platform from afar."""

    def survey(self) -> Survey:
        """Everything of ours at a glance. Raises Unavailable."""

    def found(self, each: Standing) -> Found | None:
        """A closer look at one cluster; None if it is gone. Raises Unavailable."""

    def pool_found(self, each: PoolStanding) -> PoolFound | None:
        """The same of a shared cluster. Raises Unavailable."""


class Collector:
    """A survey a pass. An orphan becomes a claim that nobody wants: written down before it is touched, then let go."""

    def __init__(
        self, runner: Runner[Claim], pools: Runner[Pool], sight: Sight, store: Store, clock: Clock, caution: Caution
    ) -> None:
        self._runner = runner
        self._pools = pools
        self._sight = sight
        self._store = store
        self._clock = clock
        self._caution = caution
        self._last = Orphans(since_ms=NOTHING_SEEN)
        self._strays = Strays(since_ms=NOTHING_SEEN)
        self._pool_marks: Mapping[str, str] = {}

    def survey(self) -> Mapping[str, str]:
        """The marks of all endpoints; what is nobody's is taken in on the way. Raises Unavailable."""
        self._pool_marks = {}
        seen, now_ms = self._sight.survey(), self._clock.now_ms()
        followed = self._followed()
        self._last = orphans(seen.standing, followed, self._last.since_ms, self._caution, now_ms)
        self._strays = stray_shares(seen.pools, followed, self._strays.since_ms, self._caution, now_ms)
        self._pool_marks = {each.id: each.mark for each in seen.pools}
        metrics.ORPHANS.set(len(self._last.since_ms))
        for held_back in (self._last.held_back, self._strays.held_back):
            if held_back:
                log.warning("orphans left alone", extra=fields(reason=held_back))
        for each in self._last.collect:
            self._collect(each)
        self._take_in_pools(seen.pools)
        for pool, shares in self._strays.drop.items():
            log.warning("shares found that are nobody's", extra=fields(endpoint_id=",".join(shares), pool=pool))
            self._take(self._pools, pool, SharesStray(endpoint_ids=shares), ",".join(shares))
        return seen.marks

    def pool_marks(self) -> Mapping[str, str]:
        """The marks of all pools, by the last survey; none if that failed."""
        return self._pool_marks

    def take_in(self, claim: Claim, seen: Observed) -> None:
        """A shared cluster that a claim sees gets its pool at once: it may be gone before the next survey."""
        found, cluster = found_by(claim, seen), seen.our_cluster
        if found is None or cluster is None or cluster.installation != self._caution.installation:
            return
        key = pool_id(project=found.project, cluster=found.cluster)
        known = self._pools.state(key)
        if known is None or known.is_released or not known.project:
            self._take(self._pools, key, found, found.uid)

    def _take_in_pools(self, standing: Sequence[PoolStanding]) -> None:
        """Every shared cluster of ours has a pool: its claims make it, and its pool keeps it and ends it."""
        known = _keys(self._store, self._pools.owned.kind)
        for each in standing:
            if each.id in known or each.installation != self._caution.installation:
                continue
            try:
                found = self._sight.pool_found(each)
            except Unavailable as later:
                log.info("pool not reached", extra=fields(pool=each.id, reason=str(later)))
                continue
            if found is not None:
                self._take(self._pools, each.id, found, each.uid)

    def _collect(self, each: Standing) -> None:
        try:
            found = self._sight.found(each)
        except Unavailable as later:
            log.info("orphan not reached", extra=fields(endpoint_id=each.endpoint_id, reason=str(later)))
            return
        if found is None:
            return
        log.warning("orphan found", extra=fields(endpoint_id=each.endpoint_id))
        self._take(self._runner, each.endpoint_id, found, each.uid)
        metrics.COLLECTED.inc()

    def _followed(self) -> frozenset[str]:
        return _keys(self._store, self._runner.owned.kind)

    def _take(self, runner: Runner[Any], key: str, found: Internal, what: str) -> None:
        kind = runner.owned.kind
        record = self._store.load(kind, key)
        cause = event_id(f"{kind}|{key}|{record.version if record else 0}", f"found|{what}", 0)
        runner.take(key, Envelope(cause, found, subject=key, time_ms=self._clock.now_ms()))


def _keys(store: Store, kind: str) -> frozenset[str]:
    """All records of a kind that are followed."""
    keys: list[str] = []
    page = store.attended(kind, Attention.WATCH, limit=KEYS_MAX)
    while page:
        keys += page
        page = store.attended(kind, Attention.WATCH, after=page[-1], limit=KEYS_MAX)
    return frozenset(keys)
