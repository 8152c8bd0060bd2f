"""Usage as figures over time and by name, for charts: no gap left out, in units that suit the size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from libs.cli.output import duration
from libs.common.errors import Invalid
from libs.common.events.usage import Meter
from libs.common.units import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS

Item = Mapping[str, Any]

BY_HOUR_MAX_MS: Final = 3 * DAY_MS  # Longer than this, an hour would be too thin to see.
INTERVALS_MAX: Final = 400  # Columns of a chart.
MONEY_PLACES: Final = 6
LAST: Final = {"m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
ACCOUNTS: Final = (
    "serving",
    "loading",
    "draining",
    "idle_owned",
    "warm",
    "stranded",
)  # From what earns to what is lost.


@dataclass(frozen=True, slots=True)
class Span:
    """A time in whole hours or days of UTC, ``[from_ms, to_ms)``; the last one may be still going on."""

    from_ms: int
    to_ms: int
    interval: str

    @property
    def starts_ms(self) -> tuple[int, ...]:
        """The start of each interval."""
        return tuple(range(self.from_ms, self.to_ms, DAY_MS if self.interval == "day" else HOUR_MS))


@dataclass(frozen=True, slots=True)
class Unit:
    """What an axis counts in: `per` of what the ledger counts make one."""

    name: str
    per: int

    def of(self, quantity: int) -> str:
        """A quantity in this unit, to three digits or as a whole number."""
        found = quantity / self.per
        places = 0 if found >= 100 or quantity % self.per == 0 else 1 if found >= 10 else 2 if found >= 1 else 3
        return f"{found:,.{places}f}"

    def fixed(self, quantity: int) -> str:
        """A quantity in this unit with two decimals, for figures below one another."""
        return f"{quantity / self.per:,.2f}"


def span_of(from_ms: int, to_ms: int) -> Span:
    """The hours or days that hold a time. Raises Invalid if there is none, or more than a chart can show."""
    if from_ms >= to_ms:
        raise Invalid("the time to show ends before it begins: give --from before --to")
    interval, size_ms = ("day", DAY_MS) if to_ms - from_ms > BY_HOUR_MAX_MS else ("hour", HOUR_MS)
    span = Span(from_ms - from_ms % size_ms, -(-to_ms // size_ms) * size_ms, interval)
    if len(span.starts_ms) > INTERVALS_MAX:
        raise Invalid(f"{len(span.starts_ms)} days do not fit a chart: show {INTERVALS_MAX} at most")
    return span


def moment_ms(text: str, *, now_ms: int) -> int:
    """A time as epoch milliseconds: RFC 3339 with a zone, epoch milliseconds, or ``24h`` ago. Raises Invalid."""
    if text.isascii() and text[:-1].isdigit() and text[-1:] in LAST and len(text) <= 6:
        return now_ms - int(text[:-1]) * LAST[text[-1]]
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise Invalid("a time is like 2026-11-23T00:00:00Z, epoch milliseconds, or 24h or 7d for so long ago")
    return round(when.timestamp() * SECOND_MS)


def over_time(items: Iterable[Item], span: Span, name: Callable[[Item], str]) -> dict[str, list[int]]:
    """By name, the quantity in each interval of the span, also where it is nothing."""
    places = {start_ms: index for index, start_ms in enumerate(span.starts_ms)}
    found: dict[str, list[int]] = {}
    for each in items:
        index = places.get(moment_ms(each["group"][span.interval], now_ms=0))
        if index is not None:
            found.setdefault(name(each), [0] * len(places))[index] += each["quantity"]
    return found


def summed(items: Iterable[Item], name: Callable[[Item], str], of: str = "quantity") -> dict[str, int]:
    """By name, the sum of quantities (or of costs, where they are known)."""
    found: dict[str, int] = {}
    for each in items:
        found[name(each)] = found.get(name(each), 0) + (each[of] or 0)
    return found


def largest(sums: Mapping[str, int], limit: int) -> list[tuple[str, int]]:
    """The largest by name, and the others together as one, so that nothing is left out."""
    ordered = sorted(sums.items(), key=lambda each: (-each[1], each[0]))
    if len(ordered) <= limit:
        return ordered
    rest = ordered[limit - 1 :]
    return [*ordered[: limit - 1], (f"{len(rest)} others", sum(quantity for _, quantity in rest))]


def unit_of_time(most_ms: int) -> Unit:
    """Seconds, minutes or hours of GPUs."""
    if most_ms < 2 * MINUTE_MS:
        return Unit("GPU-seconds", SECOND_MS)
    return Unit("GPU-minutes", MINUTE_MS) if most_ms < 2 * HOUR_MS else Unit("GPU-hours", HOUR_MS)


def unit_of_count(most: int, what: str) -> Unit:
    """Ones, thousands or millions."""
    for per, name in ((1_000_000, "million "), (1_000, "thousand ")):
        if most >= 10 * per:
            return Unit(f"{name}{what}", per)
    return Unit(what, 1)


def ticks(most: int, unit: Unit, count: int = 4) -> list[int]:
    """Round marks from 0 to the first one that is not below ``most``, in what the ledger counts."""
    need = max(most, 1) / unit.per / count
    power = 10.0 ** math.floor(math.log10(need))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= need)
    step = max(step, 1 / unit.per)  # No mark between two whole units of the ledger.
    marks = [0]
    while marks[-1] < most or len(marks) < 2:
        marks.append(round(len(marks) * step * unit.per))
    return marks


def money(nano: int, currency: str) -> str:
    """An amount for reading: two decimals, or as many more as show two digits of a small one."""
    exact = Decimal(nano).scaleb(-9)
    places = next((each for each in range(2, MONEY_PLACES) if not nano or abs(exact) * 10**each >= 10), MONEY_PLACES)
    return f"{exact:,.{places}f} {currency}"


def quantity_of(meter: str, quantity: int) -> str:
    """A quantity for reading: time as a duration, storage in GiB-hours, anything else as a number."""
    sign, size = "-" if quantity < 0 else "", abs(quantity)
    if meter in (Meter.VOLUME_MIB_MS, Meter.CACHE_MIB_MS):
        return f"{sign}{Decimal(size) / (1024 * HOUR_MS):,.1f} GiB·h"
    return sign + (duration(size) if meter.endswith("_ms") else f"{size:,}")


def meter_name(meter: str) -> str:
    """A meter for reading: without its unit, which quantities say."""
    return meter.removesuffix("_mib_ms").removesuffix("_ms").replace("_", " ")


def day_of(at_ms: int) -> str:
    """A day for reading, as ``3 Nov``."""
    when = datetime.fromtimestamp(at_ms / SECOND_MS, UTC)
    return f"{when.day} {when:%b}"


def time_of(at_ms: int) -> str:
    """A moment for reading, as ``3 Nov 2026, 14:00``."""
    when = datetime.fromtimestamp(at_ms / SECOND_MS, UTC)
    return f"{when.day} {when:%b %Y, %H:%M}"


def label_of(start_ms: int, interval: str) -> str:
    """The name of an interval for reading, as ``3 Nov`` or ``3 Nov 14:00``."""
    day = day_of(start_ms)
    return day if interval == "day" else f"{day} {datetime.fromtimestamp(start_ms / SECOND_MS, UTC):%H:%M}"


def held(items: Iterable[Item], meter: str = "gpu_ms") -> list[Item]:
    """The items of one meter."""
    return [each for each in items if each["meter"] == meter]


def in_order(names: Iterable[str]) -> Sequence[str]:
    """Accounts from what earns to what is lost."""
    return sorted(names, key=lambda each: (ACCOUNTS.index(each) if each in ACCOUNTS else len(ACCOUNTS), each))
