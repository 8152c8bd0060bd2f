"""Metrics of the router. No label is unbounded: no tenant, endpoint or key ids."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from services.router.core.serving import Row

REQUESTS: Final = Counter("router_requests_total", "Requests answered, by class of status.", ("status",))
TTFT: Final = Histogram(
    "router_time_to_first_token_seconds",
    "From the whole request to the first content handed to the socket.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
DURATION: Final = Histogram(
    "router_request_duration_seconds",
    "From the whole request to its end.",
    ("api",),
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
FINISHED: Final = Counter("router_requests_finished_total", "Generating requests, by how they ended.", ("finish",))
TOKENS: Final = Counter("router_tokens_total", "Tokens billed.", ("kind",))
LIVE: Final = Gauge("router_live_requests", "Generating requests in flight.")
CONNECTIONS: Final = Gauge("router_client_connections", "Open client connections.")
RETRIES: Final = Counter("router_upstream_retries_total", "Requests sent to the engine a second time.")
BACKLOG: Final = Gauge("router_usage_backlog", "Finished requests that the ledger has not confirmed.")
BATCHES: Final = Counter("router_usage_batches_total", "Usage batches that the bus took.")
CONFIRMED: Final = Counter("router_usage_confirmed_total", "Requests that the ledger confirmed.")
RECOVERED: Final = Counter(
    "router_usage_recovered_total", "Requests of a dead process, billed at their last checkpoint."
)
LIMITED: Final = Counter("router_rate_limited_total", "Requests refused by a limit per minute, by which.", ("what",))
WAITING: Final = Gauge("router_waiting_requests", "Requests that wait for a replica.")
SHED: Final = Counter(
    "router_shed_total", "Requests that were not let wait: queue full, more than a fair share, too late.", ("why",)
)
EJECTED: Final = Counter("router_replicas_ejected_total", "Times that a replica was left out because it failed.")
ROUTES: Final = Gauge("router_routes", "Routes in the data plane's table.")
LOST: Final = Gauge(
    "router_lost_entries", "Keys, routes and quotas served from our copy because the bus lost them.", ("bucket",)
)
JOURNAL_SECONDS: Final = Histogram(
    "router_journal_commit_seconds",
    "One group commit of the usage journal.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1),
)


def note_bill(row: Row) -> None:
    """Count a request that was billed."""
    FINISHED.labels(finish=row.finish).inc()
    TOKENS.labels(kind="completion").inc(row.completion_tokens)
    TOKENS.labels(kind="prompt").inc(row.prompt_tokens or 0)
