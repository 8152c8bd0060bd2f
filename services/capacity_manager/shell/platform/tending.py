"""Nodes of a tenant cluster, tended: cordoned, retired as Karpenter documents it, and rolled with their template.

A claim of a pool is the pool's: we never delete one. Who deletes the Node instead has Karpenter's finalizer drain it,
by its disruption budgets, and give its claim back; the pool, whose size stays as it is, makes another.
"""

from __future__ import annotations

from typing import assert_never

from libs.common.errors import Unavailable
from services.capacity_manager.core.node_actions import CordonNode, NodeAction, RetireNode, RollTemplate
from services.capacity_manager.core.reasons import Reason
from services.capacity_manager.shell.platform.client import PlatformClient
from services.capacity_manager.shell.platform.guests import nodes_of
from services.capacity_manager.shell.platform.publishing import Publisher


def apply(client: PlatformClient, instances: str, publisher: Publisher, action: NodeAction) -> None:
    """Do one thing; doing it again changes nothing. Raises Unavailable."""
    nodes = nodes_of(action.project, action.cluster)
    match action:
        case CordonNode():
            client.merge(nodes, action.name, {"spec": {"unschedulable": True}})
        case RetireNode():
            client.delete(nodes, action.name, uid=action.uid)
        case RollTemplate():
            publisher.publish(action.template, action.version)
            _roll(client, instances, action)
        case _:
            assert_never(action)


def _roll(client: PlatformClient, path: str, wanted: RollTemplate) -> None:
    """Have a cluster be of another version of its template, in the version of the cluster that was read."""
    found = client.get(path, wanted.cluster)
    if found is None:
        raise Unavailable(f"{wanted.cluster} is there no more", code=Reason.PLATFORM_CONFLICT)
    metadata = {"resourceVersion": found["metadata"]["resourceVersion"]}
    reference = {"name": wanted.template, "version": wanted.version}
    client.merge(path, wanted.cluster, {"metadata": metadata, "spec": {"templateRef": reference}})
