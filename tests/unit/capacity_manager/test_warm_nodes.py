"""Warm nodes in an endpoint's own cluster: made at rest, drawn on first, never of its quota, each moment told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from prometheus_client import REGISTRY

from libs.common.events.capacity import NodeUse, NodeUsed, PoolDrawn
from libs.common.events.scale import PoolInputs, PoolTargeted
from services.capacity_manager.core.lifecycle import attention_of
from services.capacity_manager.core.observed import ClusterSeen, NodeSeen, NodeTypeSeen
from services.capacity_manager.core.plan import Action, ResizeCluster, plan
from services.capacity_manager.core.question import question_of
from services.capacity_manager.core.stocks import stocks
from services.capacity_manager.core.warmth import Warm
from services.capacity_manager.shell import metrics
from tests.unit.capacity_manager.builders import (
    NODE_TYPE,
    NOW,
    RULES,
    Bench,
    a_cluster,
    a_node,
    deletion,
    held,
    requested,
    scaled,
)

WARM: Final = replace(RULES, warm={"h100-dedicated": Warm(target=1, floor=0, ceiling=3)})
FREE: Final = NodeTypeSeen(is_known=True, free=1, gpus=8, cost=500)
FULL: Final = NodeTypeSeen(is_known=True, free=0, gpus=8, cost=500)


def a_warm(quantity: int, warm: int) -> ClusterSeen:
    return a_cluster(quantity).model_copy(update={"warm": warm})


def look(
    bench: Bench, cluster: ClusterSeen, nodes: Sequence[NodeSeen], node_type: NodeTypeSeen = FREE
) -> tuple[Action, ...]:
    bench.see(cluster=cluster, nodes=nodes, node_type=node_type if question_of(bench.claim).room else None)
    return plan(bench.claim, bench.last_seen, bench.now_ms)


def serving(nodes: int = 1) -> Bench:
    """A claim that serves, and has no warm node yet."""
    return held(Bench(rules=WARM), fewest=nodes)


def uses(bench: Bench) -> list[tuple[str, NodeUse, int]]:
    return [(each.claim, each.use, each.at_ms) for each in bench.told if isinstance(each, NodeUsed)]


def test_once_it_serves_warm_nodes_are_made_where_machines_are_free() -> None:
    bench = serving()

    assert look(bench, a_cluster(1), [a_node("n0")], FULL) == ()
    assert look(bench, a_cluster(1), [a_node("n0")]) == (
        ResizeCluster("mr-acme-prod", "ep-abc", 1, NODE_TYPE, nodes=2, warm=1),
    )


def test_none_are_made_before_it_serves_or_while_nodes_come_and_go() -> None:
    early = Bench(rules=WARM)
    early.hear(requested())
    early.see()
    assert early.claim.warm_wanted == 0

    bench = serving()

    assert look(bench, a_cluster(1), [a_node("n0"), a_node("gone-soon")]) == ()


def test_a_warm_node_takes_no_quota_and_is_told_from_when_it_joined() -> None:
    bench = serving()
    bench.now_ms += 60_000
    look(bench, a_warm(2, 1), [a_node("n0"), a_node("n1", joined_at_ms=bench.now_ms - 7_000)])

    assert bench.gpus == 8
    assert uses(bench) == [("n1", NodeUse.WARM, bench.now_ms - 7_000)]
    assert attention_of(bench.claim).name == "WATCH"


def test_who_grows_draws_on_warm_nodes_first_and_the_hit_is_told_with_what_idling_cost() -> None:
    bench = serving()
    look(bench, a_warm(2, 1), [a_node("n0"), a_node("n1", joined_at_ms=NOW)])
    bench.now_ms += 60_000
    bench.hear(scaled(2))
    nodes = [a_node("n0"), a_node("n1")]

    assert look(bench, a_warm(2, 1), nodes, FULL) == (
        ResizeCluster("mr-acme-prod", "ep-abc", 1, NODE_TYPE, nodes=2, warm=0),
    )

    assert bench.gpus == 16
    assert bench.of(PoolDrawn) == [
        PoolDrawn(tier="h100-dedicated", region="eu-1", nodes=1, warm=1, idle_gpu_ms=8 * 60_000)
    ]
    look(bench, a_cluster(2), nodes, FULL)
    assert uses(bench)[-1] == ("n1", NodeUse.SERVING, bench.now_ms)


def test_a_scale_down_gives_its_quota_back_and_leaves_the_warm_ones() -> None:
    bench = serving(2)
    nodes = [a_node("n0"), a_node("n1"), a_node("n2")]
    look(bench, a_warm(3, 1), nodes)
    bench.hear(requested(fewest=1), generation=2, sequence=5)

    (resized,) = look(bench, a_warm(3, 1), nodes)
    assert isinstance(resized, ResizeCluster)
    assert (resized.nodes, resized.warm) == (2, 1)
    look(bench, a_warm(2, 1), nodes[:2])
    bench.wake()
    look(bench, a_warm(2, 1), nodes[:2])

    assert bench.gpus == 8
    assert bench.claim.warm == 1


def test_the_autoscaler_s_word_is_heeded_within_the_tier_and_the_newest_counts() -> None:
    bench = serving()
    inputs = PoolInputs(window_ms=1, draws=1, at_once=1, boot_ms=1)

    def said(nodes: int, sequence: int) -> int:
        bench.hear(PoolTargeted(nodes=nodes, reason="r", inputs=inputs), sequence=sequence)
        return bench.claim.warm_wanted

    assert [said(2, 7), said(9, 8), said(1, 6), said(0, 9)] == [2, 3, 3, 0]
    bench.hear(deletion(), generation=2, sequence=9)
    assert bench.claim.warm_wanted == 0


def test_the_stock_is_shown_with_its_target_hits_and_cost() -> None:
    bench = Bench(rules=WARM)
    bench.hear(requested())
    bench.see(node_type=FREE)
    bench.see(cluster=a_cluster(1), nodes=[a_node("n0")])
    bench.claim = replace(bench.claim, told=(*bench.claim.told, *held(Bench()).claim.told))
    look(bench, a_warm(2, 1), [a_node("n0"), a_node("n1", joined_at_ms=NOW)])

    (stock,) = stocks([], [bench.claim], NOW + 1_000)

    assert (stock.target, stock.said_by, stock.serving, stock.warm, stock.idle_cost) == (1, "tier", 1, 1, 500)
    assert (stock.hit_percent, stock.idle_gpu_ms) == (None, 8_000)
    metrics.count_stocks([stock])
    told = {"tier": "h100-dedicated"}
    assert REGISTRY.get_sample_value("millrace_capacity_pool_idle_cost", told) == 500
    assert REGISTRY.get_sample_value("millrace_capacity_pool_nodes", {**told, "use": "warm"}) == 1
    metrics.count_stocks([])
    assert REGISTRY.get_sample_value("millrace_capacity_pool_target", told) is None
