"""Surveys the Platform for the reconciler, and has what nobody wants there given back like anything else."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from libs.common.clock import Clock
from libs.common.errors import Unavailable
from libs.common.events.envelope import Envelope
from libs.common.ids import event_id
from libs.common.runner import Runner
from libs.common.store.port import Attention, Store
from libs.common.telemetry.logging import fields
from services.capacity_manager.core.orphans import NOTHING_SEEN, Caution, Found, Orphans, Standing, Survey, orphans
from services.capacity_manager.core.state import Claim
from services.capacity_manager.shell import metrics

log = logging.getLogger(__name__)

KEYS_MAX = 1000  # Records read at once.


class Sight(Protocol):
    """The Platform from afar."""

    def survey(self) -> Survey:
        """Everything of ours at a glance. Raises Unavailable."""

    def found(self, each: Standing) -> Found | None:
        """A closer look at one cluster; None if it is gone. Raises Unavailable."""


class Collector:
    """A survey a pass. An orphan becomes a claim that nobody wants: written down before it is touched, then let go."""

    def __init__(self, runner: Runner[Claim], sight: Sight, store: Store, clock: Clock, caution: Caution) -> None:
        self._runner = runner
        self._sight = sight
        self._store = store
        self._clock = clock
        self._caution = caution
        self._last = Orphans(since_ms=NOTHING_SEEN)

    def survey(self) -> Mapping[str, str]:
        """The marks of all endpoints; what is nobody's is taken in on the way. Raises Unavailable."""
        seen = self._sight.survey()
        self._last = orphans(
            seen.standing, self._followed(), self._last.since_ms, self._caution, self._clock.now_ms()
        )  # fmt: skip
        metrics.ORPHANS.set(len(self._last.since_ms))
        if self._last.held_back:
            log.warning("orphans left alone", extra=fields(reason=self._last.held_back))
        for each in self._last.collect:
            self._collect(each)
        return seen.marks

    def _collect(self, each: Standing) -> None:
        try:
            found = self._sight.found(each)
        except Unavailable as later:
            log.info("orphan not reached", extra=fields(endpoint_id=each.endpoint_id, reason=str(later)))
            return
        if found is None:
            return
        kind, key = self._runner.owned.kind, each.endpoint_id
        record = self._store.load(kind, key)
        cause = event_id(f"{kind}|{key}|{record.version if record else 0}", f"found|{each.uid}", 0)
        log.warning("orphan found", extra=fields(endpoint_id=key))
        self._runner.take(key, Envelope(cause, found, subject=key, time_ms=self._clock.now_ms()))
        metrics.COLLECTED.inc()

    def _followed(self) -> frozenset[str]:
        keys: list[str] = []
        page = self._store.attended(self._runner.owned.kind, Attention.WATCH, limit=KEYS_MAX)
        while page:
            keys += page
            page = self._store.attended(self._runner.owned.kind, Attention.WATCH, after=page[-1], limit=KEYS_MAX)
        return frozenset(keys)
