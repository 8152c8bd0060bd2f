"""What a look at a shared cluster means: whose time its nodes are, what stood warm, and whether anybody is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from libs.common.decision import Decide, Decision
from libs.common.events import capacity
from libs.common.events.capacity import NodeJoined, PoolDrawn
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.events.scale import PoolTargeted
from libs.common.ids import EndpointId
from libs.common.reconciler import Plan
from libs.common.runner import Woke
from services.capacity_manager.core.node_loss import gone, missed, note_losses
from services.capacity_manager.core.node_time import Look, is_confirmed, live, noted
from services.capacity_manager.core.node_use import Need, idle_gpu_ms, idled, used, warm_among
from services.capacity_manager.core.plan import Action, DeleteCluster, DropShare, LetNodeGo, SetWarm
from services.capacity_manager.core.pool_life import is_over, note_taken, site, warm_wanted
from services.capacity_manager.core.pools import Pool, PoolCluster, PoolFound, PoolRules, PoolSeen, SharesStray
from services.capacity_manager.core.replacing import ReplaceNode, advance, apart, asked, due_ms, plan_nodes, replaced
from services.capacity_manager.core.rolling import RollCluster, note_roll, plan_roll, rolled
from services.capacity_manager.core.state import Count, Machines, Node, Sighting


def decider(rules: PoolRules) -> Decide[Pool]:
    """The `decide` of a pool under these rules."""

    def decide(pool: Pool, envelope: Envelope, now_ms: int) -> Decision[Pool]:
        events: tuple[Event, ...] = ()
        match envelope.data:
            case PoolFound() as found if pool.is_released or not pool.project:
                pool = _found(pool, found)
            case SharesStray(endpoint_ids=strays):
                pool = replace(pool, strays=strays, look=pool.look + 1)
            case PoolSeen() as seen if not pool.is_released:
                pool, events = _seen(pool, seen, rules, now_ms)
            case PoolTargeted(nodes=nodes) if pool.said is None or pool.said.sequence < envelope.sequence:
                pool = replace(pool, said=Count(nodes, envelope.sequence), look=pool.look + 1)
            case ReplaceNode() as order:
                pool, events = asked(pool, order, now_ms)
            case RollCluster() as order:
                pool, events = rolled(pool, order)
            case Woke():
                pool = replace(pool, look=pool.look + 1)
            case _:
                pass  # Found again; or trouble, of which the claims in it tell.
        return Decision(pool, events, wake_at_ms=_wake_at_ms(pool, rules, now_ms))

    return decide


def planner(rules: PoolRules) -> Plan[Pool, PoolSeen, Action]:
    """The plan of a pool under these rules."""

    def plan(pool: Pool, seen: PoolSeen, now_ms: int) -> tuple[Action, ...]:
        """Shares that are nobody's go; warm nodes are as many as the tier has; what was empty for long is deleted."""
        cluster = seen.cluster
        if cluster is None or cluster.is_deleting:
            return ()
        strays = [EndpointId(each) for each in pool.strays if each in cluster.sharers]
        if strays:
            return tuple(DropShare(pool.project, pool.cluster, each) for each in strays)
        tended = (*plan_nodes(pool, site(pool, seen, rules)), *plan_roll(pool, cluster))
        wanted = warm_wanted(cluster, rules.of(pool.tier), pool.word) + pool.surplus
        if wanted != cluster.warm and (wanted < cluster.warm or _has_room(seen, wanted - cluster.warm)):
            return (*tended, SetWarm(pool.project, pool.cluster, wanted))
        if not is_over(pool, rules, now_ms):
            return tended
        # Nodes that people joined first, or their kubelets would dial a control plane that is gone.
        guests = (LetNodeGo(pool.project, pool.cluster, each.name, each.uid, is_shared=True) for each in seen.by_hand)
        return (*guests, DeleteCluster(pool.project, pool.cluster, cluster.uid, is_shared=True))

    return plan


def _has_room(seen: PoolSeen, nodes: int) -> bool:
    """Warm nodes never wait in a queue: they would get what somebody who pays waits for."""
    return seen.free is None or seen.free >= nodes


def _found(pool: Pool, found: PoolFound) -> Pool:
    return Pool(
        id=pool.id,
        project=found.project,
        cluster=found.cluster,
        tenant_id=found.tenant_id,
        project_id=found.project_id,
        tier=found.tier,
        region=found.region,
        machines=Machines(found.node_type, found.gpus_per_node),
        nodes=pool.nodes,
        look=pool.look + 1,
        said=pool.said,
        node_cost=found.node_cost,
    )


def _seen(pool: Pool, seen: PoolSeen, rules: PoolRules, now_ms: int) -> tuple[Pool, tuple[Event, ...]]:
    cluster = seen.cluster
    all_gone = None
    if cluster is None and not seen.nodes:
        all_gone = pool.gone or Sighting(now_ms, seen.look)
    is_released = all_gone is not None and is_confirmed(
        all_gone, seen.look, now_ms=now_ms, confirm_gone_ms=rules.confirm_gone_ms
    )
    was = pool
    pool, taken = note_taken(pool, seen, is_ours=is_over(pool, rules, now_ms), is_gone=is_released)
    nodes, told = _noted(pool, was, seen, Look(seen.look, now_ms, rules.confirm_gone_ms))
    assert not (is_released and live(nodes)), "two looks found no node, so each is confirmed gone"
    pool = replace(pool, nodes=nodes, gone=None if is_released else all_gone, is_released=is_released)
    if cluster is not None:
        pool = replace(pool, template=cluster.template)
    pool, rolls = note_roll(pool, cluster, now_ms)
    pool, moves = advance(pool, site(pool, seen, rules), now_ms)
    pool, uses = _used(pool, cluster, rules, now_ms)
    return pool, (*taken, *told, *rolls, *moves, *uses)


def _used(pool: Pool, cluster: PoolCluster | None, rules: PoolRules, now_ms: int) -> tuple[Pool, tuple[Event, ...]]:
    """The pool with what its nodes are held for; without its cluster that stays as it was told until they are gone."""
    needed = pool.needed if cluster is None else _needed(cluster)
    drawn = tuple(_drawn(pool, needed, now_ms))
    nodes, uses = pool.nodes, tuple[Event, ...]()
    if cluster is not None:
        quantity = 0 if cluster.is_deleting else cluster.quantity or 0
        fresh = frozenset(each.name for each in nodes if not each.use)
        nodes, uses = used(nodes, Need(needed, quantity, fresh, is_pool=True, apart=apart(pool)), now_ms)
    is_empty = cluster is not None and not cluster.is_deleting and not cluster.sharers
    pool = replace(
        pool,
        nodes=nodes,
        needed=needed,
        drawn=pool.drawn + sum(each.nodes for each in drawn),
        drawn_warm=pool.drawn_warm + sum(each.warm for each in drawn),
        warm=warm_wanted(cluster, rules.of(pool.tier), pool.word),
        idle=idled(pool.idle, warm_among(nodes) * (pool.machines.gpus_per_node if pool.machines else 0), now_ms),
        strays=tuple(each for each in pool.strays if cluster is not None and each in cluster.sharers),
        idle_since_ms=(now_ms if pool.idle_since_ms is None else pool.idle_since_ms) if is_empty else None,
    )
    return pool, (*drawn, *uses)


def _noted(pool: Pool, was: Pool, seen: PoolSeen, look: Look) -> tuple[tuple[Node, ...], tuple[Event, ...]]:
    """The nodes as seen, and what to tell of them: who came, who went, and who was lost without our asking."""
    nodes, told = noted(pool.nodes, seen.nodes, pool.machines, look)
    whose = _labels(pool)
    told = tuple(each.model_copy(update={"pool": whose}) if isinstance(each, NodeJoined) else each for each in told)
    nodes = missed(nodes, pool.nodes, kept=_kept(pool, was, seen.cluster), asked=replaced(pool))
    vanished = gone(nodes, pool.nodes, look)
    nodes, losses = note_losses(nodes, seen.nodes, None, look)
    return nodes, (*vanished, *told, *losses)


def _kept(pool: Pool, was: Pool, cluster: PoolCluster | None) -> int:
    """Nodes that are to stay: all of a cluster that somebody else took away, none of one that we did."""
    if cluster is None or cluster.is_deleting:
        return len(pool.nodes) if pool.uid else 0
    is_another = bool(was.uid) and was.uid != pool.uid
    return len(pool.nodes) if is_another else cluster.quantity or 0


def _needed(cluster: PoolCluster) -> int:
    if cluster.is_deleting or cluster.quantity is None:
        return 0
    return max(0, cluster.quantity - cluster.warm)


def _drawn(pool: Pool, needed: int, now_ms: int) -> Iterator[PoolDrawn]:
    """More is needed than at the last look: by so much, of which so many nodes stood warm then."""
    more = needed - pool.needed
    if more > 0:
        warm = min(more, warm_among(pool.nodes))
        idle_ms = idle_gpu_ms(pool.idle, now_ms)
        yield PoolDrawn(tier=pool.tier, region=pool.region, nodes=more, warm=warm, idle_gpu_ms=idle_ms)


def _labels(pool: Pool) -> capacity.Pool:
    return capacity.Pool(
        project=pool.project,
        cluster=pool.cluster,
        tenant_id=pool.tenant_id,
        project_id=pool.project_id,
        tier=pool.tier,
        region=pool.region,
    )


def _wake_at_ms(pool: Pool, rules: PoolRules, now_ms: int) -> int | None:
    """When the next look is due: to confirm what seems gone, or because nobody came in time."""
    if pool.is_released:
        return None
    sightings = [pool.gone, *(node.missing for node in live(pool.nodes))]
    dues = [each.since_ms + rules.confirm_gone_ms for each in sightings if each and each.look == pool.look]
    dues += [
        each.since_ms + rules.confirm_gone_ms
        for each in sightings
        if each and each.look != pool.look and each.since_ms + rules.confirm_gone_ms > now_ms
    ]
    if pool.idle_since_ms is not None and (end_ms := pool.idle_since_ms + rules.grace_ms) > now_ms:
        dues.append(end_ms)
    return min((*dues, *due_ms(pool, now_ms)), default=None)
