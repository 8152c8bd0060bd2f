"""Who waits for a replica, in which order, and who is not let in: bounded, fair between lanes, aware of deadlines.

A lane is whoever is to be treated alike: a key of a tenant. Lanes take turns, so that one client's burst delays that
client. Interactive requests go before batch ones. When the queue is full, room is made at the cost of batch first, then
of the longest lane: its newest waits no more. A request that can't be served before its deadline, as far as is known,
is not let in: it learns so at once, and others do not wait behind what nobody will read.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

from services.router.core.sharing import NOBODY, Others

WAITING_PER_PLACE: Final = 2  # reliability.md 3.5: a queue no longer than twice what is served at once.
WAITING_MIN: Final = 16  # A burst at an endpoint with one small replica is no reason to refuse.
SERVICE_WEIGHT: Final = 0.1  # How much the last request's length counts in the mean.

T = TypeVar("T")


class Turned(StrEnum):
    """Why a request does not wait."""

    FULL = "full"  # Ours: all places are taken, and all of the queue.
    SHARE = "share"  # Yours: you have more waiting than anybody else.
    LATE = "late"  # Its turn would come after its deadline.


@dataclass(eq=False, slots=True)
class Waiter(Generic[T]):
    """A request that waits."""

    request: T
    lane: str
    deadline_s: float
    is_batch: bool = False


class ServiceTime:
    """How long requests of an endpoint take at a replica: a moving mean, 0 until the first one ended."""

    __slots__ = ("mean_s",)

    def __init__(self) -> None:
        self.mean_s = 0.0

    def note(self, took_s: float) -> None:
        """One more ended."""
        self.mean_s += (took_s - self.mean_s) * SERVICE_WEIGHT if self.mean_s else took_s

    def wait_s(self, *, ahead: int, places: int) -> float:
        """How long until it is the turn of one with so many ahead; 0 if nothing is known."""
        return (ahead + 1) * self.mean_s / places if places else 0.0


class FairQueue(Generic[T]):
    """The requests that wait for one endpoint."""

    def __init__(self) -> None:
        self._lanes: dict[bool, OrderedDict[str, deque[Waiter[T]]]] = {False: OrderedDict(), True: OrderedDict()}
        self.others = NOBODY  # Who waits in other workers.
        self.count = 0  # How many wait here.
        self.crowd = 0  # The same, and the lanes that wait elsewhere: whether who comes now is the first.

    def __len__(self) -> int:
        """How many wait."""
        return self.count

    def __iter__(self) -> Iterator[Waiter[T]]:
        """All who wait, lane by lane."""
        for lanes in self._lanes.values():
            for lane in lanes.values():
                yield from lane

    @property
    def lanes(self) -> int:
        """How many lanes of interactive requests wait."""
        return len(self._lanes[False])

    def see(self, others: Others) -> None:
        """What other workers say of theirs."""
        self.crowd += sum(others.lanes) - sum(self.others.lanes)
        self.others = others

    def add(
        self, waiter: Waiter[T], *, waiting_max: int, wait_s: float, now_s: float
    ) -> tuple[Turned, Waiter[T]] | None:
        """Let it wait. Returns who is turned away and why: itself, or whoever made room for it; None if nobody is."""
        if now_s + wait_s > waiter.deadline_s:
            return Turned.LATE, waiter
        turned = None
        if self.count >= waiting_max:
            turned = self._make_room(waiter)
            if turned[1] is waiter:
                return turned
            self.remove(turned[1])
        self._lanes[waiter.is_batch].setdefault(waiter.lane, deque()).append(waiter)
        self._grow(1)
        return turned

    def take(self, now_s: float) -> Waiter[T] | None:
        """Whose turn it is; None if nobody waits. Those whose deadline has passed are left to `expired`."""
        for lanes in self._lanes.values():
            for lane in list(lanes):
                found = next((each for each in lanes[lane] if each.deadline_s > now_s), None)
                if found is not None:
                    self.remove(found)
                    if lane in lanes:
                        lanes.move_to_end(lane)
                    return found
        return None

    def put_back(self, waiter: Waiter[T]) -> None:
        """There was no place for it after all: it is its turn next."""
        lanes = self._lanes[waiter.is_batch]
        lanes.setdefault(waiter.lane, deque()).appendleft(waiter)
        lanes.move_to_end(waiter.lane, last=False)
        self._grow(1)

    def remove(self, waiter: Waiter[T]) -> bool:
        """It waits no longer; whether it did."""
        lanes = self._lanes[waiter.is_batch]
        lane = lanes.get(waiter.lane)
        if lane is None or waiter not in lane:
            return False
        lane.remove(waiter)
        self._grow(-1)
        if not lane:
            del lanes[waiter.lane]
        return True

    def expired(self, now_s: float) -> list[Waiter[T]]:
        """Those whose deadline has passed; they wait no longer."""
        late = [each for each in self if each.deadline_s <= now_s]
        for each in late:
            self.remove(each)
        return late

    def clear(self) -> list[Waiter[T]]:
        """All of them; nobody waits any longer."""
        found = list(self)
        self._lanes = {False: OrderedDict(), True: OrderedDict()}
        self._grow(-self.count)
        return found

    def _grow(self, by: int) -> None:
        self.count += by
        self.crowd += by

    def _make_room(self, newcomer: Waiter[T]) -> tuple[Turned, Waiter[T]]:
        """Who goes: the newest of the longest batch lane, else of the longest lane, counting the newcomer as there."""
        batch, interactive = self._lanes[True], self._lanes[False]
        lanes = batch if batch or newcomer.is_batch else interactive
        if newcomer.is_batch and not batch:
            return Turned.FULL, newcomer
        longest = max(lanes, key=lambda name: len(lanes[name]))
        own = len(lanes.get(newcomer.lane, ())) if lanes is self._lanes[newcomer.is_batch] else -1
        if own >= 0 and own + 1 > len(lanes[longest]):
            return (Turned.FULL if len(lanes) <= 1 else Turned.SHARE), newcomer
        is_alone = lanes is batch and not newcomer.is_batch
        return (Turned.FULL if is_alone else Turned.SHARE), lanes[longest][-1]


def waiting_max(places: int) -> int:
    """How many may wait for so many places."""
    return max(WAITING_MIN, WAITING_PER_PLACE * places)
