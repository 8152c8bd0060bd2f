"""What an endpoint has beside nodes: replicas, adapters loaded in them, a volume, models that caches keep for it.

Each is a count over time, from facts that say how it is from then on: so many replicas, so many with an adapter, so
many mebibytes. Count times milliseconds is the quantity of its meter. Facts are ordered by their owner's sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from libs.common.events.usage import Meter as MeterName
from libs.common.units import DAY_MS
from services.metering.core.accounts import Account
from services.metering.core.timeline import Happening, Span, apart, held, part, spans

KEEP_MS: Final = 2 * DAY_MS  # Facts later than this change nothing; a busy endpoint's replicas change often.
ALL_OF_IT: Final = ((0, Account.SERVING),)  # Its time is in the endpoint's own account, whatever its stage.


@dataclass(frozen=True, slots=True)
class Roster:
    """The replicas that there were from `since_ms` on, and how many had each adapter, as their owner numbered it."""

    sequence: int
    since_ms: int
    replicas: int
    adapters: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class VolumeSince:
    """The volume had so many mebibytes from `since_ms` on (a part of one is one), as its owner numbered it."""

    sequence: int
    since_ms: int
    mib: int


@dataclass(frozen=True, slots=True)
class CachedSince:
    """A cache kept so many mebibytes of one model for it from `since_ms` on (0: none), as its owner numbered it."""

    sequence: int
    since_ms: int
    mib: int
    name: str


Fact = TypeVar("Fact", Roster, VolumeSince, CachedSince)


@dataclass(frozen=True, slots=True)
class Thing:
    """A count of an endpoint: its booked time (`gpu_count` of a span is the count), how often lines were taken back."""

    meter: MeterName
    adapter: str = ""
    booked: tuple[Span, ...] = ()
    again: int = 0
    cached: str = ""  # Which model, in which cache.

    @property
    def place(self) -> tuple[MeterName, str, str]:
        """Which one it is."""
        return self.meter, self.adapter, self.cached

    @property
    def name(self) -> str:
        """What it is called in the ids of its lines."""
        which = self.adapter or self.cached
        return f"{self.meter}:{which}" if which else str(self.meter)


@dataclass(frozen=True, slots=True)
class Things:
    """All that was heard and booked; before `settled_ms` nothing changes any more."""

    rosters: tuple[Roster, ...] = ()
    volumes: tuple[VolumeSince, ...] = ()
    cached: tuple[CachedSince, ...] = ()
    booked: tuple[Thing, ...] = ()
    settled_ms: int = 0

    @property
    def is_any(self) -> bool:
        """Whether anything was heard, or booked."""
        return bool(self.rosters or self.volumes or self.cached or self.booked)

    @property
    def all(self) -> tuple[Thing, ...]:
        """What is booked, and what was heard of and is not yet."""
        known = {each.place: each for each in self.booked}
        names = {name for roster in self.rosters for name, _ in roster.adapters}
        heard = [Thing(MeterName.ADAPTER_MS, name) for name in sorted(names)]
        heard += [Thing(MeterName.REPLICA_MS)] if self.rosters else []
        heard += [Thing(MeterName.VOLUME_MIB_MS)] if self.volumes else []
        heard += [Thing(MeterName.CACHE_MIB_MS, cached=name) for name in sorted({each.name for each in self.cached})]
        return (*self.booked, *(each for each in heard if each.place not in known))


def with_roster(things: Things, news: Roster) -> Things:
    """With what was told of the replicas."""
    if _is_known_or_old(news, things.rosters, things.settled_ms):
        return things
    return replace(things, rosters=tuple(sorted((*things.rosters, news), key=lambda each: each.sequence)))


def with_volume(things: Things, news: VolumeSince) -> Things:
    """With what was told of the volume."""
    if _is_known_or_old(news, things.volumes, things.settled_ms):
        return things
    return replace(things, volumes=tuple(sorted((*things.volumes, news), key=lambda each: each.sequence)))


def with_cached(things: Things, news: CachedSince) -> Things:
    """With what was told of a model in a cache."""
    known = tuple(each for each in things.cached if each.name == news.name)
    if _is_known_or_old(news, known, things.settled_ms):
        return things
    return replace(things, cached=tuple(sorted((*things.cached, news), key=lambda each: (each.name, each.sequence))))


def wanted(things: Things, thing: Thing, sales: Sequence[tuple[int, int]]) -> tuple[Span, ...]:
    """The time that should be booked of one of them, cut where something else was sold."""
    return apart(spans(held(_happenings(things, thing)), ALL_OF_IT, from_ms=things.settled_ms), sales)


def settled(things: Things, before_ms: int) -> Things:
    """Forget what is older: it is in the ledger, and stays as it is."""
    booked = (replace(each, booked=tuple(_clip(each.booked, before_ms))) for each in things.booked)
    return Things(
        rosters=_newest(things.rosters, before_ms),
        volumes=_newest(things.volumes, before_ms),
        cached=tuple(_still_cached(things.cached, before_ms)),
        booked=tuple(each for each in booked if each.booked or each.again),
        settled_ms=before_ms,
    )


def _happenings(things: Things, thing: Thing) -> Iterator[Happening]:
    if thing.meter is MeterName.VOLUME_MIB_MS:
        yield from (Happening(each.sequence, each.since_ms, each.mib or None) for each in things.volumes)
        return
    if thing.meter is MeterName.CACHE_MIB_MS:
        there = (each for each in things.cached if each.name == thing.cached)
        yield from (Happening(each.sequence, each.since_ms, each.mib or None) for each in there)
        return
    for each in things.rosters:
        count = dict(each.adapters).get(thing.adapter, 0) if thing.adapter else each.replicas
        yield Happening(each.sequence, each.since_ms, count or None)


def _is_known_or_old(news: Fact, known: Sequence[Fact], settled_ms: int) -> bool:
    if any(each.sequence == news.sequence for each in known):
        return True
    return news.since_ms < settled_ms and (not known or news.sequence < known[0].sequence)


def _still_cached(facts: Sequence[CachedSince], before_ms: int) -> Iterator[CachedSince]:
    """As `_newest`, model by model; one that went before, and did not come again, is forgotten."""
    for name in sorted({each.name for each in facts}):
        kept = _newest(tuple(each for each in facts if each.name == name), before_ms)
        if any(each.mib or each.since_ms > before_ms for each in kept):
            yield from kept


def _newest(facts: tuple[Fact, ...], before_ms: int) -> tuple[Fact, ...]:
    """The newest that says what was so then, and all later ones."""
    first = max((each.sequence for each in facts if each.since_ms <= before_ms), default=0)
    return tuple(each for each in facts if each.sequence >= first)


def _clip(booked: Sequence[Span], from_ms: int) -> Iterator[Span]:
    return (part(each, max(each.from_ms, from_ms), each.to_ms) for each in booked if each.to_ms > from_ms)
