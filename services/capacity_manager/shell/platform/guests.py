"""Nodes that a person joined to a tenant cluster: which they are, and how one leaves it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

from libs.common.errors import Rejected, Unavailable
from libs.common.telemetry.logging import fields
from services.capacity_manager.core.node_kinds import joined_by_hand
from services.capacity_manager.core.observed import HandNode
from services.capacity_manager.core.plan import LetNodeGo
from services.capacity_manager.core.reasons import Reason
from services.capacity_manager.shell.platform import readings
from services.capacity_manager.shell.platform.client import PlatformClient

log = logging.getLogger(__name__)

Json = dict[str, Any]

FORBIDDEN: Final = (Reason.PLATFORM_FORBIDDEN, Reason.PLATFORM_REFUSED)


def by_hand(nodes: Iterable[Json], claims: Iterable[str]) -> tuple[HandNode, ...]:
    """Of the nodes inside a cluster, those that no claim stands for."""
    found = joined_by_hand(readings.tenant_nodes(nodes), claims)
    return tuple(HandNode(name=each.name, uid=each.uid) for each in found)


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
