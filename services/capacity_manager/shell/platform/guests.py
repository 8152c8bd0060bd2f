"""Inside a tenant cluster, through the Platform's proxy: the nodes that offer GPUs, and those that a person joined."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from libs.common.errors import Rejected, Unavailable
from libs.common.telemetry.logging import fields
from services.capacity_manager.core.node_kinds import joined_by_hand
from services.capacity_manager.core.observed import GpuNode, HandNode
from services.capacity_manager.core.plan import LetNodeGo
from services.capacity_manager.core.reasons import Reason
from services.capacity_manager.shell.platform import readings
from services.capacity_manager.shell.platform.client import PlatformClient

log = logging.getLogger(__name__)

FORBIDDEN: Final = (Reason.PLATFORM_FORBIDDEN, Reason.PLATFORM_REFUSED)


def gpu_nodes(client: PlatformClient, project: str, cluster: str) -> tuple[GpuNode, ...] | None:
    """The GPUs inside; None if the cluster does not answer, which must not hide the rest."""
    try:
        return readings.gpu_nodes(client.list(nodes_of(project, cluster)))
    except Unavailable:
        return None


def by_hand(client: PlatformClient, project: str, cluster: str, claims: Iterable[str]) -> tuple[HandNode, ...]:
    """Nodes that no claim stands for. None of a cluster that does not answer: nothing else must be kept for that."""
    try:
        nodes = readings.tenant_nodes(client.list(nodes_of(project, cluster)))
    except Unavailable:
        return ()
    return tuple(HandNode(name=each.name, uid=each.uid) for each in joined_by_hand(nodes, claims))


def let_go(client: PlatformClient, wanted: LetNodeGo) -> None:
    """Take the node out of its cluster; the machine is its owner's.

    Where our key may not, it stays: nobody is to pay for a cluster because of that. Raises Unavailable otherwise.
    """
    try:
        client.delete(nodes_of(wanted.project, wanted.cluster), wanted.name, uid=wanted.uid)
    except (Unavailable, Rejected) as refused:
        if refused.code not in FORBIDDEN:
            raise
        log.warning(
            "node left in its cluster", extra=fields(claim=wanted.cluster, node=wanted.name, reason=str(refused))
        )


def nodes_of(project: str, cluster: str) -> str:
    """The nodes of a tenant cluster."""
    return f"/kubernetes/project/{project}/virtualcluster/{cluster}/api/v1/nodes"
