"""Whose the head is that a connection repeats, and until when that need not be asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.common.events.tables import KeyEntry
from libs.common.units import MINUTE_MS
from services.router.core.http_rules import Head

if TYPE_CHECKING:
    from services.router.shell.edge.server import Edge


class Sure:
    """What was found when a connection's key was looked at last.

    It holds in the same edition of all keys, and until the minute ends or the key does: each minute has its own note
    that the key was used.
    """

    __slots__ = ("_edge", "key", "keys", "until_ms")

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self.key: KeyEntry | None = None
        self.keys: object = None
        self.until_ms = 0

    def look_again(self, head: Head, peer: str, key: KeyEntry | None, now_ms: int) -> KeyEntry | None:
        """Whose ``head`` is now, which was sent with ``key``. Raises HttpRefusal."""
        gateway = self._edge.gateway
        self.keys = gateway.keyring.edition  # Before the look: what is said of keys meanwhile has us look again.
        if key is None or not gateway.keyring.holds(key, now_ms=now_ms):
            key = self._edge.judge(head, peer)
        else:
            gateway.key_use.note(key.key_id, now_ms)
        self.key, self.until_ms = key, now_ms - now_ms % MINUTE_MS + MINUTE_MS
        if key is not None and key.expires_at_ms is not None and key.expires_at_ms < self.until_ms:
            self.until_ms = key.expires_at_ms
        return key
