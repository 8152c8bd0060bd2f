"""What goes from a full cache: enough and no more, the least recently used first, never what is in use or kept."""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from libs.model_fetch.eviction import MODELS_MAX, Cached, Need, Policy, to_evict

AMOUNTS: Final = st.integers(0, 100)
OTHERS: Final = st.lists(
    st.builds(
        Cached,
        digest=st.integers(0, 40).map(lambda number: f"sha256:{number:02}"),
        size_bytes=AMOUNTS,
        used_ms=AMOUNTS,
        is_in_use=st.booleans(),
        is_whole=st.booleans(),
    ),
    max_size=MODELS_MAX + 3,
    unique_by=lambda each: each.digest,
).map(tuple)
NEEDS: Final = st.builds(Need, size_bytes=AMOUNTS, missing_bytes=AMOUNTS, free_bytes=AMOUNTS)
POLICIES: Final = st.builds(
    Policy,
    capacity_bytes=st.integers(0, 600),
    keep=st.frozensets(st.integers(0, 40).map(lambda number: f"sha256:{number:02}"), max_size=5),
)


def has_room(others: tuple[Cached, ...], going: tuple[Cached, ...], need: Need, policy: Policy) -> bool:
    staying = [each for each in others if each not in going]
    return (
        sum(each.size_bytes for each in staying) + need.size_bytes <= policy.capacity_bytes
        and need.missing_bytes <= need.free_bytes + sum(each.size_bytes for each in going)
        and len(staying) + 1 <= MODELS_MAX
    )


def may_go(each: Cached, policy: Policy) -> bool:
    return not each.is_in_use and each.digest not in policy.keep


@given(OTHERS, NEEDS, POLICIES)
def test_what_goes_makes_room_and_is_neither_in_use_nor_kept(
    others: tuple[Cached, ...], need: Need, policy: Policy
) -> None:
    going = to_evict(others, need, policy)

    if going is None:
        everything = tuple(each for each in others if may_go(each, policy))
        assert not has_room(others, everything, need, policy), "there was a way"
        return
    assert all(may_go(each, policy) for each in going)
    assert has_room(others, going, need, policy)
    assert not going or not has_room(others, going[:-1], need, policy), "the last one went for nothing"


@given(OTHERS, NEEDS, POLICIES)
def test_none_stays_that_was_used_less_recently_than_one_that_goes(
    others: tuple[Cached, ...], need: Need, policy: Policy
) -> None:
    going = to_evict(others, need, policy) or ()

    for gone in going:
        for stays in (each for each in others if each not in going and may_go(each, policy)):
            assert (gone.is_whole, gone.used_ms) <= (stays.is_whole, stays.used_ms)


def test_what_nobody_finished_goes_before_any_whole_model() -> None:
    old, unfinished = Cached("sha256:a", 10, used_ms=1), Cached("sha256:b", 10, used_ms=9, is_whole=False)

    assert to_evict((old, unfinished), Need(10, 10, 0), Policy(30)) == (unfinished,)


def test_a_model_that_fits_evicts_nothing() -> None:
    assert to_evict((Cached("sha256:a", 10, used_ms=1),), Need(10, 10, 10), Policy(20)) == ()
