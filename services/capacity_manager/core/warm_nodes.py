"""Nodes that stand warm in the tenant cluster of one endpoint, for replicas to come.

They are the provider's stock, so no tenant's quota is taken for them until a replica needs them; and they are made only
where machines are free, so that they never stand in a queue before somebody who waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from libs.common.events.capacity import NodeJoined, PoolDrawn
from libs.common.events.event import Event
from libs.common.events.facts import Fact
from services.capacity_manager.core.node_use import Need, idle_gpu_ms, idled, used, warm_among
from services.capacity_manager.core.observed import Observed
from services.capacity_manager.core.replacing import apart
from services.capacity_manager.core.state import Claim
from services.capacity_manager.core.tenancy import is_shared
from services.capacity_manager.core.warmth import COLD, Warm


def aimed(claim: Claim, warm: Mapping[str, Warm]) -> Claim:
    """The claim with as many warm nodes to have as its tier says, once it serves; of a shared cluster its pool does."""
    serves = Fact.GPU_READY in claim.told and not claim.is_unwanted and not claim.is_failed
    wanted = 0
    if serves and claim.spec is not None and not is_shared(claim.placement):
        said = claim.warm_said.replicas if claim.warm_said is not None else None
        wanted = warm.get(claim.spec.tier, COLD).wanted(said)
    return claim if wanted == claim.warm_wanted else replace(claim, warm_wanted=wanted)


def noted(claim: Claim, seen: Observed, told: tuple[Event, ...], now_ms: int) -> tuple[Claim, tuple[Event, ...]]:
    """The claim with what its nodes are held for, and what is to be told of that behind who joined and who went."""
    cluster = seen.our_cluster
    if cluster is None or cluster.is_deleting or cluster.quantity is None:
        return claim, told  # What they are for stays as it was told until they are gone.
    if not cluster.warm and not any(each.use for each in claim.nodes):
        return claim if not claim.warm else replace(claim, warm=0), told
    fresh = frozenset(each.claim for each in told if isinstance(each, NodeJoined))
    need = Need(cluster.quantity - cluster.warm, cluster.quantity, fresh, apart=apart(claim))
    nodes, uses = used(claim.nodes, need, now_ms)
    gpus = warm_among(nodes) * (claim.machines.gpus_per_node if claim.machines else 0)
    return replace(claim, nodes=nodes, warm=cluster.warm, idle=idled(claim.idle, gpus, now_ms)), (*told, *uses)


def drawn(granted: Claim, before: Claim, *, now_ms: int) -> tuple[Claim, tuple[Event, ...]]:
    """What a claim that grows draws of its warm nodes; nothing is told where its tier keeps none."""
    held, now = before.reservation, granted.reservation
    if held is None or now is None or granted.spec is None or not (before.warm or before.warm_wanted):
        return granted, ()
    more = now.nodes - held.nodes
    warm = min(more, warm_among(before.nodes))
    told = PoolDrawn(
        tier=granted.spec.tier,
        region=granted.region,
        nodes=more,
        warm=warm,
        idle_gpu_ms=idle_gpu_ms(before.idle, now_ms),
    )
    return replace(granted, drawn=granted.drawn + more, drawn_warm=granted.drawn_warm + warm), (told,)
