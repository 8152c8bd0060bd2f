"""Writes to a cluster that several may share: each on the version that was read, so that nobody undoes another."""

from __future__ import annotations

from typing import Any

from libs.common.errors import Unavailable
from services.capacity_manager.core.placement import nodes_for
from services.capacity_manager.core.plan import DeleteCluster, SetShare
from services.capacity_manager.core.reasons import Reason
from services.capacity_manager.shell.platform import readings, shares
from services.capacity_manager.shell.platform.client import PlatformClient
from services.capacity_manager.shell.platform.shares import Share

Json = dict[str, Any]


def set_share(client: PlatformClient, path: str, wanted: SetShare) -> None:
    """Write one share, and the pool's size for all of them."""
    found = client.get(path, wanted.name)
    if found is None or found["metadata"].get("deletionTimestamp"):
        raise Unavailable(f"{wanted.name} goes just now; it is made anew", code=Reason.PLATFORM_CONFLICT)
    held = {name: each for name, each in shares.of(found).items() if name != wanted.endpoint_id}
    share = Share(wanted.replicas, wanted.generation) if wanted.replicas else None
    replicas = wanted.replicas + sum(each.replicas for each in held.values())
    metadata: Json = {
        "resourceVersion": found["metadata"]["resourceVersion"],
        "annotations": shares.change(wanted.endpoint_id, share),
    }
    nodes = nodes_for(replicas, wanted.placement)
    text = readings.sized(readings.parameters(found), wanted.placement.node_type, nodes)
    client.merge(path, wanted.name, {"metadata": metadata, "spec": {"parameters": text}})


def delete(client: PlatformClient, path: str, wanted: DeleteCluster) -> None:
    """Delete a cluster; a shared one only in the version in which nobody has a share."""
    version = ""
    if wanted.is_shared:
        found = client.get(path, wanted.name)
        if found is None:
            return
        if shares.of(found):
            raise Unavailable(f"somebody came to share {wanted.name}; it stays", code=Reason.PLATFORM_CONFLICT)
        version = str(found["metadata"]["resourceVersion"])
    client.delete(path, wanted.name, uid=wanted.uid, version=version)
