"""The look that a running process takes at its own ledger, as metrics that an alert can stand on."""

from __future__ import annotations

import logging
from typing import Final

from libs.common.clock import Clock
from libs.common.store.port import Store
from libs.common.telemetry.logging import fields
from services.metering.core.accounts import Flaw, parked_account
from services.metering.core.audit import Check, Difference
from services.metering.core.windows import Windows
from services.metering.shell import metrics
from services.metering.shell.audit import FOREVER_MS, audit, meters, producers

log = logging.getLogger(__name__)

SLACK_WINDOWS: Final = 2  # Windows left out at the end: an audit between closing and telling would see a difference.


def look(store: Store, clock: Clock, windows: Windows, *, span_ms: int) -> tuple[Difference, ...]:
    """Audit what settled over the last ``span_ms`` and show it, with what is missing, parked and waiting.

    What waits to be told has not settled: while a backlog is entered, the look ends where that begins.
    """
    to_ms = windows.closed_until(clock.now_ms()) - SLACK_WINDOWS * windows.size_ms
    from_ms = max(0, windows.start_of(to_ms - span_ms))
    # Not what waits since before: one window that can't be told must not keep all others unseen for longer than a span.
    waiting = (mark.start_ms for each in meters(store) for mark in each.marked if mark.start_ms >= from_ms)
    differences = audit(store, windows=windows, from_ms=from_ms, to_ms=min((to_ms, *waiting)))
    for check in Check:
        metrics.AUDIT_DIFFERENCES.labels(check=check).set(sum(each.check is check for each in differences))
    for each in differences:
        log.warning("ledger differs", extra=fields(reason=str(each)))
    _show_sources(store)
    _show_meters(store)
    return differences


def _show_sources(store: Store) -> None:
    known = list(producers(store))
    metrics.BATCHES_MISSING.labels(boot="present").set(sum(each.boots.missing_now for each in known))
    metrics.BATCHES_MISSING.labels(boot="ended").set(sum(each.boots.missing_before for each in known))
    for flaw in Flaw:
        parked = store.totals(from_ms=0, to_ms=FOREVER_MS, account=parked_account(flaw))
        metrics.REQUESTS_PARKED.labels(flaw=flaw).set(sum(each.quantity for each in parked))


def _show_meters(store: Store) -> None:
    known = list(meters(store))
    metrics.WINDOWS_WAITING.set(sum(len(each.marked) for each in known))
    metrics.WINDOWS_OVERDUE.set(sum(len(each.due) for each in known))
    metrics.NODES_UNATTRIBUTED.set(sum(len(each.nodes) for each in known if each.dimensions is None))
