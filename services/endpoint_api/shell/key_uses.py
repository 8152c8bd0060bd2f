"""Writes down when keys were last used, as routers tell it and as we saw ourselves: once a key and minute at most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from libs.common.clock import Clock
from libs.common.events.envelope import Envelope
from libs.common.events.route import KeyUsed
from libs.common.ids import event_id
from libs.common.key_use import KeyUse
from libs.common.runner import Runner
from services.endpoint_api.core.commands import UseKey
from services.endpoint_api.core.state import Key

PAGE: Final = 200  # Of one look at what was used here.


class KeyUses:
    """Keeps the highest time of each key. Order, repeats and several tellers change nothing."""

    def __init__(self, runner: Runner[Key], clock: Clock, use: KeyUse) -> None:
        self._keys = runner
        self._clock = clock
        self._use = use

    def hear(self, told: KeyUsed) -> int:
        """What a router told; returns how many keys were written."""
        return self._write((each.key_id, each.last_used_ms) for each in told.keys)

    def run(self) -> int:
        """Write a page of what was used here; returns how many uses there were."""
        uses = self._use.untold(PAGE)
        self._write(uses)
        self._use.told(uses, self._clock.now_ms())
        return len(uses)

    def _write(self, uses: Iterable[tuple[str, int]]) -> int:
        return sum(self._write_one(key_id, at_ms) for key_id, at_ms in uses)

    def _write_one(self, key_id: str, at_ms: int) -> bool:
        known = self._keys.state(key_id)
        if known is None or at_ms <= (known.last_used_ms or 0):  # Nobody's key, or nothing new: not worth a write.
            return False
        cause = event_id(key_id, f"used|{at_ms}", 0)  # Whoever tells it: the same minute is the same message.
        self._keys.take(key_id, Envelope(cause, UseKey(last_used_ms=at_ms), subject=key_id, time_ms=at_ms))
        return True
