"""Which keys were let in, to the minute: noted in memory beside the request, told later by whoever keeps the records.

Of each key at most one use a minute is told, so what it costs depends on the keys in use, never on the requests.
"""

from __future__ import annotations

from itertools import islice

from libs.common.units import MINUTE_MS


class KeyUse:
    """Uses that are not told yet. It holds at most one of each good key, however long nobody takes them.

    ``note`` may be called in any thread; the others by one teller at a time.
    """

    def __init__(self) -> None:
        self._minutes: dict[str, int] = {}
        self._untold: dict[str, int] = {}

    def note(self, key_id: str, now_ms: int) -> None:
        """A key was let in. Beside a request: two looks into a dict."""
        minute = now_ms // MINUTE_MS
        if self._minutes.get(key_id) != minute:
            self._minutes[key_id] = minute
            self._untold[key_id] = minute * MINUTE_MS

    def untold(self, limit: int) -> tuple[tuple[str, int], ...]:
        """Key and beginning of the minute of its last use, oldest first, at most ``limit`` of them."""
        return tuple(islice(list(self._untold.items()), limit))

    def told(self, uses: tuple[tuple[str, int], ...], now_ms: int) -> None:
        """These are kept elsewhere now. A use that came meanwhile stays."""
        for key_id, at_ms in uses:
            if self._untold.get(key_id) == at_ms:
                del self._untold[key_id]
        minute = now_ms // MINUTE_MS
        for key_id, noted in list(self._minutes.items()):
            if noted < minute and key_id not in self._untold:
                del self._minutes[key_id]
