"""Which class of nodes a claim gets: the first of its tier's that is known and has room, and why not those before it.

A class is a node type (with its provider), the cluster template for it, and a region. It is chosen when capacity is
reserved, and stays until all was given back.
"""

from __future__ import annotations

from dataclasses import replace

from libs.common.events.endpoint import NodeChoice, Placement
from services.capacity_manager.core.observed import NodeTypeSeen, Observed
from services.capacity_manager.core.placement import nodes_missing, too_small
from services.capacity_manager.core.state import Claim


def classes_of(placement: Placement) -> tuple[NodeChoice, ...]:
    """The classes in the order in which they are tried."""
    first = NodeChoice(
        node_type=placement.node_type,
        gpus_per_node=placement.gpus_per_node,
        cluster_template=placement.cluster_template,
        region=placement.region,
    )
    return (first, *placement.fallbacks)


def choose(claim: Claim, seen: Observed) -> tuple[Claim, Observed]:
    """The claim on the class that it gets, and what was seen of that; a claim that holds something keeps its own.

    Where none has room it stays on the first that the Platform knows, and waits there.
    """
    if claim.reservation is not None or len(claim.classes) < 2 or not seen.classes or claim.is_unwanted:
        return claim, seen
    told: list[str] = []
    known: tuple[Claim, NodeTypeSeen] | None = None
    for each, sight in zip(claim.classes, seen.classes, strict=False):
        on_it = replace(claim, placement=_on(claim, each))
        why = _reject(on_it, each, sight, seen)
        if why is None:
            return replace(on_it, passed_over=tuple(told)), seen.model_copy(update={"node_type": sight})
        told.append(why)
        fits = sight.is_known and too_small(_on(claim, each), sight) is None
        known = (on_it, sight) if known is None and fits else known
    waiting, sight = known or (replace(claim, placement=_on(claim, claim.classes[0])), seen.classes[0])
    return replace(waiting, passed_over=tuple(told)), seen.model_copy(update={"node_type": sight})


def _on(claim: Claim, chosen: NodeChoice) -> Placement:
    assert claim.placement is not None
    return claim.placement.model_copy(update=chosen.model_dump())


def _reject(on_it: Claim, chosen: NodeChoice, sight: NodeTypeSeen, seen: Observed) -> str | None:
    name = f"{chosen.node_type} in {chosen.region}" if chosen.region else chosen.node_type
    name += f" ({sight.described})" if sight.described else ""
    if not sight.is_known:
        return f"{name} is not known to the Platform"
    assert on_it.placement is not None
    if (small := too_small(on_it.placement, sight)) is not None:
        return small
    needed = nodes_missing(on_it, seen.our_cluster)
    if sight.free is not None and sight.free < needed:
        return f"{name} has {sight.free} free of {needed} wanted"
    return None
