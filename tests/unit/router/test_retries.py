"""Second tries are a tenth of the requests, so that replicas that break under their load do not get twice as much."""

from __future__ import annotations

import random
from collections.abc import Callable

from services.router.core.retries import SHARE, SPARE_MAX, RetryBudget

REQUESTS = 20_000


def tries_at(failing: float, take: Callable[[int], bool]) -> int:
    """How often replicas are asked that fail with this share of the requests."""
    chance, answered, tries = random.Random(5), 0, 0
    for _ in range(REQUESTS):
        for has_another in (True, False):
            tries += 1
            if chance.random() >= failing:
                answered += 1
                break
            if not has_another or not take(answered):
                break
    return tries


def is_bounded(take: Callable[[int], bool], *, failing: float) -> bool:
    return tries_at(failing, take) <= REQUESTS * (1 + SHARE) + SPARE_MAX


def test_replicas_that_all_fail_are_asked_a_tenth_more_and_not_twice_as_much() -> None:
    assert all(is_bounded(RetryBudget().take, failing=failing) for failing in (0.3, 0.7, 1.0))
    assert not is_bounded(lambda _answered: True, failing=0.7)  # Without a budget this test would see it.


def test_where_few_fail_each_of_them_has_its_second_try() -> None:
    budget, refused = RetryBudget(), 0

    def take(answered: int) -> bool:
        nonlocal refused
        has_room = budget.take(answered)
        refused += not has_room
        return has_room

    tries_at(0.05, take)

    assert refused == 0


def test_a_replica_that_goes_takes_its_count_with_it_and_nothing_else() -> None:
    budget = RetryBudget()
    while budget.take(1_000):
        pass

    assert not budget.take(10)
    assert budget.take(20)
    assert not budget.take(20)
