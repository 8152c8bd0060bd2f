"""Caches as a world to observe: whether the node or the claim that a cache is on is there."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from libs.common.events.caches import CacheKind
from services.runtime_deployer.core.caches import Cache, CacheSeen
from services.runtime_deployer.core.observed import Kind
from services.runtime_deployer.core.state import Cluster
from services.runtime_deployer.shell.connections import Connections
from services.runtime_deployer.shell.kubernetes import PATHS, trouble_in

NODES: Final = "/api/v1/nodes"


class CacheWorld:
    """The nodes and claims of tenant clusters, by name."""

    def __init__(self, connections: Connections, *, timeout_s: float = 10.0) -> None:
        self._connections = connections
        self._timeout_s = timeout_s

    def observe(self, state: Cache) -> CacheSeen:
        """Whether it is there: not, if its cluster is not. Raises Unavailable if that can't be known now."""
        place = state.place
        assert place is not None, state.key
        path = f"{NODES if place.kind is CacheKind.NODE else PATHS[Kind.VOLUME_CLAIM]}/{place.name}"
        cluster = Cluster(place.platform_project, place.cluster)
        reply = self._connections.ask(cluster, "GET", path, timeout_s=self._timeout_s)
        if reply.status == 404:
            return CacheSeen(is_there=False)
        if not reply.is_ok:
            raise trouble_in(reply, f"get {path}")
        made = str((reply.body.get("metadata") or {}).get("creationTimestamp") or "")
        return CacheSeen(is_there=True, created_ms=_ms(made))

    def apply(self, action: object) -> None:
        """Nothing is ever asked of it: fetches evict."""
        raise AssertionError(f"a cache is not to be changed: {action}")


def _ms(text: str) -> int:
    """A time as Kubernetes writes it; 0 where there is none."""
    return round(datetime.fromisoformat(text).timestamp() * 1000) if text else 0
