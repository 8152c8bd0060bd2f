"""Costs by group: exact until one rounding, never a part for the whole, and the same however usage is grouped."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from libs.common.store.port import Sum
from services.metering.core.breakdown import By
from services.metering.core.costs import costs_of
from services.metering.core.labels import Labels, text_of
from services.metering.core.rating import ANY, Article, Price, PriceBook

BOOK = PriceBook(
    "b", {Article("prompt_tokens", "m-1"): Price(10, per=7), Article("gpu_ms/serving", ANY, "h100"): Price(3)}
)


def a_sum(
    quantity: int, *, meter: str = "prompt_tokens", model: str = "m-1", account: str = "", endpoint: int = 1
) -> Sum:
    where = f"acme/main/ep-{endpoint}" + (f"/{account}" if account else "")
    return Sum(where, meter, text_of(Labels(model=model, tier="h100")), 0, quantity)


def test_a_group_is_multiplied_once_and_rounded_once() -> None:
    sums = [a_sum(1), a_sum(1, endpoint=2), a_sum(5, endpoint=3)]

    assert costs_of(sums, (By.TENANT,), BOOK) == {(("acme",), "prompt_tokens"): 10}
    assert costs_of(sums, (By.ENDPOINT,), BOOK)[("ep-1",), "prompt_tokens"] == 1


def test_a_group_of_which_a_part_has_no_price_has_no_cost() -> None:
    sums = [a_sum(7), a_sum(7, model="m-2")]

    assert costs_of(sums, (By.TENANT,), BOOK) == {(("acme",), "prompt_tokens"): None}
    assert costs_of(sums, (By.MODEL,), BOOK) == {(("m-1",), "prompt_tokens"): 10, (("m-2",), "prompt_tokens"): None}


def test_held_time_is_priced_by_its_account() -> None:
    sums = [a_sum(5, meter="gpu_ms", account="serving"), a_sum(5, meter="gpu_ms", account="stranded")]

    costs = costs_of(sums, (By.ACCOUNT,), BOOK)

    assert costs == {(("serving",), "gpu_ms"): 15, (("stranded",), "gpu_ms"): None}


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(-(10**15), 10**15)), min_size=1, max_size=20))
def test_groups_add_up_to_the_whole_but_for_half_a_nano_unit_each(used: list[tuple[int, int]]) -> None:
    sums = [a_sum(quantity, endpoint=endpoint) for endpoint, quantity in used]

    parts = costs_of(sums, (By.ENDPOINT,), BOOK)

    exact = Fraction(sum(quantity for _, quantity in used) * 10, 7)
    assert all(type(each) is int for each in parts.values())
    assert abs(sum(each or 0 for each in parts.values()) - exact) <= Fraction(len(parts), 2)
