"""Which facts each kind of change forgets: from which generation on a fact of an owner counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from libs.common.events.facts import Fact, Facts

OURS: Final = frozenset(
    {
        Fact.REQUESTED,
        Fact.UPDATE_REQUESTED,
        Fact.PAUSE_REQUESTED,
        Fact.DELETION_REQUESTED,
        Fact.ENDPOINT_FAILED,
        Fact.DEADLINE_PASSED,
    }
)
ENDS: Final = frozenset({Fact.CAPACITY_RELEASED, Fact.RUNTIME_REMOVED, Fact.ROUTE_WITHDRAWN})


class Change(StrEnum):
    """What a change of desire means for what runs."""

    NONE = "none"
    IN_PLACE = "in_place"  # Scaling or limits: what runs goes on.
    ROLL = "roll"  # Another model or template: the capacity stays, the runtime and the route are made anew.
    READDRESS = "readdress"  # Another host name: what runs goes on, the route is published anew.
    RELOAD = "reload"  # Other adapters: the pods stay, the runtime is warm anew when they are loaded.
    ANEW = "anew"  # After a pause or a failure: everything is made anew.
    END = "end"  # It shall hold nothing: what an earlier end was answered with counts no longer.


@dataclass(frozen=True, slots=True)
class Floors:
    """The first generation that counts, of each group of facts."""

    capacity: int = 0
    runtime: int = 0
    route: int = 0
    ends: int = 0

    def of(self, fact: Fact) -> int:
        """The first generation for which ``fact`` counts; our own always do."""
        if fact in OURS:
            return 0
        if fact in ENDS:
            return self.ends
        match fact.value.partition(".")[0]:
            case "capacity":
                return self.capacity
            case "runtime":
                return self.runtime
            case _:
                return self.route


# Our own facts that a change makes void, and the groups of the owners' facts that begin anew with its generation.
FORGETS: Final[Mapping[Change, tuple[frozenset[Fact], tuple[str, ...]]]] = {
    Change.NONE: (frozenset(), ()),
    Change.IN_PLACE: (frozenset(), ()),
    Change.ROLL: (frozenset({Fact.DEADLINE_PASSED}), ("runtime", "route")),
    Change.READDRESS: (frozenset({Fact.DEADLINE_PASSED}), ("route",)),
    Change.RELOAD: (frozenset({Fact.DEADLINE_PASSED}), ("runtime", "route")),
    Change.ANEW: (OURS - {Fact.REQUESTED, Fact.DELETION_REQUESTED}, ("capacity", "runtime", "route", "ends")),
    Change.END: (frozenset(), ("ends",)),
}


def raised(floors: Floors, change: Change, generation: int) -> Floors:
    """The floors from ``generation`` on."""
    _, groups = FORGETS[change]
    return replace(floors, **dict.fromkeys(groups, generation))


def remembered(facts: Facts, floors: Floors, change: Change) -> Facts:
    """The facts that still count under ``floors`` after ``change``; what was told for a newer generation does."""
    void, _ = FORGETS[change]
    return facts.forget(
        each.fact for each in facts.heard if each.fact in void or each.generation < floors.of(each.fact)
    )
