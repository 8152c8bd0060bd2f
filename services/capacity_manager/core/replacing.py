"""Node life: another machine in place of one that works, without cutting a stream. One node of a cluster at a time.

Where the type has a free machine, the pool grows by one first, and the old node drains when the new one stands ready.
Where it has none, the old one drains first and its pool makes another of the machine that is free then. Who owns what:
we own the node, cordon it and say that it drains; runtime-deployer owns the pods and moves them, so that the router
lets their streams end; and only a node on which nothing of ours runs is given back, or one whose deadline has passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Final

from libs.common.errors import Rejected
from libs.common.events.capacity import NodeDraining, NodeReplaced, NodeReplacementRequested, NodeUse, NodeUsed
from libs.common.events.event import Event, Internal, Owner
from libs.common.units import MINUTE_MS
from services.capacity_manager.core.node_actions import CordonNode, NodeAction, RetireNode
from services.capacity_manager.core.node_time import live
from services.capacity_manager.core.observed import MachineSeen, NodeSeen, Observed
from services.capacity_manager.core.placement import wanted_by
from services.capacity_manager.core.state import Claim, Node, Replacement, Step
from services.capacity_manager.core.tenancy import home_of, is_shared

SURGE_MS: Final = 45 * MINUTE_MS  # Metal that boots slowly is there by then; without it, it goes on in place.
DRAIN_MS: Final = 60 * MINUTE_MS  # The longest load, and the longest streams, of two replicas in turn.
REPLACEMENTS_MAX: Final = 64  # Of one cluster at once; more is a list that nobody reads.


class ReplaceNode(Internal):
    """An operator asks for another machine in place of a node."""

    kind: ClassVar[str] = "internal.replace_node"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER

    node: str
    reason: str
    actor: str


def asked(claim: Claim, order: ReplaceNode, now_ms: int) -> tuple[Claim, tuple[Event, ...]]:
    """The claim that will have it replaced. Raises Rejected if there is nothing to replace, or nobody who could."""
    if is_shared(claim.placement) or claim.is_orphan:
        raise Rejected(f"{order.node} is a node of a pool; only nodes of an endpoint's own cluster can be replaced")
    if claim.is_unwanted:
        raise Rejected(f"{claim.id} is on its way out, and its nodes with it")
    if not any(each.name == order.node and each.is_told for each in live(claim.nodes)):
        raise Rejected(f"{claim.id} has no node {order.node} that has joined; see `millrace nodes list`")
    if any(each.node == order.node for each in claim.replacements):
        return claim, ()
    if len(claim.replacements) >= REPLACEMENTS_MAX:
        raise Rejected(f"{REPLACEMENTS_MAX} nodes of {claim.id} are to be replaced already; wait until some are")
    ahead = len(claim.replacements)
    job = Replacement(order.node, order.reason, order.actor, since_ms=now_ms)
    told = NodeReplacementRequested(claim=order.node, reason=order.reason, actor=order.actor, ahead=ahead)
    return replace(claim, replacements=(*claim.replacements, job), look=claim.look + 1), (told,)


def advance(claim: Claim, seen: Observed, now_ms: int) -> tuple[Claim, tuple[Event, ...]]:
    """The claim with its replacement as far as it has come, and what to tell of that."""
    job = claim.replacement
    if job is None:
        return claim, ()
    if claim.is_unwanted:
        ended = tuple(_ended(each, "unwanted", now_ms) for each in claim.replacements)
        return replace(claim, replacements=()), ended
    node = next((each for each in live(claim.nodes) if each.name == job.node), None)
    match job.step:
        case Step.PREPARING:
            return _prepare(claim, job, node, seen, now_ms)
        case Step.DRAINING:
            return _drain(claim, job, node, seen, now_ms)
        case Step.RETIRING:
            return _retire(claim, job, node, seen, now_ms)


def plan_nodes(claim: Claim, seen: Observed) -> Iterator[NodeAction]:
    """What to do to the node that is being replaced."""
    job, home = claim.replacement, home_of(claim)
    machine = _machine(job, seen)
    if job is None or machine is None or _is_going(job, seen):
        return
    if job.step is Step.DRAINING and not machine.is_cordoned:
        yield CordonNode(home.project, home.cluster, machine.name)
    if job.step is Step.RETIRING and (not job.surges or _has_shrunk(claim, seen)):
        yield RetireNode(home.project, home.cluster, machine.name, machine.uid)


def due_ms(claim: Claim, now_ms: int) -> tuple[int, ...]:
    """When the step that is under way has taken too long."""
    job = claim.replacement
    return (job.due_ms,) if job is not None and job.due_ms > now_ms else ()


def replaced(claim: Claim) -> frozenset[str]:
    """Nodes that go because we want them to."""
    return frozenset(each.node for each in claim.replacements if each.step is Step.RETIRING)


def _prepare(
    claim: Claim, job: Replacement, node: Node | None, seen: Observed, now_ms: int
) -> tuple[Claim, tuple[Event, ...]]:
    machine = _machine(job, seen)
    if node is None or node.lost_at_ms is not None:
        return _finished(claim, job, "lost", now_ms)
    if job.surges is None and seen.node_type is not None:
        has_room = seen.node_type.free is None or seen.node_type.free > 0
        job = replace(job, surges=has_room, due_ms=now_ms + SURGE_MS)
    elif job.surges and now_ms >= job.due_ms:
        job = replace(job, surges=False)
    is_due = job.surges is False or (bool(job.surges) and _others(job, claim, seen) >= wanted_by(claim))
    if machine is None or not is_due:
        return _with(claim, job), ()
    deadline_ms = now_ms + DRAIN_MS
    told = NodeDraining(
        claim=job.node, node=machine.name, reason=job.reason, surges=bool(job.surges), deadline_ms=deadline_ms
    )
    used = NodeUsed(claim=job.node, use=NodeUse.DRAINING, at_ms=now_ms)
    nodes = tuple(replace(each, use=NodeUse.DRAINING) if each.name == job.node else each for each in claim.nodes)
    claim = replace(claim, nodes=nodes)
    return _with(claim, replace(job, step=Step.DRAINING, due_ms=deadline_ms)), (told, used)


def _drain(
    claim: Claim, job: Replacement, node: Node | None, seen: Observed, now_ms: int
) -> tuple[Claim, tuple[Event, ...]]:
    machine = _machine(job, seen)
    is_empty = machine is not None and machine.is_cordoned and seen.question.node == job.node and seen.pods == 0
    is_late = now_ms >= job.due_ms
    if not (is_empty or is_late or node is None or node.lost_at_ms is not None):
        return claim, ()
    return _with(claim, replace(job, step=Step.RETIRING, due_ms=0, is_late=is_late and not is_empty)), ()


def _retire(
    claim: Claim, job: Replacement, node: Node | None, seen: Observed, now_ms: int
) -> tuple[Claim, tuple[Event, ...]]:
    if node is not None or _others(job, claim, seen) < wanted_by(claim):
        return claim, ()
    return _finished(claim, job, "drained_late" if job.is_late else "replaced", now_ms)


def _with(claim: Claim, job: Replacement) -> Claim:
    if job == claim.replacement:
        return claim
    return replace(claim, replacements=(job, *claim.replacements[1:]))


def _finished(claim: Claim, job: Replacement, outcome: str, now_ms: int) -> tuple[Claim, tuple[Event, ...]]:
    rest = replace(claim, replacements=claim.replacements[1:], look=claim.look + 1)
    return rest, (_ended(job, outcome, now_ms),)


def _ended(job: Replacement, outcome: str, now_ms: int) -> NodeReplaced:
    return NodeReplaced(
        claim=job.node,
        reason=job.reason,
        actor=job.actor,
        outcome=outcome,
        requested_at_ms=job.since_ms,
        at_ms=now_ms,
    )


def _machine(job: Replacement | None, seen: Observed) -> MachineSeen | None:
    return next((each for each in seen.machines or () if job is not None and each.claim == job.node), None)


def _is_going(job: Replacement, seen: Observed) -> bool:
    return any(each.name == job.node and each.is_deleting for each in seen.nodes)


def _standing(seen: Observed) -> tuple[NodeSeen, ...]:
    return tuple(each for each in seen.nodes if not each.is_deleting and not each.is_failed)


def _others(job: Replacement, claim: Claim, seen: Observed) -> int:
    """Nodes beside the one that is replaced that are to stay and offer their GPUs."""
    offers = {each.name for each in seen.gpu_nodes or ()}
    well = (each for each in seen.machines or () if each.is_ready and not each.is_cordoned)
    ready = {each.claim for each in well if each.name in offers}
    lost = {each.name for each in claim.nodes if each.lost_at_ms is not None}
    return sum(each.is_joined and each.name in ready - lost and each.name != job.node for each in _standing(seen))


def _has_shrunk(claim: Claim, seen: Observed) -> bool:
    """Whether the pool is back to its size and took another node than the one that was meant."""
    cluster = seen.our_cluster
    if cluster is None or cluster.quantity is None:
        return False
    return cluster.quantity - cluster.warm == wanted_by(claim) and len(_standing(seen)) <= cluster.quantity
