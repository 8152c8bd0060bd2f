"""How an older version of an event is read as the next: pure functions, one for each step, applied off the wire.

A published version never goes from the streams before their retention ends, so it never goes from the code either. When
a v2 of an event comes, its v1 class stays in the catalogue, its services hear v2 only, and this table says how a v1 is
read as a v2: `UPCASTS = {CapacityReserved: to_v2}` with `def to_v2(old: CapacityReserved) -> CapacityReservedV2`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from libs.common.events.event import Event

Old = TypeVar("Old", bound=Event)
New = TypeVar("New", bound=Event)
Upcasts = Mapping[type[Event], Callable[[Event], Event]]


def step(
    older: type[Old], newer: type[New], read_as: Callable[[Old], New]
) -> dict[type[Event], Callable[[Event], Event]]:
    """One entry of the table: ``read_as`` makes the ``newer`` version of the ``older`` one.

    Raises AssertionError for anything but the next version of the same event by the same owner.
    """
    assert (newer.kind, newer.version, newer.owner) == (older.kind, older.version + 1, older.owner), (older, newer)

    def read(event: Event) -> Event:
        assert isinstance(event, older), event
        return read_as(event)

    return {older: read}


UPCASTS: Final[Upcasts] = MappingProxyType({})  # Every event is still at its first version.


def upcast(event: Event, upcasts: Upcasts) -> Event:
    """The event as the newest version that it can be read as."""
    while (read_as := upcasts.get(type(event))) is not None:
        event = read_as(event)
    return event
