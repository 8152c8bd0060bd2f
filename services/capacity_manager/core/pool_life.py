"""A cluster that endpoints share: who finds it, how a replacement sees it, and whether somebody else took it away."""

from __future__ import annotations

from dataclasses import replace

from libs.common.events.capacity import CapacityDrifted
from libs.common.events.event import Event
from services.capacity_manager.core.lifecycle import OURSELVES
from services.capacity_manager.core.observed import Observed
from services.capacity_manager.core.pools import Pool, PoolCluster, PoolFound, PoolRules, PoolSeen
from services.capacity_manager.core.sites import Sandbox, Site, site_of_pool
from services.capacity_manager.core.state import Claim
from services.capacity_manager.core.successors import why_unfit
from services.capacity_manager.core.tenancy import home_of
from services.capacity_manager.core.vnode import Unfit
from services.capacity_manager.core.warmth import Warm


def warm_wanted(cluster: PoolCluster | None, warm: Warm, said: int | None) -> int:
    """Nodes that are to stand warm; while nobody is in it, the tier's floor."""
    if cluster is None or cluster.is_deleting:
        return 0
    return warm.wanted(said) if cluster.sharers else warm.floor


def is_over(pool: Pool, rules: PoolRules, now_ms: int) -> bool:
    """Whether we end it: nobody came for all of the grace time, and its tier has no floor."""
    since_ms = pool.idle_since_ms
    return since_ms is not None and now_ms >= since_ms + rules.grace_ms and not rules.of(pool.tier).floor


def site(pool: Pool, seen: PoolSeen, rules: PoolRules) -> Site:
    """What a replacement in it goes by."""
    sandbox = None
    if pool.tier in rules.sandboxes.tiers:
        template = pool.roll.template if pool.roll is not None else pool.template
        image = rules.sandboxes.image_of(template)
        sandbox = Sandbox(template, image, seen.is_licensed, seen.has_runtime_class)
    return site_of_pool(pool, seen, warm=warm_wanted(seen.cluster, rules.of(pool.tier), pool.word), sandbox=sandbox)


def why_refused(pool: Pool, seen: PoolSeen, rules: PoolRules) -> Unfit | None:
    """Why the replacement that comes first would be refused by what is seen now; None if it would not."""
    where = site(pool, seen, rules)
    job = pool.replacement
    return None if job is None else why_unfit(replace(job, surges=bool(where.has_room)), pool.nodes, where)


def found_by(claim: Claim, seen: Observed) -> PoolFound | None:
    """What a claim that shares a cluster knows of it; None if it shares none, or none stands."""
    home, cluster = home_of(claim), seen.our_cluster
    if not home.is_shared or cluster is None or cluster.is_deleting or claim.spec is None or claim.placement is None:
        return None
    return PoolFound(
        uid=cluster.uid,
        project=home.project,
        cluster=home.cluster,
        tenant_id=home.tenant_id,
        project_id=home.project_id,
        tier=claim.spec.tier,
        region=claim.region,
        node_type=claim.placement.node_type,
        gpus_per_node=claim.placement.gpus_per_node,
        node_cost=claim.node_cost,
    )


def note_taken(pool: Pool, seen: PoolSeen, *, is_ours: bool, is_gone: bool) -> tuple[Pool, tuple[Event, ...]]:
    """The pool with the cluster that stands, and what to tell if somebody else deleted the one that did. Once.

    A cluster that one look does not find may be there all the same: then it is told when it is confirmed gone.
    """
    cluster = seen.cluster
    stands = cluster is not None and not cluster.is_deleting
    if cluster is None and not is_gone:
        return (replace(pool, uid="") if is_ours else pool), ()
    uid = cluster.uid if cluster is not None else ""
    was_taken = bool(pool.uid) and not pool.is_taken and not is_ours and (not stands or uid != pool.uid)
    if stands:
        after = replace(pool, uid=uid, is_taken=False)
    else:
        after = replace(pool, uid="" if is_ours else pool.uid, is_taken=pool.is_taken or was_taken)
    if not was_taken:
        return after, ()
    found = "another" if stands else "none" if cluster is None else "being deleted"
    told = CapacityDrifted(cluster=pool.cluster, what="cluster", wanted="standing", found=found, waiting_on=OURSELVES)
    return after, (told,)
