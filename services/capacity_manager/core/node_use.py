"""What the nodes of one cluster are held for, by count: as many serve as are needed, the next stand warm, the rest go.

Which node is called warm says nothing of where Kubernetes put the pods. How long GPUs stood idle is summed here for
metrics and for people; the exact account of it is metering's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from libs.common.events.capacity import NodeUse, NodeUsed
from libs.common.events.event import Event
from services.capacity_manager.core.node_time import live
from services.capacity_manager.core.state import Idle, Node


@dataclass(frozen=True, slots=True)
class Need:
    """Nodes that are needed, and those that there are to be.

    Of `fresh` nodes the use counts from when they joined, of others from now. That a node serves from the start is told
    only of a pool's (`is_pool`): whoever else has nodes is taken to use them. Nodes `apart` are lost or on their way
    out, and neither serve nor stand warm.
    """

    needed: int
    quantity: int
    fresh: frozenset[str]
    is_pool: bool = False
    apart: frozenset[str] = frozenset()


def used(nodes: Iterable[Node], need: Need, now_ms: int) -> tuple[tuple[Node, ...], tuple[Event, ...]]:
    """The nodes with their use, and what is news of it. What serves goes on serving, else who joined first does."""
    every = tuple(nodes)
    joined = [each for each in live(every) if each.is_told and each.name not in need.apart]
    order = sorted(joined, key=lambda each: (each.use != NodeUse.SERVING, each.joined_at_ms or 0, each.name))
    uses: dict[str, NodeUse] = {}
    told: list[Event] = []
    for place, node in enumerate(order):
        use = _use(place, need)
        if node.use == use or (use is NodeUse.SERVING and not node.use and not need.is_pool):
            continue
        uses[node.name] = use
        at_ms = (node.joined_at_ms or now_ms) if node.name in need.fresh else now_ms
        told.append(NodeUsed(claim=node.name, use=use, at_ms=at_ms))
    return tuple(replace(each, use=uses.get(each.name, each.use)) for each in every), tuple(told)


def warm_among(nodes: Iterable[Node]) -> int:
    """How many nodes stand warm."""
    return sum(each.use == NodeUse.WARM for each in live(nodes))


def idled(idle: Idle, gpus: int, now_ms: int) -> Idle:
    """The sum up to now; from now on so many GPUs stand warm."""
    return Idle(idle_gpu_ms(idle, now_ms), gpus, now_ms)


def idle_gpu_ms(idle: Idle, now_ms: int) -> int:
    """GPU-milliseconds that stood warm by now."""
    return idle.gpu_ms + idle.gpus * max(0, now_ms - idle.since_ms)


def _use(place: int, need: Need) -> NodeUse:
    if place < need.needed:
        return NodeUse.SERVING
    return NodeUse.WARM if place < need.quantity else NodeUse.DRAINING
