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
from dataclasses import dataclass
from typing import Final

import msgspec

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


class Room(msgspec.Struct, frozen=True, gc=False):
    """What is left of one limit after a request, or before the one that it refused."""

    limit: int
    remaining: int
    reset_s: int


class Grant(msgspec.Struct, frozen=True):
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

    What is given says where they are, if not in this process alone (shell/limits/shared_limits.py).
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
        limits, slot, running = tuple(limits), self._advance(now_ms), self._running
        for each in limits:
            if each.at_once is not None and running.get(each.bucket, 0) >= each.at_once:
                return Refused("concurrency", FREES_S)
        grant = self._take(limits, slot, tokens, tokens if least is None else min(least, tokens))
        if isinstance(grant, Grant):
            for bucket in grant.at_once:
                running[bucket] = running.get(bucket, 0) + 1
        return grant

    def _take(self, limits: Sequence[Limit], slot: int, tokens: int, least: int) -> Grant | Refused:
        requests = _tightest(self._requests, [(each.bucket, each.requests) for each in limits], slot, 1)
        spending = _tightest(self._tokens, [(each.bucket, each.tokens) for each in limits], slot, least)
        if requests is not None and requests.remaining < 1:
            return _refused("requests", requests, 1, requests, spending)
        if spending is not None:
            if spending.remaining < least:
                return _refused("tokens", spending, least, requests, spending)
            tokens = min(tokens, spending.remaining)
        buckets = [each.bucket for each in limits if each.requests is not None or each.tokens is not None]
        for bucket in buckets:
            _window(self._requests, bucket).add(slot, 1)
            _window(self._tokens, bucket).add(slot, tokens)
        at_once = [each.bucket for each in limits if each.at_once is not None]
        return Grant(tuple(buckets), slot, tokens, tuple(at_once), _less(requests, 1), _less(spending, tokens))

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
                _window(self._tokens, bucket).add(slot, -unused)

    def _advance(self, now_ms: int) -> int:
        slot = now_ms // SECOND_MS
        if slot > self._slot:
            self._slot = slot
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
    if (room := said.requests_left) is not None:
        lines = _REQUESTS_LEFT % (room.limit, room.remaining, room.reset_s)
    if (room := said.tokens_left) is not None:
        lines += _TOKENS_LEFT % (room.limit, room.remaining, room.reset_s)
    return lines


_REQUESTS_LEFT: Final = (
    b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %ds\r\n"
)
_TOKENS_LEFT: Final = _REQUESTS_LEFT.replace(b"requests", b"tokens")


def _window(windows: dict[str, Window], bucket: str) -> Window:
    return windows.get(bucket) or windows.setdefault(bucket, Window())


def _tightest(
    windows: dict[str, Window], limits: Sequence[tuple[str, int | None]], slot: int, amount: int
) -> Room | None:
    """The tightest room; of those too small for ``amount``, the one to wait for longest."""
    least, tightest, count = -1, None, 0
    for bucket, limit in limits:
        if limit is None:
            continue
        window = windows.get(bucket) or Window()
        window.expire(slot)
        left = limit - window.total
        if left < amount:
            return _longest(windows, limits, slot, amount)
        if tightest is None or left < least:
            least, tightest, count = left, window, limit
    return None if tightest is None else Room(count, least, tightest.free_in_s(slot, 1))


def _longest(windows: dict[str, Window], limits: Sequence[tuple[str, int | None]], slot: int, amount: int) -> Room:
    """Of the rooms too small for ``amount``, the one to wait for longest."""
    short: list[Room] = []
    for bucket, limit in limits:
        window = windows.get(bucket) or Window()
        window.expire(slot)
        if limit is not None and (over := window.total + amount - limit) > 0:
            short.append(Room(limit, max(0, limit - window.total), window.free_in_s(slot, over)))
    return max(short, key=lambda each: (amount > each.limit, each.reset_s))


def _refused(what: str, room: Room, amount: int, requests: Room | None, tokens: Room | None) -> Refused:
    return Refused(what, None if amount > room.limit else max(1, room.reset_s), requests, tokens)


def _less(room: Room | None, amount: int) -> Room | None:
    return None if room is None else Room(room.limit, room.remaining - amount, room.reset_s)
