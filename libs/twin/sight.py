"""What a reader of an API server is told: what is there, or on order what was there a while ago, or less than that."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Final

from libs.twin.answers import not_found
from libs.twin.kinds import Kind
from libs.twin.objects import Json, is_terminating, name_of, namespace_of
from libs.twin.options import Faults
from libs.twin.store import Change, Store

STALE_MS_MAX: Final = 120_000  # Changes are remembered for so long; lists can't be older.
NO_FAULTS: Final = Faults()


class Sight:
    """Reads of one store. Nothing is remembered, and nothing untrue said, unless a fault is on order."""

    def __init__(
        self,
        store: Store,
        faults: Callable[[], Faults] = lambda: NO_FAULTS,
        now_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        self._store = store
        self._faults = faults
        self._now_ms = now_ms
        self._recent: deque[tuple[int, Change]] = deque()

    def note(self, change: Change) -> None:
        """Remember a change, for lists that are behind."""
        now_ms = self._now_ms()
        if self._faults().stale_list_ms:
            self._recent.append((now_ms, change))
        while self._recent and self._recent[0][0] < now_ms - STALE_MS_MAX:
            self._recent.popleft()

    def get(self, kind: Kind, namespace: str, name: str) -> Json:
        """The object. Raises 404, perhaps while it is still being deleted."""
        found = self._store.get(kind, namespace, name)
        if self._is_denied(found):
            raise not_found(kind.plural, name, kind.group)
        return found

    def all(self, kind: Kind, namespace: str = "") -> list[Json]:
        """Every object of a kind, perhaps as it was a while ago, perhaps without what is being deleted."""
        found = self._store.all(kind, namespace)
        if self._faults().stale_list_ms:
            found = self._as_it_was(kind, namespace, found)
        if not self._faults().early_404_ms:
            return found
        return [each for each in found if not self._is_denied(each)]

    def _as_it_was(self, kind: Kind, namespace: str, found: list[Json]) -> list[Json]:
        then_ms = self._now_ms() - self._faults().stale_list_ms
        things = {(namespace_of(each), name_of(each)): each for each in found}
        for at_ms, change in reversed(self._recent):
            if at_ms <= then_ms:
                break
            key = (namespace_of(change.new), name_of(change.new))
            if change.kind is not kind or (namespace and key[0] != namespace):
                continue
            if change.old is None:
                things.pop(key, None)
            else:
                things[key] = change.old
        return [things[key] for key in sorted(things)]

    def _is_denied(self, thing: Json) -> bool:
        early_ms = self._faults().early_404_ms
        if not early_ms or not is_terminating(thing):
            return False
        asked_ms = round(datetime.fromisoformat(thing["metadata"]["deletionTimestamp"]).timestamp() * 1000)
        return self._now_ms() < asked_ms + early_ms
