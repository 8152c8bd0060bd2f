"""Where a claim stands, as a walk through one table, and how closely it is followed there."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from libs.common.events.facts import Fact
from libs.common.lifecycle import Lifecycle, Row
from libs.common.store.port import Attention
from services.capacity_manager.core.node_time import live
from services.capacity_manager.core.placement import wanted_by
from services.capacity_manager.core.state import Claim, Node, Sighting
from services.capacity_manager.core.tenancy import is_shared

PLATFORM: Final = "vCluster Platform"
OURSELVES: Final = "capacity-manager"


class Stage(StrEnum):
    """Where a claim stands."""

    REQUESTED = "requested"
    RESERVED = "reserved"
    CLUSTER_READY = "cluster_ready"
    NODES_JOINED = "nodes_joined"
    HELD = "held"
    FAILED = "failed"
    RELEASING = "releasing"
    RELEASED = "released"


class Step(StrEnum):
    """What holds of a claim; the walk goes by these."""

    RESERVED = "reserved"
    CLUSTER_READY = "cluster_ready"
    NODES_JOINED = "nodes_joined"
    GPU_READY = "gpu_ready"
    FAILED = "failed"
    UNWANTED = "unwanted"
    CONFIRMED_GONE = "confirmed_gone"


WANTED: Final = (Stage.REQUESTED, Stage.RESERVED, Stage.CLUSTER_READY, Stage.NODES_JOINED, Stage.HELD)

LIFECYCLE: Final = Lifecycle(
    start=Stage.REQUESTED,
    rows=(
        *(Row(stage, Step.UNWANTED, Stage.RELEASING) for stage in (*WANTED, Stage.FAILED)),
        *(Row(stage, Step.FAILED, Stage.FAILED) for stage in WANTED[:-1]),
        Row(Stage.REQUESTED, Step.RESERVED, Stage.RESERVED, owed_by=OURSELVES),
        Row(Stage.RESERVED, Step.CLUSTER_READY, Stage.CLUSTER_READY, owed_by=PLATFORM),
        Row(Stage.CLUSTER_READY, Step.NODES_JOINED, Stage.NODES_JOINED, owed_by=PLATFORM),
        Row(Stage.NODES_JOINED, Step.GPU_READY, Stage.HELD, owed_by=PLATFORM),
        Row(Stage.RELEASING, Step.CONFIRMED_GONE, Stage.RELEASED, owed_by=PLATFORM),
    ),
)

TOLD_STEPS: Final = {
    Fact.CAPACITY_RESERVED: Step.RESERVED,
    Fact.CLUSTER_READY: Step.CLUSTER_READY,
    Fact.NODES_JOINED: Step.NODES_JOINED,
    Fact.GPU_READY: Step.GPU_READY,
    Fact.CAPACITY_FAILED: Step.FAILED,
}


def steps_of(claim: Claim) -> frozenset[Step]:
    """What holds of the claim."""
    steps = {TOLD_STEPS[fact] for fact in claim.told if fact in TOLD_STEPS}
    if claim.is_unwanted:
        steps.add(Step.UNWANTED)
    if claim.is_released:
        steps.add(Step.CONFIRMED_GONE)
    return frozenset(steps)


def stage_of(claim: Claim) -> Stage:
    """Where the claim stands."""
    return LIFECYCLE.stage_of(steps_of(claim))


def is_waiting_for_something(claim: Claim) -> bool:
    """Whether the claim wants what it has not: then trouble with the Platform is worth telling."""
    match stage_of(claim):
        case Stage.HELD:
            return wanted_by(claim) > reserved_nodes(claim)
        case Stage.FAILED | Stage.RELEASED:
            return False
        case _:
            return True


def attention_of(claim: Claim) -> Attention:
    """How closely the reconciler follows the claim: in motion at once, at rest now and then, when released never."""
    if not claim.tenant_id or claim.is_released:
        return Attention.NONE
    match stage_of(claim):
        case Stage.FAILED:
            return Attention.WATCH
        case Stage.RELEASING:
            return Attention.NOW if claim.is_removable and not _awaits_the_clock(claim) else Attention.WATCH
        case Stage.HELD:
            return Attention.WATCH if _is_settled(claim) else Attention.NOW
        case _:
            return Attention.NOW


def unconfirmed(claim: Claim) -> tuple[Sighting, ...]:
    """The sightings that a second look must confirm."""
    found = [claim.gone, claim.shrunk, *(node.missing for node in claim.nodes if node.released_at_ms is None)]
    return tuple(each for each in found if each is not None)


def reserved_nodes(claim: Claim) -> int:
    """Nodes that the claim holds quota for."""
    return claim.reservation.nodes if claim.reservation else 0


def live_nodes(claim: Claim) -> tuple[Node, ...]:
    """The nodes that are not confirmed gone."""
    return live(claim.nodes)


def _is_settled(claim: Claim) -> bool:
    if is_shared(claim.placement):  # Its nodes are the cluster's, and are looked at through the shares on it.
        return wanted_by(claim) == reserved_nodes(claim)
    joined = sum(
        node.joined_at_ms is not None and node.missing is None and node.silent is None and node.lost_at_ms is None
        for node in live_nodes(claim)
    )
    wanted = wanted_by(claim)
    is_whole = wanted == reserved_nodes(claim) and wanted + claim.warm == joined == len(live_nodes(claim))
    return is_whole and not claim.replacements and (claim.roll is None or claim.roll.is_queued)


def _awaits_the_clock(claim: Claim) -> bool:
    """Whether a first look saw all gone and the second is not due: nothing to see before."""
    return claim.gone is not None and claim.gone.look == claim.look
