"""A pool for tests: one shared cluster, found, and stepped by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from libs.common.events.capacity import NodeUse, NodeUsed
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.ids import EventId
from libs.common.runner import Woke
from libs.common.units import MINUTE_MS
from services.capacity_manager.core.observed import NodeSeen
from services.capacity_manager.core.pool_decide import decider, planner
from services.capacity_manager.core.pools import Pool, PoolCluster, PoolFound, PoolRules, PoolSeen
from services.capacity_manager.core.warmth import Warm
from tests.unit.capacity_manager.builders import NOW

POOL_RULES: Final = PoolRules(confirm_gone_ms=30_000, grace_ms=10 * MINUTE_MS, warm={"l40s-shared": Warm(2, 0)})
FOUND: Final = PoolFound(
    uid="uid-1",
    project="mr-pool",
    cluster="sc-a",
    tenant_id="",
    project_id="",
    tier="l40s-shared",
    region="eu-1",
    node_type="terraform.gpu-l40s",
    gpus_per_node=1,
)
EMPTY: Final = PoolCluster(uid="uid-1", is_deleting=False, quantity=0, warm=0, sharers=())


def a_pool_cluster(*sharers: str, quantity: int, warm: int = 0) -> PoolCluster:
    return EMPTY.model_copy(update={"quantity": quantity, "warm": warm, "sharers": sharers})


@dataclass
class PoolBench:
    """One pool, stepped by hand."""

    rules: PoolRules = POOL_RULES
    now_ms: int = NOW
    pool: Pool = field(default_factory=lambda: Pool("sc-a"))
    told: list[Event] = field(default_factory=list)
    wake_at_ms: int | None = None

    def __post_init__(self) -> None:
        self.take(FOUND)

    def take(self, data: Event, *, sequence: int = 0) -> None:
        envelope = Envelope(EventId(f"e{self.now_ms}"), data, "sc-a", self.now_ms, sequence=sequence)
        decision = decider(self.rules)(self.pool, envelope, self.now_ms)
        self.pool, self.wake_at_ms = decision.state, decision.wake_at_ms
        self.told += decision.events

    def see(
        self, cluster: PoolCluster | None, nodes: Sequence[NodeSeen] = (), *, free: int | None = None
    ) -> tuple[object, ...]:
        return self.look(PoolSeen(look=self.pool.look, cluster=cluster, nodes=tuple(nodes), free=free))

    def look(self, seen: PoolSeen) -> tuple[object, ...]:
        self.take(seen)
        return planner(self.rules)(self.pool, seen, self.now_ms)

    def wake(self) -> None:
        assert self.wake_at_ms is not None, "nothing is to be woken"
        self.now_ms = max(self.now_ms, self.wake_at_ms)
        self.take(Woke(due_ms=self.wake_at_ms))

    def of(self, kind: type[Any]) -> list[Any]:
        return [each for each in self.told if isinstance(each, kind)]

    def uses(self) -> dict[str, NodeUse]:
        return {each.claim: each.use for each in self.of(NodeUsed)}
