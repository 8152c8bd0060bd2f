"""Budgets in money: what of one is spent, what its slices may still cost, and how many tokens more it pays for.

Tokens that are out in slices count at the dearest price there is, until the ledger has them: then at their own. So
``charged`` and what the lots hold never pass the limit together, whatever was asked of which model, and whoever dies.
A price that changes holds for tokens granted after it: what was granted before costs at most what it was held at.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Final

from libs.common.events.usage import Meter
from libs.common.store.port import Sum
from services.metering.core.labels import labels_of
from services.metering.core.rating import Article, Price, PriceBook

TOKENS: Final = (Meter.PROMPT_TOKENS, Meter.COMPLETION_TOKENS)  # What a slice is counted in.
WITH: Final = {Meter.PROMPT_TOKENS: Meter.CACHED_PROMPT_TOKENS, Meter.COMPLETION_TOKENS: Meter.REASONING_TOKENS}
COUNTED: Final = frozenset({*WITH, *WITH.values()})  # Meters whose price a budget pays.
UNLIMITED: Final = 2**53 - 1  # Tokens: what a budget without a limit of them has, exact in every JSON reader.


@dataclass(frozen=True, slots=True)
class Lot:
    """Tokens that are out of the budget, and what each is held at, in nano-units."""

    tokens: int
    nano: int


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens of a budget's slices that are in the ledger, and their price: ``nano`` nano-units for each ``per``."""

    meter: str
    model: str
    tier: str
    quantity: int
    nano: int = 0
    per: int = 1

    @property
    def place(self) -> tuple[str, str, str]:
        """What was used."""
        return self.meter, self.model, self.tier


@dataclass(frozen=True, slots=True)
class Money:
    """A budget's limit, and the ledger and the price book as they were when it was drawn on.

    ``dearest`` is the most that a token can cost, in whole nano-units; None: there is no price book, and nothing is
    granted.
    """

    limit: int
    dearest: int | None
    counted: tuple[Counted, ...] = ()
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Spending:
    """How much of a budget is spent in this period: ``charged`` for what is ``counted``, and what lots are held at."""

    limit: int = 0
    charged: int = 0
    lots: tuple[Lot, ...] = ()
    counted: tuple[Counted, ...] = ()
    alerted: tuple[int, ...] = ()

    @property
    def held(self) -> int:
        """What the tokens that are out may cost at most."""
        return sum(each.tokens * each.nano for each in self.lots)


def money_of(limit: int, sums: Iterable[Sum], book: PriceBook | None) -> Money:
    """The budget's limit with what is in its account of the ledger, by the prices of the book."""
    if book is None:
        return Money(limit, None)
    dearest = dearest_of(book)
    quantities: dict[Article, int] = {}
    for each in sums:
        labels = labels_of(each.labels)
        article = Article(each.meter, labels.model, labels.tier)
        quantities[article] = quantities.get(article, 0) + each.quantity
    counted = []
    for article in sorted(quantities, key=lambda each: (each.meter, each.model, each.tier)):
        priced_as = book.priced_as(article)
        # A token without a price may cost anything: it counts as the dearest. Parts of it need no price of their own.
        price = Price(dearest if article.meter in TOKENS else 0) if priced_as is None else book.prices[priced_as]
        place = (article.meter, article.model, article.tier)
        counted.append(Counted(*place, quantities[article], nano=price.nano, per=price.per))
    return Money(limit, dearest, tuple(counted), book.currency)


def dearest_of(book: PriceBook) -> int:
    """The most that a token can cost by a book, in whole nano-units, with the part of it that has a price too."""
    most = dict.fromkeys(COUNTED, 0)
    for article, price in book.prices.items():
        meter = next((each for each in most if each == article.meter), None)
        if meter is not None:
            most[meter] = max(most[meter], -(-price.nano // price.per))
    return max(most[token] + most[part] for token, part in WITH.items())


def looked(spending: Spending, money: Money, *, out: int) -> Spending:
    """The spending once the ledger was looked at, while ``out`` tokens were granted and not given back in all."""
    if money.dearest is None:
        return replace(spending, limit=money.limit)
    known = {each.place: each for each in spending.counted}
    fresh = [
        replace(each, quantity=more)
        for each in money.counted
        if (more := each.quantity - (known[each.place].quantity if each.place in known else 0)) > 0
    ]
    known |= {each.place: each for each in money.counted if each.place in {new.place for new in fresh}}
    counted = tuple(known[place] for place in sorted(known))
    cost = ceil(sum(Fraction(each.quantity * each.nano, each.per) for each in fresh))
    tokens = _tokens(fresh)
    gone = sum(each.tokens for each in spending.lots) - max(0, out - _tokens(counted))
    lots, freed = _without(spending.lots, gone) if gone >= 0 else (_with(spending.lots, -gone, money.dearest), 0)
    # What no lot was held for costs what it costs: it was granted before the budget was one of money.
    charge = min(cost, freed) if tokens <= gone else cost
    return replace(spending, limit=money.limit, charged=spending.charged + charge, lots=lots, counted=counted)


def affordable(spending: Spending, money: Money) -> int:
    """How many tokens more the budget pays for, whatever they turn out to be."""
    if money.dearest is None:
        return 0
    room = max(0, money.limit - spending.charged - spending.held)
    return room // money.dearest if money.dearest else UNLIMITED


def granted(spending: Spending, tokens: int, money: Money) -> Spending:
    """The spending once so many tokens more are out."""
    return replace(spending, lots=_with(spending.lots, tokens, money.dearest or 0))


def _tokens(counted: Iterable[Counted]) -> int:
    return sum(each.quantity for each in counted if each.meter in TOKENS)


def _with(lots: tuple[Lot, ...], tokens: int, nano: int) -> tuple[Lot, ...]:
    if not tokens:
        return lots
    if lots and lots[-1].nano == nano:
        return (*lots[:-1], replace(lots[-1], tokens=lots[-1].tokens + tokens))
    return (*lots, Lot(tokens, nano))


def _without(lots: tuple[Lot, ...], tokens: int) -> tuple[tuple[Lot, ...], int]:
    """The lots after so many tokens, the oldest first, and what these were held at."""
    freed, left = 0, []
    for each in lots:
        gone = min(each.tokens, tokens)
        tokens -= gone
        freed += gone * each.nano
        if each.tokens > gone:
            left.append(replace(each, tokens=each.tokens - gone))
    return tuple(left), freed
