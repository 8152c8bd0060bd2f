"""Kubernetes `Event` objects about what happened to an object."""

from __future__ import annotations

from libs.twin import kinds
from libs.twin.kinds import Kind
from libs.twin.objects import Json, is_terminating, name_of, namespace_of, suffix, timestamp, uid_of
from libs.twin.store import Store


class Recorder:
    """Writes events as one component; the same event again raises the count."""

    def __init__(self, store: Store, component: str) -> None:
        self._store = store
        self._component = component

    def record(self, kind: Kind, about: Json, reason: str, message: str, now_ms: int, *, warning: bool = False) -> None:
        """Say what happened to an object."""
        namespace = namespace_of(about) or "default"
        home = self._store.find(kinds.NAMESPACES, "", namespace)
        if home is None or is_terminating(home):
            return
        name = f"{name_of(about)}.{suffix(uid_of(about), reason, message, length=16)}"
        before = self._store.find(kinds.EVENTS, namespace, name)
        if before is not None:
            self._store.edit(kinds.EVENTS, before, lambda fresh: _again(fresh, now_ms))
            return
        event = {
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "name": name_of(about),
                "namespace": namespace,
                "uid": uid_of(about),
            },
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "firstTimestamp": timestamp(now_ms),
            "lastTimestamp": timestamp(now_ms),
            "count": 1,
        }
        self._store.create(kinds.EVENTS, event, now_ms)


def _again(event: Json, now_ms: int) -> None:
    event["count"] += 1
    event["lastTimestamp"] = timestamp(now_ms)
