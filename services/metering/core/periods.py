"""Billing periods: months or days of UTC, each beginning where the one before ended."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from libs.common.errors import Conflict, Invalid

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NAME: Final = re.compile(r"\d{4}-\d{2}(-\d{2})?")
LATE_H: Final = 72  # reliability.md 3.7: what comes later goes to the next invoice.


@dataclass(frozen=True, slots=True)
class Period:
    """``[start_ms, end_ms)`` under the name that people know it by."""

    name: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Books:
    """Which periods were closed, in their order; nothing in them changes any more."""

    key: str
    closed: tuple[Period, ...] = ()


def period_of(name: str) -> Period:
    """The month (`2026-11`) or day (`2026-11-28`) of this name. Raises Invalid."""
    try:
        if not NAME.fullmatch(name):
            raise ValueError
        is_month = len(name) == len("2026-11")
        start = datetime.fromisoformat(f"{name}-01" if is_month else name).replace(tzinfo=UTC)
        # 31 days on is always in the next month.
        end = (start + timedelta(days=31)).replace(day=1) if is_month else start + timedelta(days=1)
    except (ValueError, OverflowError):
        raise Invalid(f"{name!r} is no period: give a month like 2026-11, or a day like 2026-11-28, of UTC") from None
    return Period(name, _ms(start), _ms(end))


def refuse_early(period: Period, *, now_ms: int, late_ms: int) -> None:
    """Raises Conflict while late usage of the period is still waited for."""
    ready_ms = period.end_ms + late_ms
    if now_ms < ready_ms:
        when = (EPOCH + timedelta(milliseconds=ready_ms)).isoformat(timespec="minutes")
        raise Conflict(f"{period.name} can't be closed before {when}: late usage of it still counts", code="too_early")


def refuse_gap(period: Period, closed: Sequence[Period]) -> None:
    """Raises Conflict unless the period begins where the last closed one ended: nothing is billed twice or never."""
    if closed and period.start_ms != closed[-1].end_ms:
        raise Conflict(f"the last closed period is {closed[-1].name}: close the one that begins where it ends")


def _ms(when: datetime) -> int:
    return (when - EPOCH) // timedelta(milliseconds=1)
