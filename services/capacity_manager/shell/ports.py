"""What the service needs from outside, as it needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from libs.common.clock import Clock
from libs.common.store.port import Store
from libs.common.units import SECOND_MS
from services.capacity_manager.core.decide import Rules
from services.capacity_manager.core.observed import Observed
from services.capacity_manager.core.plan import Action
from services.capacity_manager.core.state import Claim


class Capacity(Protocol):
    """Where clusters and nodes come from: a `World` of claims."""

    def observe(self, state: Claim) -> Observed:
        """What is there of a claim. Raises Unavailable where it is unknown."""

    def apply(self, action: Action) -> None:
        """Do one thing; doing it again changes nothing. Raises Unavailable (later) or Rejected (never)."""


DEFAULT_RULES = Rules()


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything outside."""

    store: Store
    clock: Clock
    capacity: Capacity
    rules: Rules = DEFAULT_RULES
    resync_ms: int = 5 * SECOND_MS
