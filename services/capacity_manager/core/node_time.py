"""Since when each node is held, and until when: it joins once and is released once, and gone needs two looks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from libs.common.events.capacity import NodeJoined, NodeReleased
from libs.common.events.event import Event
from services.capacity_manager.core.observed import NodeSeen
from services.capacity_manager.core.state import Machines, Node, Sighting

RELEASED_NODES_MAX: Final = 256  # Remembered so that a list that lags can't have them told twice.


@dataclass(frozen=True, slots=True)
class Look:
    """Which look it was, when, how long after a first one it is a second, and when holding began at the earliest."""

    number: int
    now_ms: int
    confirm_gone_ms: int
    earliest_ms: int = 0


def noted(
    nodes: Sequence[Node], seen: Iterable[NodeSeen], machines: Machines | None, look: Look
) -> tuple[tuple[Node, ...], tuple[Event, ...]]:
    """The nodes as seen, and what to tell of them; nothing of those that are not known to be which machines."""
    present = {each.name: each for each in seen}
    known = {node.name: node for node in nodes}
    found = [_noted(node, present.get(node.name), look) for node in nodes]
    found += [_noted(Node(name), each, look) for name, each in present.items() if name not in known]
    told: list[Event] = []
    for index, node in enumerate(found):
        if node.joined_at_ms is not None and not node.is_told and machines is not None:
            found[index] = replace(node, is_told=True)
            told.append(
                NodeJoined(
                    claim=node.name,
                    node_type=machines.node_type,
                    gpu_count=machines.gpus_per_node,
                    at_ms=node.joined_at_ms,
                )
            )
    for node in found:
        was = known.get(node.name)
        if node.is_told and node.released_at_ms is not None and (was is None or was.released_at_ms is None):
            told.append(NodeReleased(claim=node.name, at_ms=node.released_at_ms))
    return _kept(found), tuple(told)


def is_confirmed(first: Sighting, look: int, *, now_ms: int, confirm_gone_ms: int) -> bool:
    """Whether this is a second look, begun long enough after the first."""
    return look > first.look and now_ms >= first.since_ms + confirm_gone_ms


def live(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """The nodes that are not confirmed gone."""
    return tuple(node for node in nodes if node.released_at_ms is None)


def _noted(node: Node, present: NodeSeen | None, look: Look) -> Node:
    if node.released_at_ms is not None:
        # A list may lag behind; but one that joined after this one was gone is another under the same name.
        if present is None or not present.is_joined or (present.joined_at_ms or 0) <= node.released_at_ms:
            return node
        node = Node(node.name)
    if present is not None:
        joined = node.joined_at_ms
        if joined is None and present.is_joined:
            joined = _joined_at(present, look)
        return replace(node, joined_at_ms=joined, missing=None)
    first = node.missing or Sighting(look.now_ms, look.number)
    if not is_confirmed(first, look.number, now_ms=look.now_ms, confirm_gone_ms=look.confirm_gone_ms):
        return replace(node, missing=first)
    return replace(node, missing=None, released_at_ms=max(first.since_ms, node.joined_at_ms or 0))


def _joined_at(present: NodeSeen, look: Look) -> int:
    """When the Platform says that it joined: in whole seconds, so not before we reserved, and never in the future."""
    said = look.now_ms if present.joined_at_ms is None else present.joined_at_ms
    return min(max(said, look.earliest_ms), look.now_ms)


def _kept(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Sorted by name; what never joined is forgotten once it is gone, and of the released only the newest are kept."""
    released = [node for node in nodes if node.released_at_ms is not None and node.is_told]
    newest = sorted(released, key=lambda node: (-(node.released_at_ms or 0), node.name))[:RELEASED_NODES_MAX]
    return tuple(sorted((*live(nodes), *newest), key=lambda node: node.name))
