"""The times that scaling goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libs.common.units import MINUTE_MS, SECOND_MS

STABLE_MS: Final = 60 * SECOND_MS  # Knative's; shorter follows noise, longer pays for idle GPUs.
PANIC_MS: Final = 6 * SECOND_MS  # A tenth of it: a burst is answered within two reports.
STALE_MS: Final = 15 * SECOND_MS  # Three reports of a router; after that its silence is missing data.
GONE_MS: Final = 10 * MINUTE_MS  # As long as the load stream keeps reports; after that a silent router is none.
EVALUATE_MS: Final = 5 * SECOND_MS  # How late a scale-down that is due may be noticed.


@dataclass(frozen=True, slots=True)
class Policy:
    """How far back is looked, how old is too old, and how often is looked without being told anything."""

    stable_ms: int = STABLE_MS
    panic_ms: int = PANIC_MS
    stale_ms: int = STALE_MS
    gone_ms: int = GONE_MS
    evaluate_ms: int = EVALUATE_MS
