"""What bodies of requests may take of memory: never more than there is, and all of it comes back."""

from __future__ import annotations

import random

import pytest

from services.router.core.refusals import HttpRefusal
from services.router.core.room import Holding, Room


def test_a_tenant_has_its_part_and_leaves_the_other_to_others() -> None:
    room = Room(100)
    room.take("a", 50)

    with pytest.raises(HttpRefusal) as own:
        room.take("a", 1)
    room.take("b", 40)
    room.take("c", 10)
    with pytest.raises(HttpRefusal) as all_of_it:
        room.take("b", 1)

    assert (own.value.status, all_of_it.value.status) == (429, 503)
    room.give_back("a", 50)
    room.take("b", 10)
    assert room.taken_bytes == 60


def test_whatever_connections_hold_and_let_go_nothing_is_lost_or_passed() -> None:
    chance, room = random.Random(3), Room(1_000)
    holdings, refused = [Holding(room) for _ in range(12)], 0
    for _ in range(5_000):
        each = chance.choice(holdings)
        before = each.size_bytes
        try:
            each.hold(chance.choice("abc"), chance.randrange(300))
        except HttpRefusal:
            refused += 1
            assert each.size_bytes in (before, 0)  # Nothing of another tenant's stays.
        assert room.taken_bytes == sum(holding.size_bytes for holding in holdings) <= 1_000
    for each in holdings:
        each.keep(0)

    assert refused > 100
    assert room.taken_bytes == 0
