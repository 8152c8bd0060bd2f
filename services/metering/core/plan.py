"""What to tell of the windows that were compared with the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from services.metering.core.decide import LedgerRead
from services.metering.core.state import Meter
from services.metering.core.telling import Totalled


@dataclass(frozen=True, slots=True)
class Tell:
    """Windows of one endpoint to be told together, each once."""

    windows: tuple[Totalled, ...]


def plan(_meter: Meter, read: LedgerRead, _now_ms: int) -> tuple[Tell, ...]:
    """Tell every window whose sum is not what was told last, earliest first."""
    untold = {each.key: each for each in sorted(read.untold, key=lambda each: (each.start_ms, each.key))}
    return (Tell(tuple(untold.values())),) if untold else ()
