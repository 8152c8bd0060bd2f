"""Requests and tokens per minute, and requests at once: of an endpoint, key, project and tenant; all must have room.

Promise, in this one process: of each bucket, no 60 s window holds more than the limit of what was admitted. Time is
kept in slots of a second, and a slot counts whole until the last of it has left the window: room comes back up to a
second late, never early. A request reserves its tokens at admission (prompt estimate and the most it may generate) and
is settled with what it used; what it used beyond its reservation is owed, and counts from then on. So tokens pass the
limit by no more than estimates were too low. A request that would fit if it generated less is granted what there is,
and generates no more. A place at once is held from `reserve` to `settle`. A request that is refused takes nothing.

All that is known of a bucket is a row of numbers, so that the workers of a router can have them in memory that they
share (shell/limits/shared_limits.py), and a request that has room costs a look-up of each row and some additions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from libs.common.units import SECOND_MS
from services.router.core.rows import NEWEST, OLDEST, REQUESTS, RING, RUNNING, SLOTS, TOKENS, WINDOW_S, OwnRows, Rows

FREES_S: Final = 1  # When to ask again for one of the places at once: nobody knows, and a second is a request's length.
FREED_S: Final = WINDOW_S + 1  # From the second in which something was admitted to the first that has its room again.
PLENTY: Final = 1 << 62  # Left where nothing is limited.


@dataclass(frozen=True, slots=True)
class Limit:
    """What one bucket allows a minute, and at once; None: any number. `bucket` names it: ``endpoint/<id>`` …"""

    bucket: str
    requests: int | None = None
    tokens: int | None = None
    at_once: int | None = None


class Left(msgspec.Struct, frozen=True, gc=False):
    """What is left of one limit before the request that it refused."""

    limit: int
    remaining: int
    reset_s: int


class Grant(msgspec.Struct, frozen=True, gc=False):
    """A request was admitted under these limits. It holds a place of those that count them.

    `tokens` may be fewer than it asked for: then that is all that it may use. `headers` is what its answer says of the
    tightest limits.
    """

    limits: Sequence[Limit]
    slot: int
    tokens: int
    headers: bytes = b""


@dataclass(frozen=True, slots=True)
class Refused:
    """No room. `retry_after_s` is when there may be; None: the request alone is more than the limit."""

    what: str
    retry_after_s: int | None
    requests_left: Left | None = None
    tokens_left: Left | None = None


class MinuteLimits:
    """The limits of every bucket in use. Not thread-safe: called from the event loop alone.

    Where ``rows`` are shared by several ``workers``, ``own`` is the number of this one.
    """

    def __init__(self, rows: Rows | None = None, *, own: int = 0, workers: int = 1) -> None:
        self.rows = OwnRows() if rows is None else rows
        self.elsewhere = RUNNING + workers  # The cell of what runs on other hosts.
        self._cells = self.rows.cells
        self._find = self.rows.find
        self._own = RUNNING + own
        self._cells_end = self.elsewhere + 1
        self._slot = self._ends_ms = 0  # The second that it is, and when the next one begins.

    def reserve(
        self, limits: Sequence[Limit], *, tokens: int, now_ms: int, least: int | None = None
    ) -> Grant | Refused:
        """Admit one request of ``tokens`` under all of ``limits``, or none; of fewer, but ``least``, if need be.

        `now_ms` is of a steady clock.
        """
        slot = self._slot if now_ms < self._ends_ms else self._begin_second(now_ms)
        least = tokens if least is None or least > tokens else least
        cells, find = self._cells, self._find
        rows: list[int] = []
        held: list[int] = []  # Those that count what runs.
        requests_left = tokens_left = PLENTY  # What the limit with the least has left,
        of_requests = of_tokens = requests_at = tokens_at = 0  # and that limit, and where it is counted.
        for limit in limits:
            at = find(limit.bucket)
            if at is None or cells[at] < slot:
                at = self.renewed(limit.bucket, slot)
            rows.append(at)
            if limit.at_once is not None:
                if self._running(at) >= limit.at_once:
                    return Refused("concurrency", FREES_S)
                held.append(at + self._own)
            if (most := limit.requests) is not None and (left := most - cells[at + REQUESTS]) < requests_left:
                requests_left, of_requests, requests_at = left, most, at + REQUESTS
            if (most := limit.tokens) is not None and (left := most - cells[at + TOKENS]) < tokens_left:
                tokens_left, of_tokens, tokens_at = left, most, at + TOKENS
        if requests_left < 1 or tokens_left < least:
            return self._refused(limits, rows, least)
        tokens = tokens if tokens < tokens_left else tokens_left
        for at in rows:
            cells[at + REQUESTS] += 1
            cells[at + TOKENS] += tokens
        for at in held:
            cells[at] += 1
        freed_s = FREED_S - slot
        said_of_requests = (
            _REQUESTS_LEFT % (of_requests, requests_left - 1, cells[requests_at + OLDEST] + freed_s)
            if requests_at
            else b""
        )
        said_of_tokens = (
            _TOKENS_LEFT % (of_tokens, tokens_left - tokens, cells[tokens_at + OLDEST] + freed_s) if tokens_at else b""
        )
        return Grant(limits, slot, tokens, said_of_requests + said_of_tokens)

    def settle(self, grant: Grant, *, tokens: int, now_ms: int) -> None:
        """The request is over and used ``tokens``. Called once for a grant."""
        slot = self._slot if now_ms < self._ends_ms else self._begin_second(now_ms)
        unused, cells, find = grant.tokens - tokens, self._cells, self._find
        then = grant.slot if unused > 0 else slot
        seen_until = then + WINDOW_S
        for limit in grant.limits:
            at = find(limit.bucket)
            if at is None or cells[at] < slot:
                at = self.renewed(limit.bucket, slot)
            if cells[at] <= seen_until:  # Else it is forgotten.
                if cells[at] != then:  # Before the sum: who dies in between leaves too little room, never too much.
                    cells[at + TOKENS + SLOTS + then % RING] -= unused
                cells[at + TOKENS] -= unused
            if limit.at_once is not None and cells[at + self._own]:
                cells[at + self._own] -= 1

    def _begin_second(self, now_ms: int) -> int:
        """Its slot. Until it ends, an earlier moment belongs to it too: time never goes back."""
        self._slot = slot = now_ms // SECOND_MS
        self._ends_ms = (slot + 1) * SECOND_MS
        return slot

    def running(self, bucket: str) -> int:
        """How many requests hold a place of it."""
        at = self.rows.find(bucket)
        return 0 if at is None else self._running(at)

    def count(self, bucket: str, slot: int, *, requests: int, tokens: int) -> None:
        """Let so many more, or fewer, have been admitted in a slot by others; outside the window, nothing.

        A slot may lie a little ahead, as far as the ring has room: another host's clock is not ours.
        """
        at, cells = self.rows.find(bucket), self._cells
        if at is None or not cells[at] - WINDOW_S <= slot < cells[at] - WINDOW_S + RING:
            return
        for kind, amount in ((at + REQUESTS, requests), (at + TOKENS, tokens)):
            places = (kind,) if slot == cells[at] else (kind, kind + SLOTS + slot % RING)
            for place in places if amount > 0 else reversed(places):  # In between the newest slot has more.
                cells[place] += amount
            cells[kind + OLDEST] = min(cells[kind + OLDEST], slot)

    def run_elsewhere(self, bucket: str, count: int, *, now_slot: int) -> None:
        """Let so many be running on other hosts."""
        self._cells[self.renewed(bucket, now_slot) + self.elsewhere] = count

    def renewed(self, bucket: str, slot: int) -> int:
        """The row without what no window of ``slot`` touches, and from now on ``slot`` is its newest."""
        cells, at = self._cells, self.rows.claim(bucket, slot=slot)
        newest = cells[at + NEWEST]
        if slot > newest:
            for kind in (at + REQUESTS, at + TOKENS):
                cells[kind + SLOTS + newest % RING] = self.admitted(at, kind - at, newest)
                for gone in range(max(newest - WINDOW_S, slot - WINDOW_S - RING), slot - WINDOW_S):
                    cells[kind + SLOTS + gone % RING] = 0
                cells[kind] = sum(cells[kind + SLOTS : kind + SLOTS + RING])
                cells[kind + OLDEST] = self._oldest(kind, slot)
            cells[at + NEWEST] = slot
        return at

    def admitted(self, at: int, kind: int, slot: int) -> int:
        """How much of a kind counts in a slot of the row: in the newest what the sum is more than all others."""
        cells, kind = self._cells, at + kind
        counted = cells[kind + SLOTS + slot % RING]
        if slot == cells[at + NEWEST]:
            counted += cells[kind] - sum(cells[kind + SLOTS : kind + SLOTS + RING])
        return counted

    def _running(self, at: int) -> int:
        return sum(self._cells[at + RUNNING : at + self._cells_end])

    def _oldest(self, kind: int, slot: int) -> int:
        """The first slot that holds any, or the newest, which is to hold some."""
        cells = self._cells
        oldest = max(cells[kind + OLDEST], slot - WINDOW_S) if cells[kind] else slot
        while oldest < slot and not cells[kind + SLOTS + oldest % RING]:
            oldest += 1
        return oldest

    def _refused(self, limits: Sequence[Limit], rows: Sequence[int], least: int) -> Refused:
        """Say why: requests before tokens; of the rooms too small, the one to wait for longest."""
        both = list(zip(limits, rows, strict=True))
        requests = self._tightest([(each.requests, at + REQUESTS) for each, at in both], 1)
        tokens = self._tightest([(each.tokens, at + TOKENS) for each, at in both], least)
        if requests is not None and requests.remaining < 1:
            return Refused("requests", _after_s(requests, 1), requests, tokens)
        assert tokens is not None, "one of the two has no room"
        return Refused("tokens", _after_s(tokens, least), requests, tokens)

    def _tightest(self, limits: Iterable[tuple[int | None, int]], amount: int) -> Left | None:
        found = [
            Left(limit, max(0, limit - self._cells[kind]), self._free_in_s(kind, self._cells[kind] + amount - limit))
            for limit, kind in limits
            if limit is not None
        ]
        short = [each for each in found if each.remaining < amount]
        if short:
            return max(short, key=lambda each: (amount > each.limit, each.reset_s))
        return min(found, key=lambda each: each.remaining, default=None)

    def _free_in_s(self, kind: int, amount: int) -> int:
        """In how many seconds at least ``amount``, or the first of what there is, is forgotten."""
        amount = max(1, amount)
        if self._cells[kind] >= amount:
            for slot in range(self._cells[kind + OLDEST], self._slot):
                amount -= self._cells[kind + SLOTS + slot % RING]
                if amount <= 0:
                    return slot + FREED_S - self._slot
            return FREED_S
        return WINDOW_S


def _after_s(left: Left, amount: int) -> int | None:
    return None if amount > left.limit else max(1, left.reset_s)


def rate_headers(said: Refused) -> bytes:
    """What a refusal says of the limits, in OpenAI's words: nothing of what has none."""
    lines = b""
    if (left := said.requests_left) is not None:
        lines = _REQUESTS_LEFT % (left.limit, left.remaining, left.reset_s)
    if (left := said.tokens_left) is not None:
        lines += _TOKENS_LEFT % (left.limit, left.remaining, left.reset_s)
    return lines


_REQUESTS_LEFT: Final = (
    b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %ds\r\n"
)
_TOKENS_LEFT: Final = _REQUESTS_LEFT.replace(b"requests", b"tokens")
