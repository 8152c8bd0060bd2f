"""A copy of routes and keys on disk, so that a router which starts while the bus is away can serve.

What the copy says holds only until the bus has told its own content: what it does not name is dropped then. Keys are
hashes here as everywhere. Signing the copy and pulling it from a second source come later.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from libs.common.bus.port import OnChange
from libs.common.bus.streams import KEYS, QUOTAS, ROUTES
from libs.common.clock import Clock
from libs.common.telemetry.logging import fields
from libs.common.units import HOUR_MS, MINUTE_MS

log = logging.getLogger(__name__)

STALE_MS: Final = 1 * HOUR_MS  # reliability.md I23: how long a revoked key may work for a router cut off from all.
RENEW_MS: Final = 1 * MINUTE_MS  # An unchanged copy is written again this often, while the bus confirms it.
SAVE_S: Final = 1.0


class Copies:
    """The buckets as last told, kept in a file. `on_change` may be called from any thread."""

    def __init__(self, path: str, clock: Clock, appliers: Mapping[str, OnChange]) -> None:
        assert set(appliers) == {ROUTES, KEYS, QUOTAS}
        self._path = Path(path)
        self._clock = clock
        self._appliers = MappingProxyType(dict(appliers))
        self._known: dict[str, dict[str, str]] = {bucket: {} for bucket in appliers}
        self._untold: set[tuple[str, str]] = set()
        self._changes = 0

    def load(self) -> int:
        """Serve from the file if there is a fresh one; returns how many entries it held."""
        try:
            content: dict[str, Any] = json.loads(self._path.read_bytes())
            if self._clock.now_ms() - int(content["saved_at_ms"]) > STALE_MS:
                return 0
            found = [
                (bucket, key, str(value)) for bucket in self._known for key, value in content.get(bucket, {}).items()
            ]
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as wrong:
            log.warning("copy of routes and keys is unreadable; ignored", extra=fields(reason=type(wrong).__name__))
            return 0
        for bucket, key, value in found:
            self._known[bucket][key] = value
            self._untold.add((bucket, key))
            self._appliers[bucket](key, value.encode())
        return len(found)

    def watcher(self, bucket: str) -> OnChange:
        """What the bus is to tell its changes of ``bucket`` to."""

        def on_change(key: str, value: bytes | None) -> None:
            self._untold.discard((bucket, key))
            if value is None:
                self._known[bucket].pop(key, None)
            else:
                self._known[bucket][key] = value.decode()
            self._appliers[bucket](key, value)
            self._changes += 1

        return on_change

    def settle(self) -> None:
        """The bus has told all that it holds: what only the copy knew is gone."""
        for bucket, key in sorted(self._untold):
            self.watcher(bucket)(key, None)

    def save(self) -> None:
        """Write the file whole, or leave the one before."""
        content = {"saved_at_ms": self._clock.now_ms(), **{name: dict(known) for name, known in self._known.items()}}
        draft = self._path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)

    async def run(self, connected: asyncio.Event, is_told: Callable[[], bool]) -> None:
        """When the bus has told all, settle; then keep the file up to date until cancelled.

        ``is_told``: the bus is there to contradict us, so an unchanged copy is fresh again.
        """
        await connected.wait()
        self.settle()
        saved_changes, saved_ms = -1, 0
        while True:
            now_ms, changes = self._clock.now_ms(), self._changes
            if changes != saved_changes or (now_ms - saved_ms > RENEW_MS and is_told()):
                try:
                    await asyncio.to_thread(self.save)
                    saved_changes, saved_ms = changes, now_ms
                except OSError as wrong:
                    log.warning("copy of routes and keys not written", extra=fields(reason=str(wrong.strerror)))
            await asyncio.sleep(SAVE_S)
