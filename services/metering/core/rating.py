"""Quantities to money: one price book, whole numbers, one rounding for each line of an invoice.

A price is a whole number of nano-units (1e-9 of the currency) for `per` units of a meter. Quantities of a line are
added first and multiplied once, so it does not matter how usage was split into events. Cents are rounded half to even;
what rounding left over is carried to the line of the next period, so nothing is lost or gained over the years.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from libs.common.errors import Invalid

NANO_PER_CENT: Final = 10_000_000
NANO_PER_UNIT: Final = 1_000_000_000
ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class Price:
    """``nano`` nano-units for every ``per`` units."""

    nano: int
    per: int = 1


@dataclass(frozen=True, slots=True)
class Article:
    """What has a price: a meter (with its account, as `gpu_ms/serving`), a model and a tier; `*` is any."""

    meter: str
    model: str = ANY
    tier: str = ANY


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Prices under one id; a changed price is a new book."""

    id: str
    prices: Mapping[Article, Price]
    currency: str = ""

    def priced_as(self, used: Article) -> Article | None:
        """The most exact article that has a price: model and tier, then model, then tier, then the meter alone."""
        for model, tier in ((used.model, used.tier), (used.model, ANY), (ANY, used.tier), (ANY, ANY)):
            article = Article(used.meter, model, tier)
            if article in self.prices:
                return article
        return None


@dataclass(frozen=True, slots=True)
class Used:
    """A quantity of something, as one event tells it; corrections are negative."""

    article: Article
    quantity: int


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One price applied once. ``left`` / ``per`` nano-units were not charged (or too much, if negative): carried on."""

    article: Article
    quantity: int
    cents: int
    left: int
    per: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """What a period costs by one price book; `unpriced` was used and has no price."""

    book: str
    lines: tuple[InvoiceLine, ...]
    unpriced: tuple[Used, ...]

    @property
    def cents(self) -> int:
        """The sum."""
        return sum(each.cents for each in self.lines)


def rate(used: Iterable[Used], book: PriceBook, *, carried: Mapping[Article, int] | None = None) -> Invoice:
    """The invoice of a period. ``carried`` is what the last one left, by article, in the same ``per``.

    Raises Invalid for a number that is not whole.
    """
    sums: dict[Article, int] = {}
    unpriced: dict[Article, int] = {}
    for each in used:
        article = book.priced_as(each.article)
        into = unpriced if article is None else sums
        place = article or each.article
        into[place] = into.get(place, 0) + whole(each.quantity)
    before = carried or {}
    articles = sorted({*sums, *before}, key=_order)
    lines = tuple(_line(each, sums.get(each, 0), book.prices[each], whole(before.get(each, 0))) for each in articles)
    return Invoice(book.id, lines, tuple(Used(each, unpriced[each]) for each in sorted(unpriced, key=_order)))


def whole(number: object) -> int:
    """The number, if it is a whole one: a float has lost something already, and true is no quantity. Raises Invalid."""
    if type(number) is not int:
        raise Invalid(f"{type(number).__name__} reached rating; only whole numbers may")
    return number


def half_even(numerator: int, denominator: int) -> int:
    """The nearest whole number, of two as near the even one."""
    below, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and below % 2):
        return below + 1
    return below


def _line(article: Article, quantity: int, price: Price, carried: int) -> InvoiceLine:
    if whole(price.per) <= 0:
        raise Invalid(f"the price of {article.meter} is for {price.per} units; it must be for 1 or more")
    exact = quantity * whole(price.nano) + carried  # In nano-units, times `per`.
    cents = half_even(exact, NANO_PER_CENT * price.per)
    return InvoiceLine(article, quantity, cents, exact - cents * NANO_PER_CENT * price.per, price.per)


def _order(article: Article) -> tuple[str, str, str]:
    return (article.meter, article.model, article.tier)
