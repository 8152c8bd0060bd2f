"""What an endpoint has beside nodes: replicas that run, adapters loaded in them, a volume that keeps its model.

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

MIB: Final = 1 << 20
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


Fact = TypeVar("Fact", Roster, VolumeSince)


@dataclass(frozen=True, slots=True)
class Thing:
    """A count of an endpoint: its booked time (`gpu_count` of a span is the count), how often lines were taken back."""

    meter: MeterName
    adapter: str = ""
    booked: tuple[Span, ...] = ()
    again: int = 0

    @property
    def place(self) -> tuple[MeterName, str]:
        """Which one it is."""
        return self.meter, self.adapter


@dataclass(frozen=True, slots=True)
class Things:
    """All that was heard and booked; before `settled_ms` nothing changes any more."""

    rosters: tuple[Roster, ...] = ()
    volumes: tuple[VolumeSince, ...] = ()
    booked: tuple[Thing, ...] = ()
    settled_ms: int = 0

    @property
    def is_any(self) -> bool:
        """Whether anything was heard, or booked."""
        return bool(self.rosters or self.volumes or self.booked)

    @property
    def all(self) -> tuple[Thing, ...]:
        """What is booked, and what was heard of and is not yet."""
        known = {each.place: each for each in self.booked}
        names = {name for roster in self.rosters for name, _ in roster.adapters}
        heard = [(MeterName.ADAPTER_MS, name) for name in sorted(names)]
        heard += [(MeterName.REPLICA_MS, "")] if self.rosters else []
        heard += [(MeterName.VOLUME_MIB_MS, "")] if self.volumes else []
        return (*self.booked, *(Thing(*place) for place in heard if place not in known))


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


def wanted(things: Things, thing: Thing, sales: Sequence[tuple[int, int]]) -> tuple[Span, ...]:
    """The time that should be booked of one of them, cut where something else was sold."""
    return apart(spans(held(_happenings(things, thing)), ALL_OF_IT, from_ms=things.settled_ms), sales)


def settled(things: Things, before_ms: int) -> Things:
    """Forget what is older: it is in the ledger, and stays as it is."""
    booked = (replace(each, booked=tuple(_clip(each.booked, before_ms))) for each in things.booked)
    return Things(
        rosters=_newest(things.rosters, before_ms),
        volumes=_newest(things.volumes, before_ms),
        booked=tuple(each for each in booked if each.booked or each.again),
        settled_ms=before_ms,
    )


def _happenings(things: Things, thing: Thing) -> Iterator[Happening]:
    if thing.meter is MeterName.VOLUME_MIB_MS:
        yield from (Happening(each.sequence, each.since_ms, each.mib or None) for each in things.volumes)
        return
    for each in things.rosters:
        count = dict(each.adapters).get(thing.adapter, 0) if thing.adapter else each.replicas
        yield Happening(each.sequence, each.since_ms, count or None)


def _is_known_or_old(news: Roster | VolumeSince, known: Sequence[Roster | VolumeSince], settled_ms: int) -> bool:
    if any(each.sequence == news.sequence for each in known):
        return True
    return news.since_ms < settled_ms and (not known or news.sequence < known[0].sequence)


def _newest(facts: tuple[Fact, ...], before_ms: int) -> tuple[Fact, ...]:
    """The newest that says what was so then, and all later ones."""
    first = max((each.sequence for each in facts if each.since_ms <= before_ms), default=0)
    return tuple(each for each in facts if each.sequence >= first)


def _clip(booked: Sequence[Span], from_ms: int) -> Iterator[Span]:
    return (part(each, max(each.from_ms, from_ms), each.to_ms) for each in booked if each.to_ms > from_ms)
