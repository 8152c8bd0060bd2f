"""A copy of routes and keys on disk, so that a router which starts while the bus is away can serve.

What the bus says deleted is gone, and a key that was deleted stays so, whatever an older bucket says later. What the
bus lost without a word (a broker that came back without its disk) is served on from here, an hour at most, until its
owner has put it again. Of keys a signed snapshot may tell, too (`key_snapshots`), and none that is older than one that
was taken before, also in an earlier life. Keys are hashes here as everywhere. The copy is signed with a secret of this
router (HMAC): a file that was written by anybody else, or is not whole, serves nobody.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from libs.common.bus.port import OnChange, OnLost
from libs.common.bus.streams import KEYS, QUOTAS, ROUTES
from libs.common.clock import Clock
from libs.common.events.tables import KeyEntry
from libs.common.key_snapshot import KeySnapshot
from libs.common.telemetry.logging import fields
from libs.common.units import HOUR_MS, MINUTE_MS
from services.router.core.key_snapshots import Verdict, is_narrower, verdict
from services.router.shell import metrics

log = logging.getLogger(__name__)

STALE_MS: Final = 1 * HOUR_MS  # reliability.md I23: how long a revoked key may work for a router cut off from all.
RENEW_MS: Final = 1 * MINUTE_MS  # An unchanged copy is written again this often, while the bus confirms it.
SAVE_S: Final = 1.0
PURPOSE: Final = b"millrace copy of routes and keys v1|"  # The secret has other uses.
OVER: Final = "keys_deleted"  # Where the file has them,
MARK: Final = "key_snapshot"  # and the mark of the newest snapshot of keys.


class Copies:
    """The buckets as last told, kept in a file. `on_change` may be called from any thread."""

    def __init__(
        self,
        path: str,
        clock: Clock,
        appliers: Mapping[str, OnChange],
        *,
        secret: bytes,
        stale_ms: int = STALE_MS,
        on_lost: Callable[[str, str], None] = lambda _bucket, _key: None,
    ) -> None:
        assert set(appliers) == {ROUTES, KEYS, QUOTAS}
        self._path = Path(path)
        self._clock = clock
        self._appliers = MappingProxyType(dict(appliers))
        self._secret = secret
        self._stale_ms = stale_ms
        self._on_lost = on_lost
        self._known: dict[str, dict[str, str]] = {bucket: {} for bucket in appliers}
        self._untold: set[tuple[str, str]] = set()
        self._lost_ms: dict[tuple[str, str], int] = {}
        self._over: dict[str, None] = {}  # Keys that were deleted; an id is never used again.
        self._mark = (0, 0)  # Of the newest snapshot of keys that was taken.
        self._changes = 0
        self._keys_lock = threading.Lock()  # Bus and snapshots tell of keys in threads of their own.
        self._show_lost()

    def load(self) -> int:
        """Serve from the file if there is a fresh one; returns how many entries it held."""
        try:
            content: dict[str, Any] = json.loads(self._signed(self._path.read_bytes()))
            self._over = dict.fromkeys(map(str, content.get(OVER, ())))
            epoch, version = content.get(MARK, (0, 0))
            self._mark = (int(epoch), int(version))
            if not 0 <= self._clock.now_ms() - int(content["saved_at_ms"]) <= self._stale_ms:
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

    def _signed(self, content: bytes) -> bytes:
        """What a signature of ours stands before. Raises ValueError for anything else."""
        signature, _, text = content.partition(b"\n")
        if not hmac.compare_digest(signature, self._signature(text)):
            raise ValueError("not signed by us")
        return text

    def _signature(self, text: bytes) -> bytes:
        return hmac.new(self._secret, PURPOSE + text, "sha256").hexdigest().encode()

    def watcher(self, bucket: str) -> OnChange:
        """What the bus is to tell its changes of ``bucket`` to."""

        def on_change(key: str, value: bytes | None) -> None:
            self._untold.discard((bucket, key))
            if self._lost_ms.pop((bucket, key), None) is not None:
                self._show_lost()
            if bucket != KEYS:
                self._apply(bucket, key, value)
                return
            with self._keys_lock:
                if value is None:
                    self._over[key] = None
                elif key in self._over:
                    log.warning("a deleted key came back; refused", extra=fields(key_id=key))
                    return
                self._apply(bucket, key, value)

        return on_change

    def take(self, snapshot: KeySnapshot) -> tuple[Verdict, tuple[str, ...]]:
        """Take what it tells of keys beyond what is known. Returns with the verdict the keys that end by it.

        Of one that is refused nothing is taken.
        """
        judged = verdict(snapshot, known=self._mark, now_ms=self._clock.now_ms())
        if judged is not Verdict.TAKEN:
            return judged, ()
        ended = tuple(key_id for key_id in snapshot.over if self._end(key_id))
        for entry in snapshot.keys:
            self._narrow(entry)
        self._changes += snapshot.mark != self._mark
        self._mark = snapshot.mark
        return judged, ended

    def _end(self, key_id: str) -> bool:
        """Refuse a key for good; whether it was let in until now."""
        with self._keys_lock:
            is_news = key_id not in self._over and key_id in self._known[KEYS]
            self._over[key_id] = None
            if is_news:
                self._apply(KEYS, key_id, None)
            return is_news

    def _narrow(self, entry: KeyEntry) -> None:
        value = entry.model_dump_json()
        with self._keys_lock:
            known = self._known[KEYS].get(entry.key_id)
            if known == value or entry.key_id in self._over:
                return
            if is_narrower(entry, None if known is None else _entry(known)):
                self._apply(KEYS, entry.key_id, value.encode())

    def loser(self, bucket: str) -> OnLost:
        """What the bus is to tell to that it lost something of ``bucket``."""

        def on_lost(key: str) -> None:
            if key not in self._known[bucket]:
                return
            self._lost_ms.setdefault((bucket, key), self._clock.now_ms())
            self._on_lost(bucket, key)
            self._show_lost()

        return on_lost

    def settle(self) -> None:
        """The bus has told all that it holds: of what only the copy knew it says nothing, so it lost that."""
        untold, self._untold = sorted(self._untold), set()
        for bucket, key in untold:
            self.loser(bucket)(key)
        if untold:
            log.warning("the bus lacks what the copy has; served on from it", extra=fields(count=len(untold)))

    def expire(self) -> None:
        """Drop what was lost an hour ago and was not put again: nobody vouches for it."""
        now_ms = self._clock.now_ms()
        for bucket, key in [each for each, since_ms in self._lost_ms.items() if now_ms - since_ms > self._stale_ms]:
            del self._lost_ms[bucket, key]
            self._apply(bucket, key, None)
            self._show_lost()

    def _apply(self, bucket: str, key: str, value: bytes | None) -> None:
        if value is None:
            self._known[bucket].pop(key, None)
        else:
            self._known[bucket][key] = value.decode()
        self._appliers[bucket](key, value)
        self._changes += 1

    def _show_lost(self) -> None:
        for bucket in self._known:
            metrics.LOST.labels(bucket=bucket).set(sum(each == bucket for each, _ in self._lost_ms))

    def save(self) -> None:
        """Write the file whole, or leave the one before."""
        content = {
            "saved_at_ms": self._clock.now_ms(),
            **{name: dict(known) for name, known in self._known.items()},
            OVER: list(self._over),
            MARK: self._mark,
        }
        draft = self._path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        text = json.dumps(content).encode()
        with os.fdopen(descriptor, "wb") as file:
            file.write(self._signature(text) + b"\n" + text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)

    async def run(self, connected: asyncio.Event, is_told: Callable[[], bool], *, saves: bool = True) -> None:
        """Keep the file up to date until cancelled; when the bus has told all, settle.

        ``saves``: of several who read the file one writes it.
        ``is_told``: somebody is there to contradict us, so an unchanged copy is fresh again.
        """
        saved_changes, saved_ms, is_settled = self._changes, 0, False
        while True:
            if connected.is_set() and not is_settled:
                self.settle()
                is_settled = True
            self.expire()
            now_ms, changes = self._clock.now_ms(), self._changes
            is_old = now_ms - saved_ms > RENEW_MS and is_told() and not self._lost_ms
            if saves and (changes != saved_changes or is_old):
                try:
                    await asyncio.to_thread(self.save)
                    saved_changes, saved_ms = changes, now_ms
                except OSError as wrong:
                    log.warning("copy of routes and keys not written", extra=fields(reason=str(wrong.strerror)))
            await asyncio.sleep(SAVE_S)


def _entry(value: str) -> KeyEntry | None:
    try:
        return KeyEntry.model_validate_json(value)
    except ValueError:  # Unreadable, so no key to whoever checks keys: what can be read is more.
        return None
