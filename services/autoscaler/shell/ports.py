"""What autoscaler needs from outside: a store and the time."""

from __future__ import annotations

from dataclasses import dataclass, field

from libs.common.clock import Clock
from libs.common.store.port import Store
from services.autoscaler.core.policy import Policy


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that differs between a process, a simulation and a test."""

    store: Store
    clock: Clock
    policy: Policy = field(default_factory=Policy)
