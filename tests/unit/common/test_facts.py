"""What is known does not depend on the order of arrival, nor on repeats."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libs.common.events.facts import Fact, Facts, Heard


def heard(fact: Fact, sequence: int, *, holds: bool = True) -> Heard:
    return Heard(fact, holds=holds, generation=1, sequence=sequence, at_ms=sequence * 10)


def learn(*news: Heard) -> Facts:
    facts = Facts()
    for each in news:
        facts = facts.learn(each)
    return facts


# One owner never gives two facts of one endpoint the same sequence, so sequences are drawn without repeats.
HISTORIES = st.lists(
    st.tuples(st.sampled_from([Fact.CACHE_WARMED, Fact.RUNTIME_DEGRADED, Fact.ROUTE_PUBLISHED]), st.booleans()),
    max_size=12,
).map(lambda told: [heard(fact, number + 1, holds=holds) for number, (fact, holds) in enumerate(told)])


@given(HISTORIES.flatmap(lambda history: st.tuples(st.just(history), st.permutations(history * 2))))
def test_any_order_and_any_repeat_lead_to_the_same(case: tuple[list[Heard], list[Heard]]) -> None:
    in_order, as_it_came = case

    assert learn(*as_it_came) == learn(*in_order)


@given(HISTORIES)
def test_the_last_word_of_the_owner_counts(history: list[Heard]) -> None:
    last = {each.fact: each.holds for each in history}

    assert learn(*history).holding() == {fact for fact, holds in last.items() if holds}


def test_a_fact_can_be_taken_back_and_said_again() -> None:
    facts = learn(heard(Fact.RUNTIME_DEGRADED, 3), heard(Fact.RUNTIME_DEGRADED, 5, holds=False))
    assert not facts.holds(Fact.RUNTIME_DEGRADED)
    assert facts.of(Fact.RUNTIME_DEGRADED) == heard(Fact.RUNTIME_DEGRADED, 5, holds=False)

    assert facts.learn(heard(Fact.RUNTIME_DEGRADED, 4)) == facts
    assert facts.learn(heard(Fact.RUNTIME_DEGRADED, 6)).holds(Fact.RUNTIME_DEGRADED)


def test_nothing_holds_before_it_was_heard() -> None:
    assert not Facts().holds(Fact.REQUESTED)
    assert Facts().of(Fact.REQUESTED) is None
    assert Facts().holding() == frozenset()


def test_what_is_forgotten_must_be_said_again_even_with_an_old_sequence() -> None:
    facts = learn(heard(Fact.REQUESTED, 9), heard(Fact.CACHE_WARMED, 7)).forget({Fact.CACHE_WARMED})

    assert facts.holding() == {Fact.REQUESTED}
    assert facts.learn(heard(Fact.CACHE_WARMED, 2)).holds(Fact.CACHE_WARMED)
