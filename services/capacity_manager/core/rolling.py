"""A declared roll: a cluster gets another version of its template, and then its nodes, one after another, with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from libs.common.errors import Rejected
from libs.common.events.event import Event, Internal, Owner
from services.capacity_manager.core.node_actions import RollTemplate
from services.capacity_manager.core.node_time import live
from services.capacity_manager.core.observed import Observed
from services.capacity_manager.core.replacing import REPLACEMENTS_MAX, ReplaceNode, asked
from services.capacity_manager.core.state import Claim, Roll
from services.capacity_manager.core.tenancy import home_of, is_shared


class RollCluster(Internal):
    """An operator asks for a cluster of another version of its template, as `<name>@<version>`."""

    kind: ClassVar[str] = "internal.roll_cluster"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER

    template: str
    reason: str
    actor: str


def rolled(claim: Claim, order: RollCluster) -> tuple[Claim, tuple[Event, ...]]:
    """The claim that will have it. Raises Rejected where that makes no sense: of the same name, another version."""
    name, at, version = order.template.partition("@")
    if claim.placement is None or is_shared(claim.placement) or claim.is_orphan or claim.is_unwanted:
        raise Rejected(f"{claim.id} has no cluster of its own that could be rolled")
    present = claim.roll.template if claim.roll else claim.placement.cluster_template
    if not (name and at and version):
        raise Rejected(f"{order.template} names no version: say it as {present.partition('@')[0]}@1.1.0")
    if name != present.partition("@")[0]:
        raise Rejected(f"{claim.id} is of {present}, not of {name}: a cluster can't become another template's")
    if len(live(claim.nodes)) > REPLACEMENTS_MAX:
        raise Rejected(f"{claim.id} has more than {REPLACEMENTS_MAX} nodes: replace them by name")
    if order.template == present:
        return claim, ()
    return replace(claim, roll=Roll(order.template, order.reason, order.actor), look=claim.look + 1), ()


def plan_roll(claim: Claim, seen: Observed) -> Iterator[RollTemplate]:
    """Write the version, while the cluster is of another one."""
    roll, cluster = claim.roll, seen.our_cluster
    if roll is None or cluster is None or not cluster.is_ready or cluster.template == roll.template:
        return
    home, (name, _, version) = home_of(claim), roll.template.partition("@")
    yield RollTemplate(home.project, home.cluster, name, version)


def note_roll(claim: Claim, seen: Observed, now_ms: int) -> tuple[Claim, tuple[Event, ...]]:
    """Once the cluster is of the version, each node that stood before is to be replaced.

    Not at the first look that finds it so: the Platform may not have read the template yet, and may refuse it.
    """
    roll, cluster = claim.roll, seen.our_cluster
    if roll is None or roll.is_queued or claim.is_unwanted or cluster is None or cluster.template != roll.template:
        return claim, ()
    if not roll.is_written:
        return replace(claim, roll=replace(roll, is_written=True), look=claim.look + 1), ()
    if cluster.refusal or not cluster.is_ready:
        return claim, ()
    told: tuple[Event, ...] = ()
    for node in live(claim.nodes):
        if node.is_told and len(claim.replacements) < REPLACEMENTS_MAX:
            order = ReplaceNode(node=node.name, reason=roll.reason, actor=roll.actor)
            claim, more = asked(claim, order, now_ms)
            told = (*told, *more)
    return replace(claim, roll=replace(roll, is_queued=True)), told
