"""Nodes of a run age: some die without a word, operators have some replaced, and somebody else takes a cluster away."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

from libs.common.errors import Rejected
from libs.common.events.envelope import Envelope
from libs.common.ids import EventId
from libs.twin import kinds
from libs.twin.objects import is_terminating, name_of, namespace_of, uid_of
from libs.twin.platform_rules import PREFIX
from services.capacity_manager.core.pools import POOL, Pool
from services.capacity_manager.core.replacing import ReplaceNode
from services.capacity_manager.core.state import CLAIM, Claim
from services.capacity_manager.shell.platform.shares import of as shares_of

if TYPE_CHECKING:
    from tests.capacity.run import Run

SILENT: Final = 0.02  # In a step.
REPLACED: Final = 0.05
TAKEN: Final = 0.015
NODES: Final = "/api/v1/nodes/"


@dataclass(frozen=True, slots=True)
class Theft:
    """Somebody else deleted a shared cluster whose pool had seen it stand."""

    pool: str
    cluster: str
    at_ms: int


@dataclass
class Ageing:
    """What was ordered of nodes, which ones were told to go inside their clusters, and what was taken away."""

    rng: Random
    thief: Random
    ordered: set[str] = field(default_factory=set)
    retired: list[str] = field(default_factory=list)
    thefts: list[Theft] = field(default_factory=list)

    def stir(self, run: Run) -> None:
        """Order what this step brings."""
        if self.rng.random() < SILENT:
            run.world.set_faults({"silent_nodes": run.world.faults.silent_nodes + 1})
            run.trouble.tally["silent_nodes"] += 1
        if self.rng.random() < REPLACED:
            self._replace(run)
        if self.thief.random() < TAKEN:
            self._take(run)

    def was_theft(self, cluster: str, at_ms: int) -> bool:
        """Whether it was not us who deleted that cluster then."""
        return any((each.cluster, each.at_ms) == (cluster, at_ms) for each in self.thefts)

    def note(self, method: str, path: str) -> None:
        """A request that was answered: perhaps a node was told to go."""
        if method == "DELETE" and NODES in path:
            self.retired.append(path.rsplit("/", 1)[1])

    def _replace(self, run: Run) -> None:
        holders: tuple[Claim | Pool, ...] = (*run.claims(), *run.pools())
        held = [(each, node.name) for each in holders for node in each.nodes if node.released_at_ms is None]
        if not held:
            return
        holder, node = self.rng.choice(held)
        now_ms = run.clock.now_ms()
        order = ReplaceNode(node=node, reason="driver 570", actor="operator:jane")
        envelope = Envelope(EventId(f"replace|{node}|{now_ms}"), order, subject=holder.id, time_ms=now_ms)
        self.ordered.add(node)
        of_pool, kind = isinstance(holder, Pool), POOL if isinstance(holder, Pool) else CLAIM
        try:
            run.survive(lambda: run.service.runner(kind).take(holder.id, envelope))
            run.trouble.tally["replaced in a pool" if of_pool else "replaced"] += 1
        except Rejected:
            run.trouble.tally["replacement refused"] += 1

    def _take(self, run: Run) -> None:
        """Delete a shared cluster that somebody is in, as its pool has seen: else it may be about to do that itself."""
        used = [each for each in run.pools() if each.uid and not each.is_taken and each.idle_since_ms is None]
        seen = {each.uid: each.id for each in used}
        standing = [
            each
            for each in run.world.store.all(kinds.INSTANCES)
            if uid_of(each) in seen and shares_of(each) and not is_terminating(each)
        ]
        if not standing:
            return
        taken = self.thief.choice(standing)
        cluster = f"{namespace_of(taken).removeprefix(PREFIX)}/{name_of(taken)}"
        self.thefts.append(Theft(seen[uid_of(taken)], cluster, run.world.now_ms))
        run.world.store.delete(kinds.INSTANCES, taken, run.world.now_ms)
        run.trouble.tally["cluster taken"] += 1
