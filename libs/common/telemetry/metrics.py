"""Metrics that every service has. No label is unbounded: no tenant, endpoint or key ids."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Histogram

EVENTS_HANDLED: Final = Counter(
    "millrace_events_handled_total", "Deliveries answered, by what became of them.", ("service", "type", "answer")
)
OUTBOX_SENT: Final = Counter("millrace_outbox_sent_total", "Messages that the bus took.", ("service",))
RECONCILE_ACTIONS: Final = Counter("millrace_reconcile_actions_total", "Actions applied to the world.", ("service",))
RECONCILE_SECONDS: Final = Histogram("millrace_reconcile_duration_seconds", "One pass over all records.", ("service",))
LOOP_FAILURES: Final = Counter("millrace_loop_failures_total", "Loop rounds that raised.", ("service", "loop"))
