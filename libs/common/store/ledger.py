"""Sums of the ledger in SQL, read exactly: every entry was added in its own commit to the sums of its hour.

A sum over a long time is read from whole hours, and from the entries themselves at its two ends.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
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

from libs.common.store.tables import ENTRIES, SUMS
from libs.common.units import HOUR_MS

HOUR_OF: Final = ENTRIES.c.at_ms - ENTRIES.c.at_ms % literal_column(str(HOUR_MS))
BY: Final = (ENTRIES.c.account, HOUR_OF, ENTRIES.c.meter, ENTRIES.c.labels)
FILL_SUMS: Final = insert(SUMS).from_select(
    ["account", "start_ms", "meter", "labels", "quantity"],
    select(*BY, func.sum(ENTRIES.c.quantity)).group_by(*BY),
)


def summing(*, from_ms: int, to_ms: int, under: str | None, every_ms: int | None) -> Select[Any]:
    """Sums by account, meter, labels and interval over ``[from_ms, to_ms)``."""
    first, last = -(-from_ms // HOUR_MS) * HOUR_MS, to_ms // HOUR_MS * HOUR_MS
    if every_ms is not None and every_ms % HOUR_MS:
        first = last = to_ms  # Shorter than what hours know.
    if first >= last:
        parts = [_part(ENTRIES, ENTRIES.c.at_ms, (from_ms, to_ms), under, every_ms)]
    else:
        parts = [_part(SUMS, SUMS.c.start_ms, (first, last), under, every_ms)]
        ends = [(from_ms, first), (last, to_ms)]
        parts += [_part(ENTRIES, ENTRIES.c.at_ms, each, under, every_ms) for each in ends if each[0] < each[1]]
    found = union_all(*parts).subquery()
    by = (found.c.account, found.c.meter, found.c.labels, found.c.start_ms)
    return select(*by, func.sum(found.c.quantity)).group_by(*by).order_by(*by)


def _part(
    table: Table, at_ms: ColumnElement[int], within: tuple[int, int], under: str | None, every_ms: int | None
) -> Select[Any]:
    c = table.c
    start: ColumnElement[int] = (
        literal(0, Integer()) if every_ms is None else at_ms - at_ms % literal_column(str(int(every_ms)))
    )
    by = (c["account"], c["meter"], c["labels"], start.label("start_ms"))
    wanted = select(*by, func.sum(c["quantity"]).label("quantity")).where(at_ms >= within[0], at_ms < within[1])
    if under is not None:
        below = (c["account"] > f"{under}/", c["account"] < f"{under}0")  # "0" is what comes after "/".
        wanted = wanted.where(or_(c["account"] == under, below[0] & below[1]))
    return wanted.group_by(*by[:3], *([] if every_ms is None else [start]))
