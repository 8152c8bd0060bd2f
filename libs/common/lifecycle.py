"""Lifecycles as tables: a stage is never assigned, it is where a walk through the table stops.

One table answers: where are we, what are we waiting for, from whom, for how long. From it come the stage, the
deadline, the customer's text and the picture in the README.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

StageT = TypeVar("StageT", bound=StrEnum)
FactT = TypeVar("FactT", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Row(Generic[StageT, FactT]):
    """In ``stage``, knowing ``fact`` leads to ``to``; ``owed_by`` must tell us within ``within_ms``.

    A row with nobody in ``owed_by`` is an exit that may open at any time (a failure, a delete); we do not wait for it.
    """

    stage: StageT
    fact: FactT
    to: StageT
    owed_by: str = ""
    within_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Lifecycle(Generic[StageT, FactT]):
    """An acyclic machine. Where two rows could fire, the earlier row wins."""

    start: StageT
    rows: tuple[Row[StageT, FactT], ...]

    def stage_of(self, facts: Set[FactT]) -> StageT:
        """Walk from the start as far as the facts allow. Order and repeats do not matter."""
        return self.path(facts)[-1]

    def path(self, facts: Set[FactT]) -> tuple[StageT, ...]:
        """The stages that the walk goes through, the start first, where it stops last."""
        stages = [self.start]
        for _ in range(len(self.rows) + 1):
            for row in self.rows:  # A plain loop: every look at anything walks here.
                if row.stage is stages[-1] and row.fact in facts:
                    stages.append(row.to)
                    break
            else:
                return tuple(stages)
        raise AssertionError(f"the table has a cycle through {stages[-1]}")

    def awaited(self, stage: StageT) -> Row[StageT, FactT] | None:
        """The row that says whom we wait for in ``stage``, or None if for nobody."""
        return next((r for r in self.rows if r.stage is stage and r.owed_by), None)

    def mermaid(self) -> str:
        """Draw the table for the README: the awaited way as arrows, exits from many stages folded into notes."""
        lines = ["stateDiagram-v2", f"    [*] --> {self.start}"]
        lines += [f"    {r.stage} --> {r.to}: {r.fact}" for r in self.rows if r.owed_by]
        exits: dict[tuple[StageT, FactT], int] = {}
        for row in self.rows:
            if not row.owed_by:
                exits[(row.to, row.fact)] = exits.get((row.to, row.fact), 0) + 1
        for (to, fact), count in exits.items():
            if count == 1:
                stage = next(r.stage for r in self.rows if r.to is to and r.fact is fact)
                lines.append(f"    {stage} --> {to}: {fact}")
            else:
                lines.append(f"    note right of {to}: from {count} stages, on {fact}")
        return "\n".join(lines)
