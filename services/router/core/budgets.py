"""Budgets: a request is served only from a slice that metering took off the budget before, so none is ever overspent.

Promise: of each budget and period, what was spent and is reserved never passes what was granted and not returned. A
slice belongs to this boot alone: what a process held when it was killed nobody spends again. What it granted, we spent
and we returned are totals that only grow, so that news of them may be lost, doubled and late.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from libs.common.events.route import Draw

AHEAD: Final = 8  # So many requests like the last one are drawn ahead of need.
Monthly = tuple[int | None, int | None]  # A limit in tokens, and one in money.
FIRST: Final = 4_096  # Tokens drawn for a budget of which nothing was asked yet.


@dataclass(frozen=True, slots=True)
class Held:
    """What a request holds of the slices of its budgets; ``tokens`` of each, fewer than it asked for at their end."""

    slices: tuple[tuple[str, str], ...]
    tokens: int

    @property
    def names(self) -> tuple[str, ...]:
        """The slices as a bill says them."""
        return tuple(f"{budget}@{period}" for budget, period in self.slices)


@dataclass(frozen=True, slots=True)
class Short:
    """A slice has not enough. `is_spent`: nor has the budget, as far as we know, even if what runs gives all back."""

    budget: str
    is_spent: bool


class Slice:
    """Of one budget in one period, in tokens; granted, returned and spent only grow. `left`: of the budget, beyond.

    `needs` and `wants` are what was to be granted in all for the last request that asked, and for some like it.
    `limit` is the one that was heard of.
    """

    __slots__ = ("granted", "is_asking", "left", "limit", "needs", "reserved", "returned", "spent", "wants")

    def __init__(self) -> None:
        self.granted = self.returned = self.spent = self.reserved = self.needs = self.wants = 0
        self.left: int | None = None
        self.limit: Monthly | None = None
        self.is_asking = False

    @property
    def free(self) -> int:
        """What a request may take."""
        return self.granted - self.returned - self.spent - self.reserved

    def need(self, tokens: int) -> None:
        """Ask for room for so many more than are in use, and for some like it to come."""
        used = self.returned + self.spent + self.reserved
        self.needs, self.wants, self.is_asking = used + tokens, used + AHEAD * tokens, True


class Slices:
    """The slices that this process holds. Not thread-safe: called from the event loop alone."""

    def __init__(self) -> None:
        self._slices: dict[tuple[str, str], Slice] = {}
        self._told: dict[tuple[str, str], Draw] = {}
        self._touched: dict[tuple[str, str], None] = {}  # Since they were told: of many budgets few are in use.

    def reserve(self, budgets: Sequence[str], *, period: str, tokens: int, least: int | None = None) -> Held | Short:
        """Take ``tokens`` from the slice of every budget, or of none.

        Of a budget that ends before it has so many the rest is taken, if that is ``least`` or more.
        """
        slices = [(budget, self._slice(budget, period)) for budget in budgets]
        granted, least = tokens, tokens if least is None else least
        for budget, each in slices:
            if each.free < AHEAD * tokens // 2:
                each.need(tokens)
                self._touched[budget, period] = None
            if each.free < tokens:
                ends = each.left is not None and each.left < tokens - each.free
                if not ends or each.free < least:
                    return Short(budget, is_spent=ends and each.free + each.reserved < least)
                granted = min(granted, each.free)
        for budget, each in slices:
            each.reserved += granted
            self._touched[budget, period] = None
        return Held(tuple((budget, period) for budget in budgets), granted)

    def settle(self, held: Held, *, tokens: int) -> None:
        """The request is over and used ``tokens``. Called once for what was held."""
        for key in held.slices:
            each = self._slices[key]
            each.reserved -= held.tokens
            each.spent += tokens
            self._touched[key] = None

    def expect(self, budget: str, period: str, limit: Monthly) -> None:
        """A budget is known: draw a little before anybody asks. With another limit it may have more than was told."""
        each = self._slice(budget, period)
        known, each.limit = each.limit, limit
        is_changed = known not in (None, limit)
        if is_changed:
            each.left = None
        if is_changed or (not each.granted and not each.wants):
            each.wants, each.is_asking = each.returned + each.spent + each.reserved + FIRST, True
            self._touched[budget, period] = None

    def granted(self, budget: str, period: str, *, total: int, left: int) -> None:
        """Metering took ``total`` off the budget for us so far, and ``left`` is what it has beyond."""
        each = self._slice(budget, period)
        if total >= each.granted:
            each.granted, each.left = total, left

    def give_back(self) -> None:
        """Return all that no request holds."""
        for key, each in self._slices.items():
            if each.free > 0 or each.needs:
                each.returned += max(0, each.free)
                each.needs = 0
                self._touched[key] = None

    def draws(self) -> tuple[Draw, ...]:
        """What is to be told: totals that changed, and what was asked for since."""
        found = {}
        for key in self._touched:
            draw = self._draw(key)
            if self._slices[key].is_asking or self._told.get(key) != draw:
                found[key] = draw
        self._touched = dict.fromkeys(found)
        return tuple(found.values())

    def told(self, draws: Iterable[Draw]) -> None:
        """The bus has these."""
        for each in draws:
            key = (each.budget, each.period)
            self._told[key] = each
            if each.needs == self._slices[key].needs:
                self._slices[key].is_asking = False
            if each == self._draw(key):  # Else something happened while it was being told.
                self._touched.pop(key, None)

    def _draw(self, key: tuple[str, str]) -> Draw:
        each = self._slices[key]
        return Draw(
            budget=key[0],
            period=key[1],
            spent=each.spent,
            returned=each.returned,
            needs=each.needs,
            wants=max(each.wants, each.needs),
        )

    def _slice(self, budget: str, period: str) -> Slice:
        return self._slices.setdefault((budget, period), Slice())
