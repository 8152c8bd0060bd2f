"""Node life: another machine in place of one that works, without cutting a stream. One node of a cluster at a time.

Where the type has a free machine, the pool grows by one first, and the old node drains when the new one stands ready.
Where it has none, the old one drains first and its pool makes another of the machine that is free then. Who owns what:
we own the node, cordon it and say that it drains; runtime-deployer owns the pods and moves them, so that the router
lets their streams end; and only a node on which nothing of ours runs is given back, or one whose deadline has passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Final, TypeVar

from libs.common.errors import Rejected
from libs.common.events.capacity import NodeDraining, NodeReplaced, NodeReplacementRequested, NodeUse, NodeUsed
from libs.common.events.event import Event, Internal, Owner
from libs.common.units import MINUTE_MS
from services.capacity_manager.core.node_actions import CordonNode, NodeAction, RetireNode
from services.capacity_manager.core.node_time import live
from services.capacity_manager.core.pools import Pool
from services.capacity_manager.core.sites import Site
from services.capacity_manager.core.state import Claim, Node, Replacement, Step
from services.capacity_manager.core.successors import others, why_unfit
from services.capacity_manager.core.tenancy import is_shared

SURGE_MS: Final = 45 * MINUTE_MS  # Metal that boots slowly is there by then; without it, it goes on in place.
DRAIN_MS: Final = 60 * MINUTE_MS  # The longest load, and the longest streams, of two replicas in turn.
REPLACEMENTS_MAX: Final = 64  # Of one cluster at once; more is a list that nobody reads.

Holder = TypeVar("Holder", bound=Claim | Pool)
"""Who holds nodes: an endpoint's claim on its own cluster, or the pool of one that endpoints share."""


class ReplaceNode(Internal):
    """An operator asks for another machine in place of a node."""

    kind: ClassVar[str] = "internal.replace_node"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER

    node: str
    reason: str
    actor: str


def asked(holder: Holder, order: ReplaceNode, now_ms: int) -> tuple[Holder, tuple[Event, ...]]:
    """The holder that will have it replaced. Raises Rejected if there is nothing to replace, or nobody who could."""
    if isinstance(holder, Claim) and (is_shared(holder.placement) or holder.is_orphan):
        raise Rejected(f"{order.node} is a node of a pool, or nobody's; see `millrace nodes list` for who holds it")
    if holder.is_released or (isinstance(holder, Claim) and holder.is_unwanted):
        raise Rejected(f"{holder.id} is on its way out, and its nodes with it")
    if not any(each.name == order.node and each.is_told for each in live(holder.nodes)):
        raise Rejected(f"{holder.id} has no node {order.node} that has joined; see `millrace nodes list`")
    if any(each.node == order.node for each in holder.replacements):
        return holder, ()
    if len(holder.replacements) >= REPLACEMENTS_MAX:
        raise Rejected(f"{REPLACEMENTS_MAX} nodes of {holder.id} are to be replaced already; wait until some are")
    ahead = len(holder.replacements)
    job = Replacement(order.node, order.reason, order.actor, since_ms=now_ms)
    told = NodeReplacementRequested(claim=order.node, reason=order.reason, actor=order.actor, ahead=ahead)
    return replace(holder, replacements=(*holder.replacements, job), look=holder.look + 1), (told,)


def advance(holder: Holder, site: Site, now_ms: int) -> tuple[Holder, tuple[Event, ...]]:
    """The holder with its replacement as far as it has come, and what to tell of that."""
    job = holder.replacement
    if job is None:
        return holder, ()
    if site.is_unwanted:
        ended = tuple(_ended(each, "unwanted", now_ms) for each in holder.replacements)
        return replace(holder, replacements=()), ended
    node = next((each for each in live(holder.nodes) if each.name == job.node), None)
    match job.step:
        case Step.PREPARING:
            return _prepare(holder, job, node, site, now_ms)
        case Step.DRAINING:
            return _drain(holder, job, node, site, now_ms)
        case Step.RETIRING:
            return _retire(holder, job, node, site, now_ms)


def plan_nodes(holder: Holder, site: Site) -> Iterator[NodeAction]:
    """What to do to the node that is being replaced."""
    job = holder.replacement
    machine = site.machine_of(job.node) if job is not None else None
    if job is None or machine is None or _is_going(job, site):
        return
    if job.step is Step.DRAINING and not machine.is_cordoned:
        yield CordonNode(site.project, site.cluster, machine.name)
    if job.step is Step.RETIRING and (not job.surges or site.is_back):
        yield RetireNode(site.project, site.cluster, machine.name, machine.uid)


def due_ms(holder: Holder, now_ms: int) -> tuple[int, ...]:
    """When the step that is under way has taken too long."""
    job = holder.replacement
    return (job.due_ms,) if job is not None and job.due_ms > now_ms else ()


def replaced(holder: Holder) -> frozenset[str]:
    """Nodes that go because we want them to."""
    return frozenset(each.node for each in holder.replacements if each.step is Step.RETIRING)


def apart(holder: Holder) -> frozenset[str]:
    """Nodes that neither serve nor stand warm: they are lost, or drain because another one takes their place."""
    leaving = {each.node for each in holder.replacements if each.step is not Step.PREPARING}
    return frozenset(leaving | {each.name for each in holder.nodes if each.lost_at_ms is not None})


def _prepare(
    holder: Holder, job: Replacement, node: Node | None, site: Site, now_ms: int
) -> tuple[Holder, tuple[Event, ...]]:
    if node is None or node.lost_at_ms is not None:
        return _finished(holder, job, "lost", now_ms)
    machine, ready = site.machine_of(job.node), len(others(job, holder.nodes, site))
    if job.surges is None and site.has_room is not None:
        job = replace(job, surges=site.has_room, due_ms=now_ms + SURGE_MS)
    elif job.surges and now_ms >= job.due_ms:
        job = replace(job, surges=False)
    why = why_unfit(job, holder.nodes, site) if machine is not None else None
    if why is not None:
        return _finished(holder, job, "refused", now_ms, message=str(why))
    is_due = job.surges is False or (bool(job.surges) and ready >= site.needed)
    if machine is None or not is_due:
        return _with(holder, job), ()
    job = replace(job, step=Step.DRAINING, due_ms=now_ms + DRAIN_MS)
    used = NodeUsed(claim=job.node, use=NodeUse.DRAINING, at_ms=now_ms)
    nodes = tuple(replace(each, use=NodeUse.DRAINING) if each.name == job.node else each for each in holder.nodes)
    said = _having_said(replace(holder, nodes=nodes), job, machine.name, site)
    return said[0], (*said[1], used)


def _having_said(holder: Holder, job: Replacement, machine: str, site: Site) -> tuple[Holder, tuple[Event, ...]]:
    """The holder, and what to tell of the node that drains: of a shared cluster, to those in it that don't know yet."""
    newcomers: tuple[str, ...] | None = None
    if site.sharers is not None:
        newcomers = tuple(each for each in site.sharers if each not in job.moving)
    if newcomers == () and job.moving:
        return _with(holder, job), ()
    told = NodeDraining(
        claim=job.node,
        node=machine,
        reason=job.reason,
        surges=bool(job.surges),
        deadline_ms=job.due_ms,
        endpoints=newcomers,
    )
    return _with(holder, replace(job, moving=(*job.moving, *(newcomers or ())))), (told,)


def _drain(
    holder: Holder, job: Replacement, node: Node | None, site: Site, now_ms: int
) -> tuple[Holder, tuple[Event, ...]]:
    machine = site.machine_of(job.node)
    is_empty = machine is not None and machine.is_cordoned and site.asked == job.node and site.pods == 0
    is_late = now_ms >= job.due_ms
    if is_empty or is_late or node is None or node.lost_at_ms is not None:
        return _with(holder, replace(job, step=Step.RETIRING, due_ms=0, is_late=is_late and not is_empty)), ()
    if machine is None or not site.sharers:
        return holder, ()
    return _having_said(holder, job, machine.name, site)


def _retire(
    holder: Holder, job: Replacement, node: Node | None, site: Site, now_ms: int
) -> tuple[Holder, tuple[Event, ...]]:
    if node is not None or len(others(job, holder.nodes, site)) < site.needed:
        return holder, ()
    return _finished(holder, job, "drained_late" if job.is_late else "replaced", now_ms)


def _with(holder: Holder, job: Replacement) -> Holder:
    if job == holder.replacement:
        return holder
    return replace(holder, replacements=(job, *holder.replacements[1:]))


def _finished(
    holder: Holder, job: Replacement, outcome: str, now_ms: int, *, message: str = ""
) -> tuple[Holder, tuple[Event, ...]]:
    rest = replace(holder, replacements=holder.replacements[1:], look=holder.look + 1)
    return rest, (_ended(job, outcome, now_ms, message),)


def _ended(job: Replacement, outcome: str, now_ms: int, message: str = "") -> NodeReplaced:
    return NodeReplaced(
        claim=job.node,
        reason=job.reason,
        actor=job.actor,
        outcome=outcome,
        requested_at_ms=job.since_ms,
        at_ms=now_ms,
        message=message,
    )


def _is_going(job: Replacement, site: Site) -> bool:
    return any(each.name == job.node and each.is_deleting for each in site.nodes)
