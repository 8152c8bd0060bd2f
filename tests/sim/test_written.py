"""A state that is at hand, as it was written, is the one that a process born later reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from libs.common.decision import Decision
from libs.common.events.envelope import Envelope
from libs.common.events.event import Owner
from libs.common.written import Written
from tests.sim.bugs import Decide, decides
from tests.sim.looks import Checker, Violation
from tests.sim.world import Simulation

SAME: Final = "a state is read as it was written"
SEEDS: Final = 2


class Readers:
    """Reads each record that changed once more, from its text alone."""

    def __init__(self) -> None:
        self._looked: dict[tuple[str, str], int] = {}

    def look(self, simulation: Simulation) -> str:
        for host in simulation.hosts.values():
            for runner in host.service.runners:
                kind = runner.owned.kind
                for record in host.store.page(kind, limit=1000):
                    if self._looked.get((kind, record.key)) == record.version:
                        continue
                    self._looked[kind, record.key] = record.version
                    written, read = runner.parse(record), Written(runner.owned.state).state(record.state)
                    if repr(written) != repr(read):  # As ==, but a word is no member of an enumeration.
                        return f"{kind} {record.key} was {written}, and is {read}"
        return ""


def read_anew(simulation: Simulation) -> None:
    """Have every life looked at by one more checker."""
    readers = Readers()
    simulation.checkers = (*simulation.checkers, Checker(SAME, readers.look, readers.look))


def with_lists(decide: Decide) -> Decide:
    """A decision that leaves a list where its record has a tuple."""

    def spoiled(state: Any, envelope: Envelope, now_ms: int) -> Decision[Any]:
        decision = decide(state, envelope, now_ms)
        return replace(decision, state=replace(decision.state, nodes=list(decision.state.nodes)))

    return spoiled


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_state_is_read_as_it_was_written(seed: int) -> None:
    Simulation(seed, plant=read_anew).run()


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_state_that_another_process_would_read_otherwise_is_seen() -> None:
    def planted(simulation: Simulation) -> None:
        decides(Owner.METERING, "meter", with_lists)(simulation)
        read_anew(simulation)

    with pytest.raises(Violation) as seen:
        Simulation(0, plant=planted).run()

    assert seen.value.promise == SAME
