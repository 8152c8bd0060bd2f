"""A cluster that several may share, looked at, and written on the version that was read: nobody undoes another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from libs.common.errors import Unavailable
from services.capacity_manager.core.placement import nodes_for
from services.capacity_manager.core.plan import DeleteCluster, DropShare, LetNodeGo, SetShare, SetWarm
from services.capacity_manager.core.pools import Pool, PoolSeen
from services.capacity_manager.core.reasons import Reason
from services.capacity_manager.shell.platform import inside, labels, readings, shares
from services.capacity_manager.shell.platform.client import PlatformClient
from services.capacity_manager.shell.platform.shares import Share

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Paths:
    """The collections that a pool is seen in."""

    instances: str
    claims: str
    node_types: str


def look(client: PlatformClient, pool: Pool, warm: int, paths: Paths) -> PoolSeen:
    """What there is of a pool; how many nodes are free, where more are to come; and its inside, where that matters.

    A cluster that does not answer is seen from outside all the same.
    """
    instance = client.get(paths.instances, pool.cluster)
    mine = labels.of_cluster(tenant_id=pool.tenant_id, project_id=pool.project_id, endpoint_id="")
    cluster = readings.pool_seen(instance) if instance and labels.are_in(mine, instance) else None
    job, free = pool.replacement, None
    may_grow = cluster is not None and (cluster.warm < warm or (job is not None and job.surges is None))
    if may_grow and pool.machines is not None:
        free = readings.node_type_seen(client.get(paths.node_types, pool.machines.node_type)).free
    nodes = readings.nodes_seen(client.list(paths.claims), cluster=pool.cluster)
    seen = PoolSeen(look=pool.look, cluster=cluster, nodes=nodes, free=free)
    if cluster is None or not cluster.is_ready or cluster.is_deleting or not (job or not cluster.sharers):
        return seen
    try:
        return inside.look_at_pool(client, pool, seen)
    except Unavailable:
        return seen


def apply(client: PlatformClient, path: str, action: SetShare | SetWarm | DropShare | DeleteCluster) -> None:
    """Do one thing to a cluster that may be shared; doing it again changes nothing. Raises Unavailable."""
    match action:
        case SetShare():
            set_share(client, path, action)
        case SetWarm():
            set_warm(client, path, action)
        case DropShare():
            drop_share(client, path, action)
        case DeleteCluster():
            delete(client, path, action)


def set_share(client: PlatformClient, path: str, wanted: SetShare) -> None:
    """Write one share, and the pool's size for all of them."""
    found = _standing(client, path, wanted.name)
    held = {name: each for name, each in shares.of(found).items() if name != wanted.endpoint_id}
    share = Share(wanted.replicas, wanted.generation) if wanted.replicas else None
    replicas = wanted.replicas + sum(each.replicas for each in held.values())
    metadata: Json = {**_version(found), "annotations": shares.change(wanted.endpoint_id, share)}
    needed, warm = nodes_for(replicas, wanted.placement), shares.warm_of(found)
    there = readings.quantity_of(found)
    left = warm if there is None else max(0, warm - max(0, needed - (there - warm)))  # Warm nodes are drawn on first.
    metadata["annotations"] |= shares.warmed(left) if left != warm else {}
    text = readings.sized(readings.parameters(found), wanted.placement.node_type, needed + left)
    client.merge(path, wanted.name, {"metadata": metadata, "spec": {"parameters": text}})


def set_warm(client: PlatformClient, path: str, wanted: SetWarm) -> None:
    """Write how many nodes are warm, and the pool's size with them."""
    found = _standing(client, path, wanted.name)
    there, warm = readings.quantity_of(found), shares.warm_of(found)
    if there is None:
        raise Unavailable(f"the size of {wanted.name} can't be read", code=Reason.PLATFORM_GARBLED)
    known = readings.parameters(found)
    text = readings.sized(known, str(known.get(readings.NODE_TYPE) or ""), there - warm + wanted.nodes)
    metadata = {**_version(found), "annotations": shares.warmed(wanted.nodes)}
    client.merge(path, wanted.name, {"metadata": metadata, "spec": {"parameters": text}})


def drop_share(client: PlatformClient, path: str, wanted: DropShare) -> None:
    """Take one share away; the pool's size is mended by whoever stays in it."""
    found = _standing(client, path, wanted.name)
    metadata = {**_version(found), "annotations": shares.change(wanted.endpoint_id, None)}
    client.merge(path, wanted.name, {"metadata": metadata})


def delete(client: PlatformClient, path: str, wanted: DeleteCluster) -> None:
    """Delete a cluster; a shared one only in the version in which nobody has a share."""
    version = ""
    if wanted.is_shared:
        found = client.get(path, wanted.name)
        if found is None:
            return
        version = _insist_on_no_share(found, wanted.name)
    client.delete(path, wanted.name, uid=wanted.uid, version=version)


def insist_on_nobody(client: PlatformClient, path: str, wanted: LetNodeGo) -> None:
    """Raise Unavailable if the node is of a shared cluster that somebody came to since it was seen."""
    found = client.get(path, wanted.cluster) if wanted.is_shared else None
    if found is not None:
        _insist_on_no_share(found, wanted.cluster)


def _insist_on_no_share(found: Json, name: str) -> str:
    """The version in which nobody has a share."""
    if shares.of(found):
        raise Unavailable(f"somebody came to share {name}; it stays", code=Reason.PLATFORM_CONFLICT)
    return str(found["metadata"]["resourceVersion"])


def _standing(client: PlatformClient, path: str, name: str) -> Json:
    found = client.get(path, name)
    if found is None or found["metadata"].get("deletionTimestamp"):
        raise Unavailable(f"{name} goes just now; it is made anew", code=Reason.PLATFORM_CONFLICT)
    return found


def _version(found: Json) -> Json:
    return {"resourceVersion": found["metadata"]["resourceVersion"]}
