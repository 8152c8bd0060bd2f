"""The outbox relay: the only thing in a service that publishes. In order, until the bus says that it has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from libs.common.bus.port import Message
from libs.common.store.port import Store

BATCH_MAX: Final = 128  # One look into the outbox; bounds memory, and what is sent again after a crash.

Publish = Callable[[Sequence[Message]], int]  # Stores in order; says how many, from the first on, are stored.


class Relay:
    """Moves committed messages from the outbox to the bus, oldest first, and never past one that the bus has not."""

    def __init__(self, store: Store, publish: Publish) -> None:
        self._store = store
        self._publish = publish
        self.is_held_up = False  # Whether the bus did not take all of what it was given last.

    def run(self) -> int:
        """Send what is pending; returns how many the bus took. A crash before the mark sends again, same ids."""
        pending = self._store.pending(BATCH_MAX)
        self.is_held_up = False
        if not pending:
            return 0
        stored = self._publish([each.message for each in pending])
        self.is_held_up = stored < len(pending)
        self._store.mark_sent([each.position for each in pending[:stored]])
        return stored
