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
        if not pool.is_released and pool.project:
            yield _stock(pool, pool.tier, pool.region, target=pool.warm, said=pool.said, now_ms=now_ms)


def _of_claims(claims: Iterable[Claim], now_ms: int) -> Iterator[Stock]:
    for claim in claims:
        if claim.spec is not None and (claim.warm_wanted or claim.warm or claim.drawn):
            wanted, said = claim.warm_wanted, claim.warm_said
            yield _stock(claim, claim.spec.tier, claim.region, target=wanted, said=said, now_ms=now_ms)


def _stock(held: Pool | Claim, tier: str, region: str, *, target: int, said: object, now_ms: int) -> Stock:
    serving, warm, draining = _uses(held.nodes)
    return Stock(
        id=held.id,
        tier=tier,
        region=region,
        node_type=held.machines.node_type if held.machines else "",
        target=target,
        said_by=SAID_BY_TIER if said is None else SAID_BY_AUTOSCALER,
        serving=serving,
        warm=warm,
        draining=draining,
        drawn=held.drawn,
        drawn_warm=held.drawn_warm,
        idle_cost=warm * held.node_cost,
        idle_gpu_ms=idle_gpu_ms(held.idle, now_ms),
    )


def _uses(nodes: Iterable[Node]) -> tuple[int, int, int]:
    """Joined nodes that serve, stand warm, and are on their way out."""
    joined = [each.use for each in live(nodes) if each.is_told]
    warm, draining = joined.count(NodeUse.WARM), joined.count(NodeUse.DRAINING)
    return len(joined) - warm - draining, warm, draining
