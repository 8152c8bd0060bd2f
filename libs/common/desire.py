"""What is wanted of an endpoint: the highest generation of a request, a pause and a failure; a deletion is for ever."""

from __future__ import annotations

from typing import Final

from libs.common.events.facts import Fact, Facts, Heard

ENDS: Final = (Fact.DELETION_REQUESTED, Fact.PAUSE_REQUESTED, Fact.ENDPOINT_FAILED)
SAID: Final = (Fact.REQUESTED, *ENDS)


def generation_of(facts: Facts) -> int:
    """The newest generation that endpoint-api spoke of; 0 if it never did."""
    return max((each.generation for each in facts.heard if each.fact in SAID), default=0)


def ends_of(facts: Facts) -> tuple[Heard, ...]:
    """The deletion, the pause and the failure that no newer request made void; at one generation the end counts."""
    said = [each for each in facts.heard if each.fact in ENDS]
    if not said:
        return ()
    requested = _requested(facts)
    return tuple(each for each in said if each.generation >= requested or each.fact is Fact.DELETION_REQUESTED)


def is_ended(facts: Facts) -> bool:
    """Whether the endpoint shall hold nothing: it is to go, to pause, or has failed, and nobody asked for it since."""
    return bool(ends_of(facts))


def begins_anew(facts: Facts, *, life: int) -> bool:
    """Whether the request that counts follows an end that came at generation ``life`` or later.

    An owner keeps the generation that its endpoint's present life began with, and on True begins another at the
    request's. So it holds in any order: a pause that is heard after the resume that followed it still counts.
    """
    requested = _requested(facts)
    said = (facts.of(fact) for fact in ENDS)
    return any(each is not None and life <= each.generation < requested for each in said)


def _requested(facts: Facts) -> int:
    heard = facts.of(Fact.REQUESTED)
    return heard.generation if heard is not None else 0
