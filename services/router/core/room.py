"""How much memory the bodies of requests, and answers that come whole, may take: all together, and of one tenant.

A body stays from its first byte until its answer begins, or until it is over where that comes whole; such an answer
until its client has taken it. Whoever has a key may send a thousand of 10 MiB at once, or read none of a hundred
answers of 32: without a bound, that ends the process and everybody's streams with it.
"""

from __future__ import annotations

from typing import Final

from libs.common.units import KIB, MIB
from services.router.core import refusals

UNCOUNTED_BYTES: Final = 16 * KIB  # Of smaller ones 10,000 connections hold 160 MB at most.
ALL_BYTES_MAX: Final = 256 * MIB
TENANT_PART: Final = 2  # One tenant may have the half: another one is always let in with something.


class Room:
    """What is taken of it. Not thread-safe: called from the event loop alone."""

    __slots__ = ("_max_bytes", "_of", "taken_bytes")

    def __init__(self, max_bytes: int = ALL_BYTES_MAX) -> None:
        self._max_bytes = max_bytes
        self._of: dict[str, int] = {}
        self.taken_bytes = 0

    def take(self, tenant_id: str, size_bytes: int) -> None:
        """Count so much more. Raises HttpRefusal, and counts nothing, if the tenant has its part or all is taken."""
        own_bytes = self._of.get(tenant_id, 0) + size_bytes
        if own_bytes > self._max_bytes // TENANT_PART:
            raise refusals.too_large_at_once(self._max_bytes // TENANT_PART)
        if self.taken_bytes + size_bytes > self._max_bytes:
            raise refusals.busy(1)
        self._of[tenant_id] = own_bytes
        self.taken_bytes += size_bytes

    def give_back(self, tenant_id: str, size_bytes: int) -> None:
        """So much of what was taken is gone."""
        left_bytes = self._of[tenant_id] - size_bytes
        assert left_bytes >= 0, "no more is given back than was taken"
        self.taken_bytes -= size_bytes
        if left_bytes:
            self._of[tenant_id] = left_bytes
        else:
            del self._of[tenant_id]


class Holding:
    """What one connection holds of it, whoever's requests it sends."""

    __slots__ = ("_room", "_tenant_id", "size_bytes")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._tenant_id = ""
        self.size_bytes = 0

    def hold(self, tenant_id: str, size_bytes: int) -> None:
        """Hold so much, for this tenant. Raises HttpRefusal, and holds what it held, if there is no room for more."""
        if tenant_id != self._tenant_id:
            self.keep(0)
            self._tenant_id = tenant_id
        if size_bytes > self.size_bytes:
            self._room.take(tenant_id, size_bytes - self.size_bytes)
            self.size_bytes = size_bytes
        else:
            self.keep(size_bytes)

    def keep(self, size_bytes: int) -> None:
        """Hold no more than that."""
        if size_bytes < self.size_bytes:
            self._room.give_back(self._tenant_id, self.size_bytes - size_bytes)
            self.size_bytes = size_bytes
