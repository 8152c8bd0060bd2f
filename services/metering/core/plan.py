"""What to tell of the windows that were compared with the ledger."""

from __future__ import annotations

from services.metering.core.decide import LedgerRead
from services.metering.core.state import Meter
from services.metering.core.telling import Totalled


def plan(_meter: Meter, read: LedgerRead, _now_ms: int) -> tuple[Totalled, ...]:
    """Tell every window whose sum is not what was told last, earliest first."""
    return tuple(sorted(read.untold, key=lambda each: (each.start_ms, each.key)))
