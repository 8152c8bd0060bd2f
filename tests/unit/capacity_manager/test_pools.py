"""A shared cluster's pool: whose time its nodes are, what stands warm, what is nobody's, and when it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from libs.common.events.capacity import NodeJoined, NodeLost, NodeReleased, NodeUse, NodeUsed, PoolDrawn
from libs.common.events.envelope import Envelope
from libs.common.events.scale import PoolInputs, PoolTargeted
from libs.common.ids import EndpointId, EventId, ProjectId, TenantId
from libs.common.units import MINUTE_MS
from services.capacity_manager.core.orphans import Caution, PoolStanding, stray_shares
from services.capacity_manager.core.plan import DeleteCluster, DropShare, SetWarm
from services.capacity_manager.core.pools import Pool, SharesStray
from services.capacity_manager.core.tenancy import pool_id
from services.capacity_manager.core.warmth import Warm
from services.capacity_manager.service import its_endpoint, its_pool
from tests.unit.capacity_manager.a_pool import EMPTY, FOUND, POOL_RULES, PoolBench, a_pool_cluster
from tests.unit.capacity_manager.builders import NOW, a_node


def test_each_node_is_told_once_with_its_pool_and_what_it_is_held_for() -> None:
    bench = PoolBench()
    nodes = [a_node("n1"), a_node("n2")]
    bench.see(a_pool_cluster("ep-a", quantity=2, warm=1), nodes)
    bench.see(a_pool_cluster("ep-a", quantity=2, warm=1), nodes)

    assert [(each.claim, each.pool.cluster) for each in bench.of(NodeJoined)] == [("n1", "sc-a"), ("n2", "sc-a")]
    assert bench.uses() == {"n1": NodeUse.SERVING, "n2": NodeUse.WARM}
    assert len(bench.of(NodeUsed)) == 2


def test_who_comes_draws_on_warm_nodes_and_the_hit_is_told() -> None:
    bench = PoolBench()
    nodes = [a_node("n1"), a_node("n2")]
    bench.see(a_pool_cluster("ep-a", quantity=2, warm=1), nodes)
    bench.see(a_pool_cluster("ep-a", "ep-b", "ep-c", quantity=3, warm=0), nodes)

    assert bench.of(PoolDrawn)[-1] == PoolDrawn(tier="l40s-shared", region="eu-1", nodes=2, warm=1)
    assert (bench.pool.drawn, bench.pool.drawn_warm) == (3, 1)
    assert bench.uses()["n2"] is NodeUse.SERVING


def test_warm_nodes_are_made_up_to_the_target_where_there_is_room_and_never_ahead_of_others() -> None:
    bench = PoolBench()

    assert bench.see(a_pool_cluster("ep-a", quantity=1), free=2) == (SetWarm("mr-pool", "sc-a", 2),)
    assert bench.see(a_pool_cluster("ep-a", quantity=1), free=1) == ()
    assert bench.see(a_pool_cluster("ep-a", quantity=4, warm=3)) == (SetWarm("mr-pool", "sc-a", 2),)


def test_the_autoscaler_s_word_is_the_target_within_the_tier_also_if_it_came_before_the_cluster_was_found() -> None:
    rules = replace(POOL_RULES, warm={"l40s-shared": Warm(target=1, floor=0, ceiling=4)})
    inputs = PoolInputs(window_ms=1, draws=1, at_once=3, boot_ms=1)
    bench = PoolBench(rules=rules)
    bench.pool = Pool("sc-a")
    bench.take(PoolTargeted(nodes=3, reason="r", inputs=inputs), sequence=7)
    bench.take(PoolTargeted(nodes=1, reason="older", inputs=inputs), sequence=6)

    bench.take(FOUND)

    assert bench.see(a_pool_cluster("ep-a", quantity=1), free=9) == (SetWarm("mr-pool", "sc-a", 3),)
    bench.take(PoolTargeted(nodes=9, reason="r", inputs=inputs), sequence=8)
    assert bench.see(a_pool_cluster("ep-a", quantity=4, warm=3), free=9) == (SetWarm("mr-pool", "sc-a", 4),)
    assert bench.see(a_pool_cluster(quantity=3, warm=3)) == (SetWarm("mr-pool", "sc-a", 0),), (
        "while nobody is in it: the floor"
    )


def test_a_target_goes_to_the_pool_or_to_the_claim_that_it_is_about_and_to_nothing_else() -> None:
    told = PoolTargeted(nodes=3, reason="r", inputs=PoolInputs(window_ms=1, draws=1, at_once=3, boot_ms=1))
    subjects = ("sc-l40s-shared-eu-1", pool_id(project="mr-acme-prod", cluster="sc-a"), "ep-7f3akq2xpd")

    found = [Envelope(EventId("e"), told, each, NOW) for each in subjects]

    assert [its_pool(each) for each in found] == [(subjects[0],), (subjects[1],), ()]
    assert [its_endpoint(each) for each in found] == [(), (), (subjects[2],)]


def test_an_empty_cluster_waits_for_the_next_one_and_goes_when_nobody_came() -> None:
    bench = PoolBench()
    assert bench.see(a_pool_cluster(quantity=2, warm=2)) == (SetWarm("mr-pool", "sc-a", 0),)
    assert bench.see(EMPTY) == ()
    bench.now_ms += 5 * MINUTE_MS
    bench.see(a_pool_cluster("ep-late", quantity=3, warm=2))
    bench.see(EMPTY)
    bench.now_ms += 9 * MINUTE_MS
    assert bench.see(EMPTY) == (), "the grace began anew"

    bench.wake()

    assert bench.see(EMPTY) == (DeleteCluster("mr-pool", "sc-a", "uid-1", is_shared=True),)


def test_a_floor_stays_warm_while_nobody_is_in_it_and_so_does_its_cluster() -> None:
    bench = PoolBench(rules=replace(POOL_RULES, warm={"l40s-shared": Warm(2, 1)}))
    bench.see(EMPTY)
    bench.now_ms += 60 * MINUTE_MS

    assert bench.see(EMPTY, free=5) == (SetWarm("mr-pool", "sc-a", 1),)
    assert bench.see(a_pool_cluster(quantity=1, warm=1)) == ()


def test_gone_is_seen_gone_twice_and_a_cluster_made_anew_is_found_anew() -> None:
    bench = PoolBench()
    bench.see(a_pool_cluster("ep-a", quantity=1), [a_node("n1")])
    gone_at_ms = bench.now_ms = NOW + MINUTE_MS
    bench.see(None)
    assert not bench.of(NodeReleased)
    bench.wake()
    bench.see(None)

    assert bench.of(NodeReleased) == [NodeReleased(claim="n1", at_ms=gone_at_ms)]
    assert bench.pool.is_released
    bench.take(FOUND)
    assert not bench.pool.is_released


def test_while_the_cluster_can_t_be_seen_nothing_new_is_said_of_its_nodes() -> None:
    bench = PoolBench()
    bench.see(a_pool_cluster("ep-a", quantity=1), [a_node("n1")])
    before = list(bench.told)

    bench.see(None, [a_node("n1")])
    bench.see(a_pool_cluster("ep-a", quantity=1), [a_node("n1")])

    assert bench.told == before


def test_a_share_that_is_nobody_s_is_dropped_and_only_that() -> None:
    bench = PoolBench()
    bench.take(SharesStray(endpoint_ids=("ep-lost",)))

    assert bench.see(a_pool_cluster("ep-a", "ep-lost", quantity=2)) == (
        DropShare("mr-pool", "sc-a", EndpointId("ep-lost")),
    )
    bench.see(a_pool_cluster("ep-a", quantity=2, warm=2))
    assert bench.pool.strays == ()


CAUTION: Final = Caution(per_pass_max=2, grace_ms=15 * MINUTE_MS)


def a_standing(*sharers: str, installation: str = "millrace") -> PoolStanding:
    return PoolStanding(
        id="sc-a",
        project="mr-pool",
        name="sc-a",
        uid="uid-1",
        tenant_id=TenantId(""),
        project_id=ProjectId(""),
        installation=installation,
        is_deleting=False,
        sharers=tuple(map(EndpointId, sharers)),
        mark="",
    )


def test_a_share_is_nobody_s_once_its_endpoint_had_no_claim_for_all_of_the_grace() -> None:
    pools = [a_standing("ep-a", "ep-lost")]
    first = stray_shares(pools, {"ep-a"}, {}, CAUTION, NOW)
    assert first.drop == {}

    later = stray_shares(pools, {"ep-a"}, first.since_ms, CAUTION, NOW + 15 * MINUTE_MS)

    assert later.drop == {"sc-a": ("ep-lost",)}
    assert stray_shares([a_standing("ep-lost", installation="x")], set(), later.since_ms, CAUTION, 2 * NOW).drop == {}


def test_where_too_many_shares_seem_nobody_s_it_is_our_database_that_is_wrong() -> None:
    found = stray_shares([a_standing(*(f"ep-{n}" for n in range(9)))], set(), {}, CAUTION, NOW)

    assert not found.drop
    assert "9 of 9 shares seem to be nobody's" in found.held_back


def test_a_node_that_fails_is_told_to_be_lost_and_a_warm_one_serves_in_its_place() -> None:
    bench = PoolBench()
    cluster = a_pool_cluster("ep-a", quantity=2, warm=1)
    bench.see(cluster, [a_node("n1"), a_node("n2")])

    bench.see(cluster, [a_node("n1", joined=False, phase="Failed"), a_node("n2")])

    (loss,) = bench.of(NodeLost)
    assert (loss.claim, loss.reason, loss.at_ms) == ("n1", "ClaimFailed", NOW)
    assert bench.uses()["n2"] is NodeUse.SERVING


def test_a_node_that_the_pool_gave_up_because_it_was_made_smaller_is_not_lost() -> None:
    bench = PoolBench()
    bench.see(a_pool_cluster("ep-a", quantity=2, warm=1), [a_node("n1"), a_node("n2")])

    bench.see(a_pool_cluster("ep-a", quantity=1, warm=0), [a_node("n1")])
    bench.wake()
    bench.see(a_pool_cluster("ep-a", quantity=1, warm=0), [a_node("n1")])

    assert [each.claim for each in bench.of(NodeReleased)] == ["n2"]
    assert bench.of(NodeLost) == []
