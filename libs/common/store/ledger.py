"""Sums of the ledger in SQL, read exactly: every entry was added in its own commit to the sums of its hour and day.

A sum over a long time is read from whole days, from hours at its two ends, and at their ends from the entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Insert,
    Integer,
    Select,
    Table,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    union_all,
)

from libs.common.store.tables import DAY_SUMS, ENTRIES, SUMS
from libs.common.units import DAY_MS, HOUR_MS

GRAINS: Final = ((DAY_SUMS, DAY_MS), (SUMS, HOUR_MS))  # From the coarsest on.


def _filling(table: Table, size_ms: int, source: Table, at_ms: Column[int]) -> Insert:
    by = (source.c.account, at_ms - at_ms % literal_column(str(size_ms)), source.c.meter, source.c.labels)
    names = ["account", "start_ms", "meter", "labels", "quantity"]
    return insert(table).from_select(names, select(*by, func.sum(source.c.quantity)).group_by(*by))


FILLS: Final = {  # How sums that are missing are made of what is there; in this order.
    SUMS.name: _filling(SUMS, HOUR_MS, ENTRIES, ENTRIES.c.at_ms),
    DAY_SUMS.name: _filling(DAY_SUMS, DAY_MS, SUMS, SUMS.c.start_ms),
}


@dataclass(frozen=True, slots=True)
class Among:
    """Which accounts: that one and those below it; these alone; with neither, all."""

    under: str | None
    accounts: tuple[str, ...] | None

    def of(self, account: ColumnElement[str]) -> list[ColumnElement[bool]]:
        """What must hold of an account."""
        found: list[ColumnElement[bool]] = [] if self.accounts is None else [account.in_(self.accounts)]
        if self.under is not None:
            below = (account > f"{self.under}/", account < f"{self.under}0")  # "0" is what comes after "/".
            found.append(or_(account == self.under, below[0] & below[1]))
        return found


def summing(within: tuple[int, int], among: Among, every_ms: int | None) -> Select[Any]:
    """Sums by account, meter, labels and interval over ``[from_ms, to_ms)``."""
    found = union_all(*_parts(within, GRAINS, among, every_ms)).subquery()
    by = (found.c.account, found.c.meter, found.c.labels, found.c.start_ms)
    return select(*by, func.sum(found.c.quantity)).group_by(*by).order_by(*by)


def _parts(
    within: tuple[int, int], grains: Sequence[tuple[Table, int]], among: Among, every_ms: int | None
) -> list[Select[Any]]:
    """A time from the coarsest sums that are whole in it, and its two ends from finer ones, at last from entries."""
    if not grains:
        return [_part(ENTRIES, ENTRIES.c.at_ms, within, among, every_ms)]
    (table, size_ms), finer = grains[0], grains[1:]
    first, last = -(-within[0] // size_ms) * size_ms, within[1] // size_ms * size_ms
    if first >= last or (every_ms or 0) % size_ms:  # Too short, or asked for by less than these sums know.
        return _parts(within, finer, among, every_ms)
    ends = [each for each in ((within[0], first), (last, within[1])) if each[0] < each[1]]
    whole = _part(table, table.c.start_ms, (first, last), among, every_ms)
    return [whole, *(part for each in ends for part in _parts(each, finer, among, every_ms))]


def _part(
    table: Table, at_ms: ColumnElement[int], within: tuple[int, int], among: Among, every_ms: int | None
) -> Select[Any]:
    c = table.c
    start: ColumnElement[int] = (
        literal(0, Integer()) if every_ms is None else at_ms - at_ms % literal_column(str(int(every_ms)))
    )
    by = (c["account"], c["meter"], c["labels"], start.label("start_ms"))
    where = (at_ms >= within[0], at_ms < within[1], *among.of(c["account"]))
    wanted = select(*by, func.sum(c["quantity"]).label("quantity")).where(*where)
    return wanted.group_by(*by[:3], *([] if every_ms is None else [start]))
