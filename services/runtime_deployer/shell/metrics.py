"""Metrics of runtime-deployer: what runs, and how the tenant clusters answer."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from services.runtime_deployer.core.lifecycle import Stage, stage_of
from services.runtime_deployer.core.state import Runtime

RUNTIMES: Final = Gauge("runtime_deployer_runtimes", "Runtimes that are not removed, by stage.", ("stage",))
READY_REPLICAS: Final = Gauge("runtime_deployer_ready_replicas", "Replicas that may take traffic, over all endpoints.")
REQUESTS: Final = Counter(
    "runtime_deployer_kubernetes_requests_total", "Answers of tenant API servers.", ("method", "status")
)
APPLY_SECONDS: Final = Histogram("runtime_deployer_apply_duration_seconds", "One server-side apply.", ("kind",))
WARM_UP_SECONDS: Final = Histogram("runtime_deployer_warm_up_duration_seconds", "One warm-up request, if answered.")
CONNECTIONS: Final = Gauge("runtime_deployer_connections", "Tenant clusters with an open connection pool.")


def count_runtimes(runtimes: Iterable[Runtime]) -> None:
    """Set the gauges that describe all runtimes at once."""
    stages: Tally[Stage] = Tally()
    ready = 0
    for each in runtimes:
        stages[stage_of(each)] += 1
        ready += len(each.replicas_told.replicas)
    for stage in Stage:
        RUNTIMES.labels(stage=stage).set(stages[stage])
    READY_REPLICAS.set(ready)
