"""What is done to a single node, inside its tenant cluster: it takes no more pods, or it goes and another one comes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CordonNode:
    """Have no new pod come to the node."""

    project: str
    cluster: str
    name: str


@dataclass(frozen=True, slots=True)
class RetireNode:
    """Have exactly this node, not one made later under its name, drained and given back; its pool makes another."""

    project: str
    cluster: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class RollTemplate:
    """Have the cluster be of another version of its template."""

    project: str
    cluster: str
    template: str
    version: str


NodeAction = CordonNode | RetireNode | RollTemplate
