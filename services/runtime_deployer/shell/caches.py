"""Caches as a world to observe and label: whether the node or claim is there, and what is said of a node's models."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Final

from libs.common.events.caches import CacheKind
from libs.common.telemetry.logging import fields
from services.runtime_deployer.core.caches import Cache, CacheSeen, Label
from services.runtime_deployer.core.observed import Kind
from services.runtime_deployer.core.state import Cluster
from services.runtime_deployer.core.weights import LABELS
from services.runtime_deployer.shell.connections import Connections
from services.runtime_deployer.shell.kubernetes import PATHS, trouble_in

log = logging.getLogger(__name__)

MERGE: Final = "application/merge-patch+json"
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
        metadata = reply.body.get("metadata") or {}
        labels = sorted(each for each in metadata.get("labels") or () if each.startswith(LABELS))
        made = str(metadata.get("creationTimestamp") or "")
        return CacheSeen(is_there=True, created_ms=_ms(made), labels=tuple(labels))

    def apply(self, action: Label) -> None:
        """Label a node. A key that may not do that costs a preference, so it is said and no more."""
        path = f"{NODES}/{action.place.name}"
        reply = self._connections.ask(
            Cluster(action.place.platform_project, action.place.cluster),
            "PATCH",
            path,
            body={"metadata": {"labels": dict(action.labels)}},
            content_type=MERGE,
            timeout_s=self._timeout_s,
        )
        if reply.status == 403:
            said = str(reply.body.get("message", ""))
            log.info("node not labelled", extra=fields(action=f"patch {path}", reason=said))
        elif not reply.is_ok and reply.status != 404:
            raise trouble_in(reply, f"label {path}")


def _ms(text: str) -> int:
    """A time as Kubernetes writes it; 0 where there is none."""
    return round(datetime.fromisoformat(text).timestamp() * 1000) if text else 0
