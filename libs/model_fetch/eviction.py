"""Which models go from a cache that has no room: the least recently used first, none that is in use or to be kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MODELS_MAX: Final = 24  # Of one cache: all of them fit into a termination message, which has 4 KiB.


@dataclass(frozen=True, slots=True)
class Cached:
    """A model in a cache, or what there is of an unfinished one; `used_ms`: when a replica last began with it."""

    digest: str
    size_bytes: int
    used_ms: int
    is_in_use: bool = False
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Policy:
    """What a cache may hold, and which models, by digest, stay whatever comes."""

    capacity_bytes: int
    keep: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Need:
    """A model that is to come: all it will take, how much of that is still to be written, what the disk has left."""

    size_bytes: int
    missing_bytes: int
    free_bytes: int


def to_evict(others: Iterable[Cached], need: Need, policy: Policy) -> tuple[Cached, ...] | None:
    """The fewest that make room, in the order in which they go; None if no eviction makes enough.

    `others` are all in the cache but the one that is to come.
    """
    others = tuple(others)
    going: list[Cached] = []
    may_go = sorted(
        (each for each in others if not each.is_in_use and each.digest not in policy.keep),
        key=lambda each: (each.is_whole, each.used_ms, each.digest),
    )
    while not _fits(others, going, need, policy):
        if len(going) == len(may_go):
            return None
        going.append(may_go[len(going)])
    return tuple(going)


def _fits(others: tuple[Cached, ...], going: list[Cached], need: Need, policy: Policy) -> bool:
    freed_bytes = sum(each.size_bytes for each in going)
    held_bytes = sum(each.size_bytes for each in others) - freed_bytes + need.size_bytes
    is_on_disk = need.missing_bytes <= need.free_bytes + freed_bytes
    return is_on_disk and held_bytes <= policy.capacity_bytes and len(others) - len(going) < MODELS_MAX
