"""What usage costs by a price book, group by group, in whole nano-units.

A group's quantities are added by article and multiplied once, as an invoice does; only the group's cost is rounded, to
the nearest nano-unit. Cents, and what their rounding leaves, are the invoice's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from libs.common.store.port import Sum
from services.metering.core.accounts import parts_of
from services.metering.core.breakdown import By, said_of
from services.metering.core.labels import labels_of
from services.metering.core.rating import Article, PriceBook, half_even, whole

Place = tuple[tuple[str, ...], str]


def costs_of(sums: Iterable[Sum], by: Sequence[By], book: PriceBook) -> Mapping[Place, int | None]:
    """Nano-units by group and meter; None where any of it has no price, so that no part passes for the whole."""
    quantities: dict[Place, dict[Article, int]] = {}
    for each in sums:
        said = said_of(each)
        of_group = quantities.setdefault((tuple(said[name] for name in by), each.meter), {})
        article = article_of(each)
        of_group[article] = of_group.get(article, 0) + whole(each.quantity)
    return {place: _cost(of_group, book) for place, of_group in quantities.items()}


def article_of(found: Sum) -> Article:
    """What a sum is priced as: its meter with its account, its model and its tier."""
    _, account = parts_of(found.account)
    labels = labels_of(found.labels)
    return Article(f"{found.meter}/{account}" if account else found.meter, labels.model, labels.tier)


def _cost(quantities: Mapping[Article, int], book: PriceBook) -> int | None:
    exact = Fraction(0)
    for article, quantity in quantities.items():
        priced_as = book.priced_as(article)
        if priced_as is None:
            if quantity:
                return None
            continue
        price = book.prices[priced_as]
        exact += Fraction(quantity * price.nano, price.per)
    return half_even(exact.numerator, exact.denominator)
