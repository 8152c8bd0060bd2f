"""Requests and tokens per minute, and requests at once: of an endpoint, key, project and tenant; all must have room.

Promise, in this one process: of each bucket, no 60 s window holds more than the limit of what was admitted. Time is
kept in slots of a second, and a slot counts whole until the last of it has left the window: room comes back up to a
second late, never early. A request reserves its tokens at admission (prompt estimate and the most it may generate) and
is settled with what it used; what it used beyond its reservation is owed, and counts from then on. So tokens pass the
limit by no more than estimates were too low. A request that would fit if it generated less is granted what there is,
and generates no more. A place at once is held from `reserve` to `settle`. A request that is refused takes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from libs.common.units import SECOND_MS

WINDOW_S: Final = 60
FREES_S: Final = 1  # When to ask again for one of the places at once: nobody knows, and a second is a request's length.
IDLE_MAX: Final = 4096  # Buckets kept before those without anything in their window are dropped.


@dataclass(frozen=True, slots=True)
class Limit:
    """What one bucket allows a minute, and at once; None: any number. `bucket` names it: ``endpoint/<id>`` …"""

    bucket: str
    requests: int | None = None
    tokens: int | None = None
    at_once: int | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """What is left of one limit after a request, or before the one that it refused."""

    limit: int
    remaining: int
    reset_s: int


@dataclass(frozen=True, slots=True)
class Grant:
    """A request was admitted: what it holds, and the tightest of the limits that it passed.

    `tokens` may be fewer than it asked for: then that is all that it may use. `at_once` are the buckets it runs in.
    """

    buckets: tuple[str, ...]
    slot: int
    tokens: int
    at_once: tuple[str, ...] = ()
    requests_left: Room | None = None
    tokens_left: Room | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """No room. `retry_after_s` is when there may be; None: the request alone is more than the limit."""

    what: str
    retry_after_s: int | None
    requests_left: Room | None = None
    tokens_left: Room | None = None


class Window:
    """What was taken in the last minute, by slots; oldest first."""

    __slots__ = ("_slots", "total")

    def __init__(self) -> None:
        self._slots: deque[list[int]] = deque()
        self.total = 0

    def expire(self, slot: int) -> None:
        """Forget what no window that ends in ``slot`` touches."""
        while self._slots and self._slots[0][0] < slot - WINDOW_S:
            self.total -= self._slots.popleft()[1]

    def add(self, slot: int, amount: int) -> None:
        """Take in the newest slot."""
        if not self._slots or self._slots[-1][0] != slot:
            self._slots.append([slot, 0])
        self._slots[-1][1] += amount
        self.total += amount

    def give_back(self, slot: int, amount: int) -> None:
        """Take less in a slot; without effect once it is forgotten."""
        for each in self._slots:
            if each[0] == slot:
                each[1] -= amount
                self.total -= amount

    def free_in_s(self, slot: int, amount: int) -> int:
        """In how many seconds at least ``amount`` of it is forgotten."""
        for at, held in self._slots:
            amount -= held
            if amount <= 0:
                return at + WINDOW_S + 1 - slot
        return WINDOW_S


class MinuteLimits:
    """The windows of every bucket in use. Not thread-safe: called from the event loop alone.

    What is given says where they are, if not in this process alone (shell/shared_limits.py).
    """

    def __init__(
        self,
        requests: dict[str, Window] | None = None,
        tokens: dict[str, Window] | None = None,
        running: dict[str, int] | None = None,
    ) -> None:
        self._requests = {} if requests is None else requests
        self._tokens = {} if tokens is None else tokens
        self._running = {} if running is None else running
        self._slot = 0

    def reserve(
        self, limits: Iterable[Limit], *, tokens: int, now_ms: int, least: int | None = None
    ) -> Grant | Refused:
        """Admit one request of ``tokens`` under all of ``limits``, or none; of fewer, but ``least``, if need be.

        `now_ms` is of a steady clock.
        """
        limits = tuple(limits)
        crowded = tuple(each.bucket for each in limits if each.at_once is not None)
        held = tuple(each for each in limits if each.requests is not None or each.tokens is not None)
        slot = self._advance(now_ms)
        if any(self._running.get(each.bucket, 0) >= each.at_once for each in limits if each.at_once is not None):
            return Refused("concurrency", FREES_S)
        said = self._take(held, slot, tokens, tokens if least is None else min(least, tokens)) if held else None
        if isinstance(said, Refused):
            return said
        for bucket in crowded:
            self._running[bucket] = self._running.get(bucket, 0) + 1
        grant = Grant((), slot, tokens) if said is None else said
        return replace(grant, at_once=crowded) if crowded else grant

    def _take(self, held: Sequence[Limit], slot: int, tokens: int, least: int) -> Grant | Refused:
        requests = _rooms(self._requests, [(each.bucket, each.requests) for each in held], slot, 1)
        spending = _rooms(self._tokens, [(each.bucket, each.tokens) for each in held], slot, least)
        for what, found, amount in (("requests", requests, 1), ("tokens", spending, least)):
            if found is not None and found.remaining < amount:
                retry_after_s = None if amount > found.limit else max(1, found.reset_s)
                return Refused(what, retry_after_s, requests, spending)
        tokens = tokens if spending is None else min(tokens, spending.remaining)
        for each in held:
            self._requests.setdefault(each.bucket, Window()).add(slot, 1)
            self._tokens.setdefault(each.bucket, Window()).add(slot, tokens)
        buckets = tuple(each.bucket for each in held)
        return Grant(buckets, slot, tokens, (), _less(requests, 1), _less(spending, tokens))

    def settle(self, grant: Grant, *, tokens: int, now_ms: int) -> None:
        """The request is over and used ``tokens``. Called once for a grant."""
        for bucket in grant.at_once:
            self._running[bucket] -= 1
            if not self._running[bucket]:
                del self._running[bucket]
        slot, unused = self._advance(now_ms), grant.tokens - tokens
        for bucket in grant.buckets:
            window = self._tokens.get(bucket)
            if unused > 0 and window is not None:
                window.give_back(grant.slot, unused)
            elif unused < 0:
                self._tokens.setdefault(bucket, Window()).add(slot, -unused)

    def _advance(self, now_ms: int) -> int:
        self._slot = max(self._slot, now_ms // SECOND_MS)
        for windows in (self._requests, self._tokens):
            if len(windows) > IDLE_MAX:
                self._drop_idle(windows)
        return self._slot

    def _drop_idle(self, windows: dict[str, Window]) -> None:
        for bucket, window in list(windows.items()):
            window.expire(self._slot)
            if not window.total:
                del windows[bucket]


def rate_headers(said: Grant | Refused) -> bytes:
    """What an answer says of the limits, in OpenAI's words: nothing of what has none."""
    lines = b""
    for what, room in ((b"requests", said.requests_left), (b"tokens", said.tokens_left)):
        if room is not None:
            lines += b"x-ratelimit-limit-%s: %d\r\nx-ratelimit-remaining-%s: %d\r\nx-ratelimit-reset-%s: %ds\r\n" % (
                what, room.limit, what, room.remaining, what, room.reset_s,
            )  # fmt: skip
    return lines


def _rooms(windows: dict[str, Window], limits: Sequence[tuple[str, int | None]], slot: int, amount: int) -> Room | None:
    """The tightest room; of those too small for ``amount``, the one to wait for longest."""
    found: list[Room] = []
    for bucket, limit in limits:
        if limit is None:
            continue
        window = windows.get(bucket) or Window()
        window.expire(slot)
        over = window.total + amount - limit
        found.append(Room(limit, max(0, limit - window.total), window.free_in_s(slot, max(over, 1))))
    short = [each for each in found if each.remaining < amount]
    if short:
        return max(short, key=lambda each: (amount > each.limit, each.reset_s))
    return min(found, key=lambda each: each.remaining, default=None)


def _less(room: Room | None, amount: int) -> Room | None:
    return None if room is None else replace(room, remaining=room.remaining - amount)
