"""What the service needs from outside, as it needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from libs.common.clock import Clock
from libs.common.store.port import Store
from libs.common.units import SECOND_MS
from services.capacity_manager.core.decide import Rules
from services.capacity_manager.core.observed import Observed
from services.capacity_manager.core.orphans import Caution, Found, PoolStanding, Standing, Survey
from services.capacity_manager.core.plan import Action
from services.capacity_manager.core.pools import Pool, PoolFound, PoolRules, PoolSeen
from services.capacity_manager.core.state import Claim


class Capacity(Protocol):
    """Where clusters and nodes come from: a `World` of claims."""

    def observe(self, state: Claim) -> Observed:
        """What is there of a claim. Raises Unavailable where it is unknown."""

    def apply(self, action: Action) -> None:
        """Do one thing; doing it again changes nothing. Raises Unavailable (later) or Rejected (never)."""

    def survey(self) -> Survey:
        """Everything of ours at a glance. Raises Unavailable."""

    def found(self, each: Standing) -> Found | None:
        """A closer look at one cluster of the survey; None if it is gone. Raises Unavailable."""

    def pool_found(self, each: PoolStanding) -> PoolFound | None:
        """The same of a shared cluster. Raises Unavailable."""

    def observe_pool(self, pool: Pool, warm: int) -> PoolSeen:
        """What is there of a pool that is to have so many warm nodes. Raises Unavailable where it is unknown."""


DEFAULT_RULES = Rules()
DEFAULT_CAUTION = Caution()
DEFAULT_POOLS = PoolRules()


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything outside."""

    store: Store
    clock: Clock
    capacity: Capacity
    rules: Rules = DEFAULT_RULES
    caution: Caution = DEFAULT_CAUTION
    pools: PoolRules = DEFAULT_POOLS
    resync_ms: int = 5 * SECOND_MS
