"""Facts: what an owner says holds for an endpoint, and the memory of what has been heard.

Facts come late, twice and out of order, and can be taken back. Each carries its owner's sequence; the highest
sequence of a fact wins, whatever the order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from enum import StrEnum


class Fact(StrEnum):
    """What an owner may say of an endpoint: it holds, or it holds no longer."""

    REQUESTED = "endpoint.requested"
    DELETION_REQUESTED = "endpoint.deletion_requested"
    PAUSE_REQUESTED = "endpoint.pause_requested"
    ENDPOINT_FAILED = "endpoint.failed"
    CAPACITY_QUEUED = "capacity.queued"
    CAPACITY_RESERVED = "capacity.reserved"
    CLUSTER_READY = "capacity.cluster_ready"
    NODES_JOINED = "capacity.nodes_joined"
    GPU_READY = "capacity.gpu_ready"
    CAPACITY_FAILED = "capacity.failed"
    CAPACITY_RELEASED = "capacity.released"
    IMAGE_PULLED = "runtime.image_pulled"
    MODEL_DOWNLOADED = "runtime.model_downloaded"
    MODEL_LOADED = "runtime.model_loaded"
    CACHE_WARMED = "runtime.cache_warmed"
    RUNTIME_DEGRADED = "runtime.degraded"
    RUNTIME_FAILED = "runtime.failed"
    RUNTIME_REMOVED = "runtime.removed"
    ROUTE_PUBLISHED = "route.published"
    ROUTE_WITHDRAWN = "route.withdrawn"
    DEADLINE_PASSED = "deadline.passed"
    UPDATE_REQUESTED = "update.requested"  # As the deadline, endpoint-api's own: no event tells it.


@dataclass(frozen=True, slots=True)
class Heard:
    """One fact as last told: whether it holds, for which generation, with which of its owner's sequences."""

    fact: Fact
    holds: bool
    generation: int
    sequence: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts heard of one endpoint, one entry a fact, sorted by fact."""

    heard: tuple[Heard, ...] = ()

    def learn(self, news: Heard) -> Facts:
        """Remember ``news`` unless something with a higher sequence was heard of that fact before."""
        known = self.of(news.fact)
        if known is not None and known.sequence >= news.sequence:
            return self
        others = (each for each in self.heard if each.fact is not news.fact)
        return replace(self, heard=tuple(sorted((*others, news), key=lambda each: each.fact)))

    def of(self, fact: Fact) -> Heard | None:
        """What was last heard of ``fact``, held or taken back; None if never."""
        for each in self.heard:  # A plain loop: this is asked more often than anything else.
            if each.fact is fact:
                return each
        return None

    def holds(self, fact: Fact) -> bool:
        """Whether ``fact`` was told and not taken back."""
        known = self.of(fact)
        return known is not None and known.holds

    def holding(self) -> frozenset[Fact]:
        """The facts that hold."""
        return frozenset(each.fact for each in self.heard if each.holds)

    def forget(self, facts: Set[Fact] | Iterable[Fact]) -> Facts:
        """Without what was heard of ``facts``: a new generation asks for them again."""
        gone = frozenset(facts)
        return replace(self, heard=tuple(each for each in self.heard if each.fact not in gone))
