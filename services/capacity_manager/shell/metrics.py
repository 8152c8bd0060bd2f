"""Metrics of claims. The age of the oldest release is the one that pages: a release that stands still costs money."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter as Count
from prometheus_client import Gauge

from libs.common.events.capacity import NodeUse
from libs.common.units import SECOND_MS
from services.capacity_manager.core.lifecycle import Stage, live_nodes, stage_of
from services.capacity_manager.core.state import Claim
from services.capacity_manager.core.stocks import Stock

CLAIMS: Final = Gauge("millrace_capacity_claims", "Claims that are not released, by stage.", ("stage",))
GPUS_HELD: Final = Gauge("millrace_capacity_gpus_held", "GPUs that claims hold quota for.", ("node_type",))
NODES: Final = Gauge("millrace_capacity_nodes", "Nodes that are not confirmed gone.", ("node_type",))
WAITING: Final = Gauge("millrace_capacity_claims_waiting", "Claims that told why they wait, by reason.", ("reason",))
RELEASE_AGE: Final = Gauge("millrace_capacity_release_age_seconds", "Age of the oldest release that is not confirmed.")
ORPHANS: Final = Gauge("millrace_capacity_orphans", "Clusters under our mark that nobody wants, by the last survey.")
POOL_NODES: Final = Gauge(
    "millrace_capacity_pool_nodes", "Nodes of clusters with a warm stock, by what they are held for.", ("tier", "use")
)
TARGET: Final = Gauge("millrace_capacity_pool_target", "Nodes that are to stand warm.", ("tier",))
IDLE_COST: Final = Gauge(
    "millrace_capacity_pool_idle_cost", "What the warm nodes are rated at, in the Platform's units.", ("tier",)
)
IDLE_GPU: Final = Gauge("millrace_capacity_pool_idle_gpu_seconds", "How long GPUs of live pools stood warm.", ("tier",))
DRAWN: Final = Gauge("millrace_capacity_pool_drawn", "Nodes that endpoints came to need of live pools.", ("tier",))
HITS: Final = Gauge("millrace_capacity_pool_drawn_warm", "Those of them that stood warm.", ("tier",))
COLLECTED: Final = Count("millrace_capacity_orphans_collected", "Clusters that nobody wanted and that are given back.")


def count_stocks(stocks: Iterable[Stock]) -> None:
    """Set the gauges from every pool, and every endpoint's cluster that has warm nodes."""
    nodes = Counter[tuple[str, str]]()
    sums: defaultdict[Gauge, Counter[str]] = defaultdict(Counter)
    for each in stocks:
        nodes[each.tier, NodeUse.SERVING] += each.serving
        nodes[each.tier, NodeUse.WARM] += each.warm
        nodes[each.tier, NodeUse.DRAINING] += each.draining
        sums[TARGET][each.tier] += each.target
        sums[DRAWN][each.tier] += each.drawn
        sums[HITS][each.tier] += each.drawn_warm
        sums[IDLE_COST][each.tier] += each.idle_cost
        sums[IDLE_GPU][each.tier] += each.idle_gpu_ms // SECOND_MS
    POOL_NODES.clear()
    for (tier, use), count in nodes.items():
        POOL_NODES.labels(tier, use).set(count)
    for gauge in (TARGET, DRAWN, HITS, IDLE_COST, IDLE_GPU):
        _set(gauge, sums[gauge])


def count_claims(claims: Iterable[Claim], *, now_ms: int) -> None:
    """Set the gauges from every claim that is not released."""
    stages = Counter[str]({stage: 0 for stage in Stage if stage is not Stage.RELEASED})
    gpus, nodes, waiting = Counter[str](), Counter[str](), Counter[str]()
    oldest_ms = now_ms
    for claim in claims:
        stage = stage_of(claim)
        stages[stage] += 1
        if claim.reservation is not None:
            gpus[claim.reservation.node_type] += claim.reservation.gpus
            nodes[claim.reservation.node_type] += len(live_nodes(claim))
        if claim.waiting:
            waiting[claim.waiting] += 1
        if stage is Stage.RELEASING and claim.unwanted_since_ms is not None:
            oldest_ms = min(oldest_ms, claim.unwanted_since_ms)
    _set(CLAIMS, stages)
    _set(GPUS_HELD, gpus)
    _set(NODES, nodes)
    _set(WAITING, waiting)
    RELEASE_AGE.set((now_ms - oldest_ms) / 1000)


def _set(gauge: Gauge, values: Counter[str]) -> None:
    gauge.clear()  # A node type or reason that nobody has any more must not keep its last figure.
    for label, value in values.items():
        gauge.labels(label).set(value)
