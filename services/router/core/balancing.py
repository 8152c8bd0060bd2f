"""Which replica takes a request: the one with the least to do, unless a preference is worth a little waiting.

What a replica has to do is counted from the dispatch: 4 for each request whose first token has not come, since prompts
are read one after the other, then 1 until it ends, since tokens are generated side by side. (Simulated, that halves the
99th percentile of the first token against plain counting.) In this order: of replicas with different weights, a group
by chance and in proportion (a canary gets its share, however idle it is); the replica that has the beginning of the
prompt in its cache, or the session, or the adapter, while it is not much busier than the least busy one; one in our
zone, likewise; else one of the least busy, by chance. By chance, because routers that take turns agree on the first
replica, and a burst of misses would pile up there.

`docs/balancing.md` compares these policies in a simulation: ``python -m tests.sim.balancing``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

UNREAD_LOAD: Final = 4  # Of a request until its first token.
GENERATING_LOAD: Final = 1  # And from then on.
_MASK: Final = 2**64 - 1


class Replica(Protocol):
    """A replica as the choice sees it. `load` is what it has to do, `weight` its share beside others."""

    load: int
    weight: int
    zone: str


@dataclass(frozen=True, slots=True)
class Rules:
    """By how much load a preferred replica may be busier than the least busy one."""

    affinity_slack: int = 8  # Two prompts to wait for: what the cache saves is worth about that.
    zone_slack: int = 4  # Another zone costs a millisecond and egress, less than one prompt.
    zone: str = ""


DEFAULT: Final = Rules()
AnyReplica = TypeVar("AnyReplica", bound=Replica)


def choose(
    replicas: Sequence[AnyReplica], *, draw: int, preferred: AnyReplica | None = None, rules: Rules = DEFAULT
) -> AnyReplica:
    """The replica to use; ``draw`` is a large random number, ``preferred`` the one that remembers the prompt."""
    assert replicas, "a choice needs replicas"
    group, weight, least = replicas, replicas[0].weight, replicas[0].load
    for each in replicas:
        if each.weight != weight:
            group = _of_a_weight(replicas, draw)
            least = min([one.load for one in group])
            break
        if each.load < least:
            least = each.load
    if preferred is not None and preferred.load <= least + rules.affinity_slack and preferred in group:
        return preferred
    if rules.zone:
        near = [each for each in group if each.zone == rules.zone]
        nearest = min([each.load for each in near], default=least)
        if near and nearest <= least + rules.zone_slack:
            group, least = near, nearest
    equals = [each for each in group if each.load == least]
    return equals[draw % len(equals)]


def drawn(seed: int, count: int) -> int:
    """The number that the ``count``-th request draws: the same for the same seed, without any pattern (splitmix64)."""
    mixed = (seed + count * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)


def _of_a_weight(replicas: Sequence[AnyReplica], draw: int) -> Sequence[AnyReplica]:
    """Those of one weight, in proportion to what they weigh together; all if they weigh nothing."""
    total = sum(each.weight for each in replicas)
    if total == 0:
        return replicas
    point = (draw >> 32) % total
    for each in replicas:
        point -= each.weight
        if point < 0:
            return [other for other in replicas if other.weight == each.weight]
    raise AssertionError("the point lies below the total")
