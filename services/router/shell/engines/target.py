"""An endpoint as requests see it: its replicas with what they have to do, who waits for them, who remembers prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from libs.common.events.runtime import Replica
from libs.common.events.tables import RouteEntry
from services.router.core import affinity, balancing, multipart
from services.router.core.balancing import GENERATING_LOAD, UNREAD_LOAD, Rules
from services.router.core.ejection import Health, usable
from services.router.core.event_forms import Forms
from services.router.core.http_rules import JSON, upstream_head
from services.router.core.queueing import FairQueue, ServiceTime
from services.router.core.refusals import HttpRefusal
from services.router.core.retries import RetryBudget
from services.router.core.surface import ENGINE_PATHS, FORMS, Api, surfaces_of


class Seat:
    """One replica as requests are spread over it; lives as long as the replica is in the route.

    `outstanding` and `load` count from the dispatch, not from the answer: a burst must not pile up on one replica. They
    are those of all workers.
    """

    __slots__ = (
        "adapters", "address", "heads", "health", "known_as", "load", "load_elsewhere", "model", "name", "outstanding",
        "outstanding_elsewhere", "url", "weight", "zone",
    )  # fmt: skip

    def __init__(self, replica: Replica) -> None:
        parts = urlsplit(replica.url)
        self.url = replica.url
        self.name = replica.name
        self.model = replica.model
        self.adapters = replica.adapters
        self.address = (parts.hostname or "", parts.port or 80)
        host, port = self.address
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"  # What the engine reads as Host.
        self.heads = {
            api: upstream_head(path=path, host=authority, media=multipart.CONTENT_TYPE if api in FORMS else JSON)
            for api, path in ENGINE_PATHS.items()
        }
        self.weight = replica.weight
        self.zone = replica.zone
        self.outstanding = 0
        self.load = 0
        self.outstanding_elsewhere = self.load_elsewhere = 0  # What of them is other workers' (shell/workers/loads.py).
        self.known_as = f"{replica.url}|{replica.model}"
        self.health = Health()

    def taken(self, now_s: float) -> None:
        """A request goes there."""
        self.outstanding += 1
        self.load += UNREAD_LOAD
        if self.health.out_until_s:
            self.health.dispatched(now_s)

    def answered(self) -> None:
        """Its first token came."""
        self.load -= UNREAD_LOAD - GENERATING_LOAD
        self.health.answered()

    def served(self) -> None:
        """It answered, all at once, and it is over."""
        self.outstanding -= 1
        self.load -= UNREAD_LOAD
        health = self.health
        if health.is_well:
            health.answers += 1  # There is nothing else to be said of it.
        else:
            health.answered()

    def given_back(self, *, answered: bool) -> None:
        """It is over."""
        self.outstanding -= 1
        self.load -= GENERATING_LOAD if answered else UNREAD_LOAD
        if not answered:
            self.health.left()


class Cuttable(Protocol):
    """A running request."""

    def cut(self) -> None:
        """End it now, in the event loop."""

    def unbilled_tokens(self) -> int:
        """What its client has got and no bill has yet."""


class Waits(Protocol):
    """A request that needs a replica."""

    def seated(self, seat: Seat) -> None:
        """It is its turn; the seat is taken for it."""

    def turned_away(self, refusal: HttpRefusal) -> None:
        """It is not served."""


class Held(NamedTuple):
    """A request in the queue of its endpoint, with the marks of its prompt, or with the replica that went under it."""

    request: Waits
    prompt: affinity.Marks
    adapter: str
    failed: Seat | None = None


class Target:
    """One endpoint. Changed in place when its route changes, so that who waits or runs sees the replicas of now."""

    __slots__ = (
        "_by_name", "_weigh_alike", "cache_salt", "draws", "entry", "forms", "hopes_until_s", "memory", "place",
        "queue", "retries", "running", "seats", "seed", "service", "surfaces",
    )  # fmt: skip

    def __init__(
        self, entry: RouteEntry, *, seed: int = 0, cache_salt: str = "", running: set[Cuttable] | None = None
    ) -> None:
        self.running = set() if running is None else running  # Only the table changes it.
        self.seed = seed
        self.cache_salt = cache_salt
        self.surfaces: frozenset[Api] = surfaces_of(entry.surfaces)
        self.draws = 0
        self.queue: FairQueue[Held] = FairQueue()
        self.service = ServiceTime()
        self.retries = RetryBudget()
        self.memory = affinity.Memory()
        self.forms = Forms()
        self.seats: tuple[Seat, ...] = ()
        self._by_name: dict[str, Seat] = {}
        self._weigh_alike = True  # Whether none of the seats is to have a larger share than another.
        self.hopes_until_s = 0.0  # How long another replica is waited for after the last one went.
        self.entry = entry
        self.place = b""  # Of the endpoint, as a receipt says it.
        self.change(entry)

    def change(self, entry: RouteEntry) -> None:
        """Take the route's newest entry; a replica that stays keeps what is known of it."""
        known = {(each.url, each.model): each for each in self.seats}
        seats = []
        for each in entry.replicas:
            seat = known.get((each.url, each.model)) or Seat(each)
            seat.weight, seat.zone = each.weight, each.zone
            seat.adapters = each.adapters  # They come and go while the replica stays.
            seats.append(seat)
        if seats or entry.paused:
            self.hopes_until_s = 0.0
        elif self.seats:
            self.hopes_until_s = math.inf  # The waiting room says how long that is.
        if entry.generation != self.entry.generation:
            self.forms = Forms()  # Its engines may be others, who write in another way.
        self.entry, self.seats, self.surfaces = entry, tuple(seats), surfaces_of(entry.surfaces)
        self._by_name = {each.name: each for each in reversed(self.seats)}
        self._weigh_alike = len({each.weight for each in seats}) < 2
        self.place = f', region="{entry.region}", class="{entry.tier}"'.encode()

    def has_adapter(self, adapter: str) -> bool:
        """Whether the endpoint offers it, or a replica has it loaded."""
        return adapter in self.entry.adapters or any(adapter in each.adapters for each in self.seats)

    def may_retry(self) -> bool:
        """Whether one more request that a replica answered with an error may be asked again, and count it."""
        return self.retries.take(sum(each.health.answers for each in self.seats))

    def lanes_to_seat(self) -> int:
        """In how many lanes interactive requests wait for a place and for nothing else, as an adapter or a recovery."""
        loaded = {"", *(adapter for seat in self.seats for adapter in seat.adapters)}
        return len(
            {
                each.lane
                for each in self.queue
                if not each.is_batch and each.request.failed is None and each.request.adapter in loaded
            }
        )

    def choose(
        self,
        *,
        now_s: float = 0.0,
        avoid: Seat | None = None,
        outstanding_max: int | None = None,
        prompt: affinity.Marks = (),
        adapter: str = "",
        rules: Rules = balancing.DEFAULT,
    ) -> Seat | None:
        """The replica for the next request, None if all have as much as they may; ``avoid`` if there is no other."""
        seats, slack = self.seats, rules.affinity_slack
        if prompt and not adapter and avoid is None and self._weigh_alike:
            known = self._by_name.get(self.memory.recall(prompt))
            if (
                known is not None
                and known in seats  # The route may change in any thread.
                and known.health.is_well
                and (outstanding_max is None or known.outstanding < outstanding_max)
                and (known.load <= slack or known.load <= min([each.load for each in seats]) + slack)
            ):
                self.memory.learn(prompt, known.name)
                return known  # So it is with care: what others may take lets it have more to do, not less.
        return self._choose_with_care(now_s, avoid, outstanding_max, prompt, adapter, rules)

    def _choose_with_care(
        self,
        now_s: float,
        avoid: Seat | None,
        outstanding_max: int | None,
        prompt: affinity.Marks,
        adapter: str,
        rules: Rules,
    ) -> Seat | None:
        seats = self._fit(now_s=now_s, avoid=avoid, outstanding_max=outstanding_max, adapter=adapter)
        if len(seats) < 2:
            return seats[0] if seats else None
        self.draws += 1
        preferred = self._by_name.get(self.memory.recall(prompt)) if prompt else None
        chosen = balancing.choose(seats, draw=balancing.drawn(self.seed, self.draws), preferred=preferred, rules=rules)
        if prompt:
            self.memory.learn(prompt, chosen.name)
        return chosen

    def choose_again(self, failed: Seat, *, now_s: float, outstanding_max: int, adapter: str) -> Seat | None:
        """The replica for a request whose replica went: one that is not known to fail; ``failed`` if no other.

        Stricter than `choose`: whoever waits already can wait until a replica that failed has been tried by one.
        """
        well = [
            each
            for each in self.seats
            if each.health.may_take(now_s)
            and each.outstanding < outstanding_max
            and (not adapter or adapter in each.adapters)
        ]
        others = [each for each in well if each is not failed] or well
        self.draws += 1
        return balancing.choose(others, draw=balancing.drawn(self.seed, self.draws)) if others else None

    def _fit(self, *, now_s: float, avoid: Seat | None, outstanding_max: int | None, adapter: str) -> Sequence[Seat]:
        """Those that may take the request."""
        seats, most = self.seats, math.inf if outstanding_max is None else outstanding_max
        if not adapter and avoid is None:
            free = [each for each in seats if each.outstanding < most and each.health.is_well]
            if len(free) == len(seats):  # As nearly always: there is nothing to be said of any of them.
                return seats
        return [each for each in self._not_failing(now_s, avoid, adapter) if each.outstanding < most]

    def _not_failing(self, now_s: float, avoid: Seat | None, adapter: str) -> Sequence[Seat]:
        seats: Sequence[Seat] = self.seats
        if adapter:
            seats = [each for each in seats if adapter in each.adapters]
        if len(seats) < 2:
            return seats
        if avoid is not None:
            seats = [each for each in seats if each is not avoid] or seats
        return seats if all([each.health.is_well for each in seats]) else usable(seats, now_s)
