"""What stands warm where, for people and metrics: target and stock, how often it was there, what idling costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from libs.common.events.capacity import NodeUse
from services.capacity_manager.core.node_time import live
from services.capacity_manager.core.node_use import idle_gpu_ms
from services.capacity_manager.core.pools import Pool
from services.capacity_manager.core.state import Claim, Node

SAID_BY_TIER = "tier"
SAID_BY_AUTOSCALER = "autoscaler"


@dataclass(frozen=True, slots=True)
class Stock:
    """A shared cluster, or an endpoint's own that has warm nodes.

    `target` nodes are to stand warm, by whose word. `drawn` nodes came to be needed, `drawn_warm` of them stood warm.
    `idle_cost` is what the warm nodes are rated at now, in the Platform's units; `idle_gpu_ms` is how long GPUs idled.
    """

    id: str
    tier: str
    region: str
    node_type: str
    target: int
    said_by: str
    serving: int
    warm: int
    draining: int
    drawn: int
    drawn_warm: int
    idle_cost: int
    idle_gpu_ms: int

    @property
    def hit_percent(self) -> int | None:
        """Of the nodes that came to be needed, so many stood warm; None while none did."""
        return self.drawn_warm * 100 // self.drawn if self.drawn else None


def stocks(pools: Iterable[Pool], claims: Iterable[Claim], now_ms: int) -> tuple[Stock, ...]:
    """Every pool that is not released and every claim with a stock of its own, the dearest first."""
    found = [*_of_pools(pools, now_ms), *_of_claims(claims, now_ms)]
    return tuple(sorted(found, key=lambda each: (-each.idle_cost, each.tier, each.id)))


def _of_pools(pools: Iterable[Pool], now_ms: int) -> Iterator[Stock]:
    for pool in pools:
        if pool.is_released or not pool.project:
            continue
        uses = _uses(pool.nodes)
        yield Stock(
            id=pool.id,
            tier=pool.tier,
            region=pool.region,
            node_type=pool.machines.node_type if pool.machines else "",
            target=pool.warm,
            said_by=SAID_BY_TIER if pool.said is None else SAID_BY_AUTOSCALER,
            serving=uses[0],
            warm=uses[1],
            draining=uses[2],
            drawn=pool.drawn,
            drawn_warm=pool.drawn_warm,
            idle_cost=uses[1] * pool.node_cost,
            idle_gpu_ms=idle_gpu_ms(pool.idle, now_ms),
        )


def _of_claims(claims: Iterable[Claim], now_ms: int) -> Iterator[Stock]:
    for claim in claims:
        if claim.spec is None or not (claim.warm_wanted or claim.warm or claim.drawn):
            continue
        uses = _uses(claim.nodes)
        yield Stock(
            id=claim.id,
            tier=claim.spec.tier,
            region=claim.region,
            node_type=claim.machines.node_type if claim.machines else "",
            target=claim.warm_wanted,
            said_by=SAID_BY_TIER if claim.warm_said is None else SAID_BY_AUTOSCALER,
            serving=uses[0],
            warm=uses[1],
            draining=uses[2],
            drawn=claim.drawn,
            drawn_warm=claim.drawn_warm,
            idle_cost=uses[1] * claim.node_cost,
            idle_gpu_ms=idle_gpu_ms(claim.idle, now_ms),
        )


def _uses(nodes: Iterable[Node]) -> tuple[int, int, int]:
    """Joined nodes that serve, stand warm, and are on their way out."""
    joined = [each.use for each in live(nodes) if each.is_told]
    warm, draining = joined.count(NodeUse.WARM), joined.count(NodeUse.DRAINING)
    return len(joined) - warm - draining, warm, draining
