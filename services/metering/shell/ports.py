"""What metering needs from outside: a store, the time, and how windows are cut."""

from __future__ import annotations

from dataclasses import dataclass, field

from libs.common.clock import Clock
from libs.common.store.port import Store
from services.metering.core.rating import PriceBook
from services.metering.core.windows import Windows
from services.metering.shell.purse import Limits


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that differs between a process, a simulation and a test."""

    store: Store
    clock: Clock
    windows: Windows = field(default_factory=Windows)
    limits: Limits = field(default_factory=Limits)  # Of budgets, as they are set.
    prices: PriceBook | None = None  # What tokens of budgets in money cost.
