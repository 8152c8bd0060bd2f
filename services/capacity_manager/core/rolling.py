"""A declared roll: a cluster gets another version of its template, and then its nodes, one after another, with it.

An endpoint's own cluster and one that endpoints share are rolled alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from libs.common.errors import Rejected
from libs.common.events.event import Event, Internal, Owner
from services.capacity_manager.core.node_actions import RollTemplate
from services.capacity_manager.core.node_time import live
from services.capacity_manager.core.observed import ClusterSeen
from services.capacity_manager.core.pools import Pool, PoolCluster
from services.capacity_manager.core.replacing import REPLACEMENTS_MAX, Holder, ReplaceNode, asked
from services.capacity_manager.core.state import Claim, Roll
from services.capacity_manager.core.tenancy import home_of, is_shared


class RollCluster(Internal):
    """An operator asks for a cluster of another version of its template, as `<name>@<version>`."""

    kind: ClassVar[str] = "internal.roll_cluster"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER

    template: str
    reason: str
    actor: str


def rolled(holder: Holder, order: RollCluster) -> tuple[Holder, tuple[Event, ...]]:
    """The holder that will have it. Raises Rejected where that makes no sense: of the same name, another version."""
    name, at, version = order.template.partition("@")
    present = holder.roll.template if holder.roll else _made_by(holder)
    if not present:
        raise Rejected(f"{holder.id} has no cluster of its own that could be rolled")
    if not (name and at and version):
        raise Rejected(f"{order.template} names no version: say it as {present.partition('@')[0]}@1.1.0")
    if name != present.partition("@")[0]:
        raise Rejected(f"{holder.id} is of {present}, not of {name}: a cluster can't become another template's")
    if len(live(holder.nodes)) > REPLACEMENTS_MAX:
        raise Rejected(f"{holder.id} has more than {REPLACEMENTS_MAX} nodes: replace them by name")
    if order.template == present:
        return holder, ()
    return replace(holder, roll=Roll(order.template, order.reason, order.actor), look=holder.look + 1), ()


def plan_roll(holder: Holder, cluster: ClusterSeen | PoolCluster | None) -> Iterator[RollTemplate]:
    """Write the version, while the cluster is of another one."""
    roll = holder.roll
    if roll is None or cluster is None or not cluster.is_ready or cluster.template == roll.template:
        return
    (project, own), (name, _, version) = _home(holder), roll.template.partition("@")
    yield RollTemplate(project, own, name, version)


def note_roll(
    holder: Holder, cluster: ClusterSeen | PoolCluster | None, now_ms: int
) -> tuple[Holder, tuple[Event, ...]]:
    """Once the cluster is of the version, each node that stood before is to be replaced.

    Not at the first look that finds it so: the Platform may not have read the template yet, and may refuse it.
    """
    roll = holder.roll
    if roll is None or roll.is_queued or _is_ending(holder) or cluster is None or cluster.template != roll.template:
        return holder, ()
    if not roll.is_written:
        return replace(holder, roll=replace(roll, is_written=True), look=holder.look + 1), ()
    if cluster.refusal or not cluster.is_ready:
        return holder, ()
    told: tuple[Event, ...] = ()
    for node in live(holder.nodes):
        if node.is_told and len(holder.replacements) < REPLACEMENTS_MAX:
            order = ReplaceNode(node=node.name, reason=roll.reason, actor=roll.actor)
            ordered = asked(holder, order, now_ms)
            holder, told = ordered[0], (*told, *ordered[1])
    return replace(holder, roll=replace(roll, is_queued=True)), told


def _made_by(holder: Claim | Pool) -> str:
    """The template of its cluster; empty where it has none that is its own."""
    if isinstance(holder, Pool):
        return "" if holder.is_released else holder.template
    if holder.placement is None or is_shared(holder.placement) or holder.is_orphan or holder.is_unwanted:
        return ""
    return holder.placement.cluster_template


def _is_ending(holder: Claim | Pool) -> bool:
    return holder.is_released if isinstance(holder, Pool) else holder.is_unwanted


def _home(holder: Claim | Pool) -> tuple[str, str]:
    if isinstance(holder, Pool):
        return holder.project, holder.cluster
    home = home_of(holder)
    return home.project, home.cluster
