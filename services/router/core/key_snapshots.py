"""What a snapshot of keys may change, beside what the bus tells: two words on keys, in any order, give one state.

That they may come in any order rests on what a key is: nobody is ever let in by it to more than at its making. Its end
may be moved to be earlier, and it may be over for good; so of two words on a key the narrower one is the later. A
budget may grow: of a key that is known and not narrowed, that comes by the bus alone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from libs.common.events.tables import KeyEntry
from libs.common.key_snapshot import KeySnapshot
from libs.common.units import HOUR_MS

STALE_MS: Final = 1 * HOUR_MS  # A true snapshot that somebody kept to hide a revocation since then: not for longer.


class Verdict(StrEnum):
    """What is done with a snapshot whose signature is good."""

    TAKEN = "taken"
    OLDER = "older"  # Than one that was taken before, in this life or an earlier one: keys do not come back.
    STALE = "stale"


def verdict(snapshot: KeySnapshot, *, known: tuple[int, int], now_ms: int) -> Verdict:
    """Whether to take it, by the mark of the newest one that was taken and by when it was issued."""
    if snapshot.mark < known:
        return Verdict.OLDER
    return Verdict.STALE if now_ms - snapshot.issued_at_ms > STALE_MS else Verdict.TAKEN


def is_narrower(told: KeyEntry, known: KeyEntry | None) -> bool:
    """Whether what a snapshot tells of a key that is not over is later than what is known of it."""
    if known is None:
        return True
    return told.expires_at_ms is not None and (known.expires_at_ms is None or told.expires_at_ms < known.expires_at_ms)
