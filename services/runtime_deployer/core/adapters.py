"""Adapters of each replica: which it must have before it takes traffic, which to load, which to let go, and when.

An engine forgets its adapters when it restarts, so what is loaded is looked up, never remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from libs.common.events.endpoint import Adapter
from libs.common.units import SECOND_MS
from services.runtime_deployer.core.observed import AdapterSeen, PodSeen

# From the word that an adapter is no longer offered until it is unloaded: routers have heard, and short answers ended.
UNLOAD_AFTER_MS: Final = 30 * SECOND_MS


@dataclass(frozen=True, slots=True)
class Change:
    """An adapter to load into an engine, or by name to let go of."""

    name: str
    source: str = ""  # Empty: let go.


def has_all(pod: PodSeen, adapters: Iterable[Adapter]) -> bool:
    """Whether the engine has each of them loaded, and from where it should be."""
    return {AdapterSeen(name=each.name, source=each.source) for each in adapters} <= set(pod.adapters)


def offered(pod: PodSeen, adapters: Sequence[Adapter]) -> tuple[str, ...]:
    """The names that requests may come for: wanted, and loaded here."""
    return tuple(sorted(each.name for each in adapters if has_all(pod, (each,))))


def changes(pod: PodSeen, adapters: Sequence[Adapter], *, may_unload: bool) -> Iterator[Change]:
    """What brings an engine closer to these adapters. One that comes from elsewhere by now is let go of first."""
    wanted = {each.name: each.source for each in adapters}
    loaded = {each.name: each.source for each in pod.adapters}
    for name in sorted(loaded):
        if wanted.get(name, loaded[name]) != loaded[name] or (name not in wanted and may_unload):
            yield Change(name)
    for name in sorted(wanted):
        if loaded.get(name) != wanted[name]:
            yield Change(name, wanted[name])
