"""Pods leave a node that is being replaced: as in any rollout, new ones come, and the old ones let their streams end.

Whoever owns the node has cordoned it, so no new pod can come to it. A move changes the name of the recipe and nothing
else, and all that a rollout does follows: a new pod first where there is room, else in place while the router holds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from services.runtime_deployer.core.progress import is_rolled, pods_of, replicas_of
from services.runtime_deployer.core.state import Runtime

DRAINING_MAX: Final = 64  # Nodes that are remembered; their names never come again.


def noted(runtime: Runtime, node: str) -> Runtime:
    """The runtime with a node that is to be empty."""
    if node in runtime.draining:
        return runtime
    return moved(replace(runtime, draining=(*runtime.draining, node)[-DRAINING_MAX:]))


def moved(runtime: Runtime) -> Runtime:
    """The runtime, with another recipe if a pod of the present one is where none may stay; and whether it moves."""
    if not runtime.is_wanted:
        return replace(runtime, is_moving=False)
    stuck = sorted({each.node for each in pods_of(runtime) if each.node in runtime.draining})
    if stuck:
        return replace(runtime, moved=stuck[0], is_moving=True)
    is_there = is_rolled(runtime) and len(replicas_of(runtime)) >= runtime.replicas_wanted
    return replace(runtime, is_moving=runtime.is_moving and not is_there)
