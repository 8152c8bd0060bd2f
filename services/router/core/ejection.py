"""Replicas that fail are left out for a while, and let in again by a single request that succeeds.

A replica that fails three times in a row is out for 2 s, then 4 s, up to a minute. When its time is over, one request
tries it (half open): success lets it in, failure puts it out again. If fewer than half would be left, all are asked as
before: then it is not one replica that is at fault, and those that are left would fall next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

FAILURES_MAX: Final = 3  # In a row: a replica that closes an idle connection fails once, and not again.
OUT_S: Final = 2.0
OUT_MAX_S: Final = 60.0


class Health:
    """How a replica answered lately. Mutable: touched for every request."""

    __slots__ = ("answers", "failures", "faults", "is_probed", "is_well", "out_until_s", "times_out")

    def __init__(self) -> None:
        self.answers = self.faults = 0  # Since we know it; these only grow.
        self.failures = 0
        self.times_out = 0
        self.out_until_s = 0.0  # 0: it is in.
        self.is_probed = False
        self.is_well = True  # There is nothing to be said of it: no failures, no times out.

    def may_take(self, now_s: float) -> bool:
        """Whether a request may go there: it is in, or its time is over and nobody tries it yet."""
        return not self.out_until_s or (now_s >= self.out_until_s and not self.is_probed)

    def dispatched(self, now_s: float) -> None:
        """A request goes there; if it is out, that is the one that tries it."""
        if self.out_until_s and now_s >= self.out_until_s:
            self.is_probed = True

    def answered(self) -> None:
        """It answered."""
        self.answers += 1
        self.failures = self.times_out = 0
        self.out_until_s, self.is_probed, self.is_well = 0.0, False, True

    def left(self) -> None:
        """A request ended without an answer or a failure: nothing was learned, and somebody else may try."""
        self.is_probed = False

    def failed(self, now_s: float) -> bool:
        """It did not answer, or said that it is at fault; returns whether it was put out now."""
        self.failures += 1
        self.faults += 1
        self.is_well = False
        if not self.is_probed and (self.failures < FAILURES_MAX or self.out_until_s > now_s):
            return False
        self.out_until_s = now_s + min(OUT_MAX_S, OUT_S * 2**self.times_out)
        self.times_out += 1
        self.is_probed = False
        return True


class Watched(Protocol):
    """A replica with its health."""

    @property
    def health(self) -> Health:
        """How it answered lately."""


AnyWatched = TypeVar("AnyWatched", bound=Watched)


def usable(replicas: Sequence[AnyWatched], now_s: float) -> Sequence[AnyWatched]:
    """Those that may take a request, or all if these are fewer than half."""
    found = [each for each in replicas if each.health.may_take(now_s)]
    return found if 2 * len(found) >= len(replicas) else replicas
