"""Whether a domain that was proved is still proved: looked at daily, and given time before it counts as lost.

A look that nobody answered is none: only resolvers that answered can say that a proof is gone. What runs is not cut:
while the proof is gone only new host names are refused, and after the grace another tenant may prove the domain.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from libs.common.units import DAY_MS

LOOK_EVERY_MS: Final = DAY_MS  # Give or take a quarter, so that domains proved at one time are not looked at at one.
MISSES_MAX: Final = 3  # Looks in a row: a zone that is being moved, or edited in a hurry, is back by then.
GRACE_MS: Final = 14 * DAY_MS  # From the word that it lapses until another tenant may have it: two weeks of holidays.


class Standing(StrEnum):
    """How far a domain is its tenant's."""

    VERIFIED = "verified"  # The proof was there, or has not been missed often enough.
    LAPSING = "lapsing"  # It is gone: no new host names; another tenant may have the domain after the grace.
    LAPSED = "lapsed"  # The grace is over: whoever proves it has it. Until then what runs goes on.


@dataclass(frozen=True, slots=True)
class Proof:
    """What was seen of a proof: `missed` looks in a row found none; 0 for what did not happen (yet)."""

    seen_ms: int = 0
    looked_ms: int = 0
    missed: int = 0
    lapses_ms: int = 0  # When the grace ends, once it has begun.
    lapsed_ms: int = 0  # When it was seen to be gone after that.

    @property
    def standing(self) -> Standing:
        """How far the domain is its tenant's."""
        if self.lapsed_ms:
            return Standing.LAPSED
        return Standing.LAPSING if self.lapses_ms else Standing.VERIFIED


def looked(proof: Proof, *, is_there: bool, now_ms: int) -> Proof:
    """What is known after a look that was answered."""
    if is_there:
        return Proof(seen_ms=now_ms, looked_ms=now_ms)
    after = replace(proof, looked_ms=now_ms, missed=proof.missed + 1)
    if after.missed < MISSES_MAX or after.lapsed_ms:
        return after
    if not after.lapses_ms:
        return replace(after, lapses_ms=now_ms + GRACE_MS)
    return replace(after, lapsed_ms=now_ms) if now_ms >= after.lapses_ms else after


def due_ms(name: str, proof: Proof, *, since_ms: int) -> int:
    """When to look again at the proof of a domain that was verified at ``since_ms``."""
    last_ms = max(proof.looked_ms, since_ms)
    spread = zlib.crc32(f"{name}|{last_ms}".encode()) % (LOOK_EVERY_MS // 2)
    return last_ms + LOOK_EVERY_MS * 3 // 4 + spread
