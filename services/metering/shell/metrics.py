"""What metering shows of itself."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

BATCHES_MISSING: Final = Gauge(
    "metering_batches_missing", "Batch numbers of routers that never came, by whether the boot goes on.", ("boot",)
)
REQUESTS_PARKED: Final = Gauge("metering_requests_parked", "Reported requests that are not billed, by why.", ("flaw",))
WINDOWS_WAITING: Final = Gauge("metering_windows_waiting", "Windows with entries that wait to be told.")
WINDOWS_OVERDUE: Final = Gauge("metering_windows_overdue", "Windows that closed and settled and are not yet told.")
NODES_UNATTRIBUTED: Final = Gauge("metering_nodes_unattributed", "Nodes of endpoints that nobody has told us about.")
AUDIT_DIFFERENCES: Final = Gauge("metering_audit_differences", "Figures that differ at the last audit.", ("check",))
RECONCILE_DIFFERENCES: Final = Gauge(
    "metering_reconcile_differences", "Lasting differences at the last reconciliation, by side.", ("side",)
)
EXPORTED: Final = Counter("metering_exported", "Sendings to billing systems, by how they ended.", ("export", "end"))
EXPORT_PARKED: Final = Gauge(
    "metering_export_parked", "Windows that a billing system was not told, for people.", ("export",)
)
EXPORT_LAG: Final = Gauge("metering_export_lag_seconds", "Age of the oldest window that waits to be sent.", ("export",))
