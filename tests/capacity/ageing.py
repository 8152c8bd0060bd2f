"""Nodes of a run age: some die without a word, and operators have some replaced, chances drawn from the seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

from libs.common.errors import Rejected
from libs.common.events.envelope import Envelope
from libs.common.ids import EventId
from services.capacity_manager.core.replacing import ReplaceNode
from services.capacity_manager.core.state import CLAIM

if TYPE_CHECKING:
    from tests.capacity.run import Run

SILENT: Final = 0.02  # In a step.
REPLACED: Final = 0.04
NODES: Final = "/api/v1/nodes/"


@dataclass
class Ageing:
    """What was ordered of nodes, and which ones were told to go inside their clusters."""

    rng: Random
    ordered: set[str] = field(default_factory=set)
    retired: list[str] = field(default_factory=list)

    def stir(self, run: Run) -> None:
        """Order what this step brings."""
        if self.rng.random() < SILENT:
            run.world.set_faults({"silent_nodes": run.world.faults.silent_nodes + 1})
            run.trouble.tally["silent_nodes"] += 1
        if self.rng.random() < REPLACED:
            self._replace(run)

    def note(self, method: str, path: str) -> None:
        """A request that was answered: perhaps a node was told to go."""
        if method == "DELETE" and NODES in path:
            self.retired.append(path.rsplit("/", 1)[1])

    def _replace(self, run: Run) -> None:
        held = [(each.id, node.name) for each in run.claims() for node in each.nodes if node.released_at_ms is None]
        if not held:
            return
        endpoint, node = self.rng.choice(held)
        now_ms = run.clock.now_ms()
        order = ReplaceNode(node=node, reason="driver 570", actor="operator:jane")
        envelope = Envelope(EventId(f"replace|{node}|{now_ms}"), order, subject=endpoint, time_ms=now_ms)
        self.ordered.add(node)
        try:
            run.survive(lambda: run.service.runner(CLAIM).take(endpoint, envelope))
            run.trouble.tally["replaced"] += 1
        except Rejected:
            run.trouble.tally["replacement refused"] += 1
