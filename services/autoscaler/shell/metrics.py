"""What autoscaler shows of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from prometheus_client import Gauge

from services.autoscaler.core.decide import view_of
from services.autoscaler.core.policy import Policy
from services.autoscaler.core.scaling import Hold, judge
from services.autoscaler.core.state import Scaler

ENDPOINTS: Final = Gauge(
    "autoscaler_endpoints", "Endpoints that serve, by why nothing changes for them now.", ("hold",)
)
REPLICAS_ABOVE_MIN: Final = Gauge("autoscaler_replicas_above_min", "Replicas decided above what endpoints always run.")


def count(scalers: Iterable[Scaler], *, now_ms: int, policy: Policy) -> None:
    """Set the gauges that describe all endpoints."""
    holds: Counter[Hold] = Counter()
    above = 0
    for each in scalers:
        if each.limits is None or not each.is_live:
            continue
        view = view_of(each, each.limits)
        verdict = judge(view, now_ms, policy)
        holds[verdict if isinstance(verdict, Hold) else Hold.STEADY] += 1
        above += max(0, view.current - view.limits.min)
    for hold in Hold:
        ENDPOINTS.labels(hold=hold).set(holds[hold])
    REPLICAS_ABOVE_MIN.set(above)
