"""The completeness audit: a router numbers its batches without gaps, so a missing number is a missing batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

BOOTS_MAX: Final = 32  # Boots remembered per router; a crash loop must not grow the record for ever.


@dataclass(frozen=True, slots=True)
class Boot:
    """One life of a router process: the batch numbers heard, as inclusive runs, and when it last spoke."""

    boot_id: str
    runs: tuple[tuple[int, int], ...]
    spoke_ms: int

    @property
    def missing(self) -> int:
        """How many numbers from 1 to the highest heard were not heard."""
        return max(0, self.runs[-1][1] - sum(last - max(first, 1) + 1 for first, last in self.runs if last >= 1))


@dataclass(frozen=True, slots=True)
class Boots:
    """The boots of one router, the one that spoke last at the end; older ones than `forgotten_ms` are not audited."""

    boots: tuple[Boot, ...] = ()
    forgotten_ms: int = -1

    def hear(self, boot_id: str, boot_seq: int, *, told_ms: int) -> Boots:
        """Remember that a batch arrived. Order and repeats do not matter."""
        known = next((each for each in self.boots if each.boot_id == boot_id), None)
        if known is None and told_ms <= self.forgotten_ms:
            return self
        known = known or Boot(boot_id, (), told_ms)
        heard = Boot(boot_id, merged((*known.runs, (boot_seq, boot_seq))), max(known.spoke_ms, told_ms))
        others = (each for each in self.boots if each.boot_id != boot_id)
        boots = sorted((*others, heard), key=lambda each: (each.spoke_ms, each.boot_id))
        gone = boots[:-BOOTS_MAX]
        forgotten_ms = max([self.forgotten_ms, *(each.spoke_ms for each in gone)])
        return replace(self, boots=tuple(boots[-BOOTS_MAX:]), forgotten_ms=forgotten_ms)

    @property
    def missing_now(self) -> int:
        """Batches of the present boot that have not come: more than 0 for minutes means that usage is being lost."""
        return self.boots[-1].missing if self.boots else 0

    @property
    def missing_before(self) -> int:
        """Batches of ended boots that never came; their requests come again in batches of a later boot."""
        return sum(each.missing for each in self.boots[:-1])

    @property
    def incomplete_before(self) -> tuple[tuple[Boot, bool], ...]:
        """The ended boots of which batches never came, and whether a boot after them has brought all of its own.

        The journal outlives the boot: what was not confirmed is sent again in batches of the next one. So one that
        brings all that it numbers makes good what those before it did not bring.
        """
        brings_all = [not each.missing for each in self.boots]
        return tuple((each, any(brings_all[place + 1 :])) for place, each in enumerate(self.boots[:-1]) if each.missing)


def merged(runs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Inclusive runs, sorted, with those that touch or overlap made one."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)
