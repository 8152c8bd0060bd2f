"""Node life in a cluster that endpoints share: how a replacement sees it, and whether somebody else took it away."""

from __future__ import annotations

from dataclasses import replace

from libs.common.events.capacity import CapacityDrifted
from libs.common.events.event import Event
from services.capacity_manager.core.lifecycle import OURSELVES
from services.capacity_manager.core.pools import Pool, PoolCluster, PoolRules, PoolSeen
from services.capacity_manager.core.sites import Sandbox, Site, site_of_pool
from services.capacity_manager.core.successors import why_unfit
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
