"""Nodes that vanish behind our back: which of them stopped being nodes, since when, and that this is told once.

A node is lost if its claim failed after it had joined or went without our asking, if it is no longer inside its
cluster, or if it has not been Ready there for a while. From the moment of which that is known, nobody pays for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from libs.common.events.capacity import NodeDrifted, NodeLost, NodeUse, NodeUsed
from libs.common.events.event import Event
from libs.common.units import SECOND_MS
from services.capacity_manager.core.node_time import Look, is_confirmed
from services.capacity_manager.core.observed import MachineSeen, NodeSeen
from services.capacity_manager.core.state import Claim, Node, Sighting

SILENT_MS: Final = 45 * SECOND_MS  # A kubelet that restarts, or a link that blinks, is back before.
PLATFORM: Final = "vCluster Platform"
OPERATOR: Final = "operator"
Machines = Mapping[str, MachineSeen]


class Loss(StrEnum):
    """How a node was lost."""

    CLAIM_GONE = "ClaimGone"
    CLAIM_FAILED = "ClaimFailed"
    NODE_GONE = "NodeGone"
    NODE_SILENT = "NodeSilent"


@dataclass(frozen=True, slots=True)
class _Found:
    loss: Loss
    since_ms: int
    message: str


def note_losses(
    nodes: Sequence[Node],
    seen: Iterable[NodeSeen],
    machines: Iterable[MachineSeen] | None,
    look: Look,
) -> tuple[tuple[Node, ...], tuple[Event, ...]]:
    """The nodes with those that are lost, and what to tell of them.

    What is being deleted is not lost. Of a cluster that was not asked, or did not answer, nothing inside is known.
    """
    claims = {each.name: each for each in seen}
    inside = None if machines is None else {each.claim: each for each in machines}
    found: list[Node] = []
    told: list[Event] = []
    for node in nodes:
        after, events = _look_at(node, claims.get(node.name), inside, look)
        found.append(after)
        told += events
    return tuple(found), tuple(told)


def lost(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Those that are lost, and still held."""
    return tuple(each for each in nodes if each.lost_at_ms is not None and each.released_at_ms is None)


def joined_and_well(claim: Claim, seen: Iterable[NodeSeen]) -> int:
    """How many of the nodes have joined and are not lost."""
    without = {each.name for each in lost(claim.nodes)}
    return sum(each.is_joined and each.name not in without for each in seen)


def missed(nodes: Sequence[Node], before: Sequence[Node], *, kept: int, asked: Collection[str]) -> tuple[Node, ...]:
    """The nodes, and of those whose claims were not seen for the first time, whether that was without our asking.

    ``kept`` nodes are wanted, and ``before`` is as it was known before the look: of what goes beyond, nothing is lost;
    nor is what was ``asked`` to go.
    """
    was = {each.name: each for each in before}
    is_unasked = sum(_is_held(each) and each.missing is None for each in before) <= kept
    return tuple(
        replace(each, is_unasked=is_unasked and each.name not in asked)
        if each.missing and _is_there(was.get(each.name))
        else each
        for each in nodes
    )


def gone(nodes: Sequence[Node], before: Sequence[Node], look: Look) -> tuple[Event, ...]:
    """What to tell of nodes whose claims went without our asking, before it is told that they are released."""
    was = {each.name: each for each in before}
    return tuple(
        _told(each.name, _Found(Loss.CLAIM_GONE, each.released_at_ms, "its claim is there no more"), look)
        for each in nodes
        if each.released_at_ms is not None and each.is_unasked and each.is_told and _is_held(was.get(each.name))
    )


def due_ms(nodes: Iterable[Node]) -> tuple[int, ...]:
    """When to look again at those that do not answer."""
    return tuple(
        each.silent.since_ms + SILENT_MS
        for each in nodes
        if each.silent is not None and each.lost_at_ms is None and each.released_at_ms is None
    )


def _is_there(node: Node | None) -> bool:
    return _is_held(node) and node is not None and node.missing is None


def _is_held(node: Node | None) -> bool:
    return node is not None and node.is_told and node.released_at_ms is None and node.lost_at_ms is None


def _look_at(node: Node, claim: NodeSeen | None, inside: Machines | None, look: Look) -> tuple[Node, tuple[Event, ...]]:
    if claim is None or not node.is_told or node.released_at_ms is not None:
        return node, ()
    if claim.is_deleting and not claim.is_failed:
        return node, ()
    told: list[Event] = []
    if claim.drift and not node.is_drifted:
        told.append(NodeDrifted(claim=node.name, message=claim.drift, waiting_on=OPERATOR))
    node = replace(_met(node, claim, inside, look), is_drifted=bool(claim.drift), is_unasked=False)
    why = _why_lost(node, claim, inside, look)
    if why is not None and node.lost_at_ms is None:
        node = replace(node, lost_at_ms=why.since_ms)
        told.append(_told(node.name, why, look))
    elif node.lost_at_ms is not None and why is None and node.silent is None and claim.is_joined:
        node = replace(node, lost_at_ms=None)
        told.append(NodeUsed(claim=node.name, use=NodeUse(node.use or NodeUse.SERVING), at_ms=look.now_ms))
    return node, tuple(told)


def _met(node: Node, claim: NodeSeen, inside: Machines | None, look: Look) -> Node:
    """The node with how it is inside its cluster; as it was where that is not known."""
    if inside is None or not claim.is_joined:
        return node
    machine = inside.get(node.name)
    if machine is not None and machine.is_ready:
        return replace(node, is_met=True, silent=None)
    if not node.is_met:
        return node
    since_ms = machine.since_ms if machine is not None and machine.since_ms is not None else look.now_ms
    since_ms = min(max(since_ms, node.joined_at_ms or 0), look.now_ms)
    return node if node.silent else replace(node, silent=Sighting(since_ms, look.number))


def _why_lost(node: Node, claim: NodeSeen, inside: Machines | None, look: Look) -> _Found | None:
    if not claim.is_joined:
        said_ms = look.now_ms if claim.since_ms is None else claim.since_ms
        since_ms = min(max(said_ms, node.joined_at_ms or 0), look.now_ms)
        return _Found(Loss.CLAIM_FAILED, since_ms, claim.message or "the Platform does not say why")
    if node.silent is None or inside is None:
        return None
    if node.name in inside:
        is_long = look.now_ms >= node.silent.since_ms + SILENT_MS
        message = f"it has not been Ready inside its cluster for {SILENT_MS // SECOND_MS} s"
        return _Found(Loss.NODE_SILENT, node.silent.since_ms, message) if is_long else None
    if is_confirmed(node.silent, look.number, now_ms=look.now_ms, confirm_gone_ms=look.confirm_gone_ms):
        return _Found(Loss.NODE_GONE, node.silent.since_ms, "it is not inside its cluster any more")
    return None


def _told(claim: str, found: _Found, look: Look) -> NodeLost:
    return NodeLost(
        claim=claim,
        at_ms=found.since_ms,
        seen_at_ms=look.now_ms,
        reason=found.loss,
        message=found.message,
        waiting_on=PLATFORM,
    )
