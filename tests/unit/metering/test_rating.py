"""Money: however usage is split into events, the invoice is the same; and no float reaches it."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import Invalid
from services.metering.core.rating import ANY, NANO_PER_CENT, Article, Price, PriceBook, Used, half_even, rate

TOKENS, GPU = Article("prompt_tokens", "m-1", "h100"), Article("gpu_ms/serving", "m-1", "h100")
BOOK = PriceBook(
    "2027-01",
    {
        Article("prompt_tokens", "m-1"): Price(37_500, per=1_000),  # 0.0375 for a million.
        Article("prompt_tokens", ANY, "h100"): Price(1),
        Article("gpu_ms/serving", ANY, "h100"): Price(2_490_000_000, per=3_600_000),
    },
)


@given(
    totals=st.tuples(st.integers(0, 10**15), st.integers(0, 10**12)),
    cuts=st.lists(st.tuples(st.booleans(), st.integers(-(10**12), 10**12)), max_size=30),
    seed=st.randoms(use_true_random=False),
)
def test_any_split_of_usage_into_events_costs_the_same(
    totals: tuple[int, int], cuts: list[tuple[bool, int]], seed: Any
) -> None:
    whole = [Used(TOKENS, totals[0]), Used(GPU, totals[1])]
    parts = list(whole)
    for (
        is_gpu,
        quantity,
    ) in cuts:  # Every cut moves some of the total into an event of its own; corrections are negative.
        article = GPU if is_gpu else TOKENS
        parts += [Used(article, quantity), Used(article, -quantity)]
        last = next(index for index, each in enumerate(parts) if each.article == article)
        half = parts[last].quantity // 2
        parts[last : last + 1] = [Used(article, half), Used(article, parts[last].quantity - half)]
    seed.shuffle(parts)

    assert rate(parts, BOOK) == rate(whole, BOOK)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=24))
def test_what_rounding_leaves_is_carried_so_that_periods_add_up(months: list[int]) -> None:
    cents, carried = 0, dict[Article, int]()
    for quantity in months:
        invoice = rate([Used(GPU, quantity)], BOOK, carried=carried)
        cents += invoice.cents
        carried = {each.article: each.left for each in invoice.lines}
    (line,) = rate([Used(GPU, sum(months))], BOOK).lines

    (left,) = carried.values()
    assert cents * NANO_PER_CENT * line.per + left == sum(months) * 2_490_000_000
    assert abs(cents - line.cents) <= 1


@pytest.mark.parametrize("planted", [1.0, 0.5, float("nan"), True, "7", None])
def test_a_planted_float_is_refused(planted: object) -> None:
    used = [Used(TOKENS, 5), Used(TOKENS, cast("int", planted))]

    with pytest.raises(Invalid, match="only whole numbers"):
        rate(used, BOOK)
    with pytest.raises(Invalid, match="only whole numbers"):
        rate([Used(TOKENS, 5)], PriceBook("b", {Article("prompt_tokens"): Price(cast("int", planted))}))
    with pytest.raises(Invalid, match="only whole numbers"):
        rate([Used(TOKENS, 5)], BOOK, carried={Article("prompt_tokens", "m-1"): cast("int", planted)})


def test_the_most_exact_price_counts_and_what_has_none_is_named() -> None:
    other = Article("prompt_tokens", "m-2", "h100")
    free = Article("requests", "m-1", "h100")

    invoice = rate([Used(TOKENS, 10**9), Used(other, 10**9), Used(free, 3), Used(free, 4)], BOOK)

    assert [(each.article.model, each.cents) for each in invoice.lines] == [("*", 100), ("m-1", 3750)]
    assert invoice.cents == 3850
    assert invoice.unpriced == (Used(free, 7),)


@pytest.mark.parametrize(("numerator", "nearest"), [(5, 0), (15, 2), (25, 2), (26, 3), (-5, 0), (-15, -2), (-16, -2)])
def test_halves_go_to_the_even_cent(numerator: int, nearest: int) -> None:
    assert half_even(numerator, 10) == nearest


def test_a_price_for_nothing_is_refused() -> None:
    with pytest.raises(Invalid, match="1 or more"):
        rate([Used(TOKENS, 5)], PriceBook("b", {Article("prompt_tokens"): Price(1, per=0)}))
