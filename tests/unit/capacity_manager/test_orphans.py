"""What is collected of what stands on the Platform, and what never is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.common.events.capacity import CapacityReleased, NodeJoined, NodeReleased
from libs.common.ids import EndpointId, ProjectId, TenantId
from libs.common.units import MINUTE_MS
from services.capacity_manager.core.lifecycle import Stage, stage_of
from services.capacity_manager.core.orphans import Caution, Found, Standing, orphans
from services.capacity_manager.core.plan import DeleteCluster, plan
from tests.unit.capacity_manager.builders import (
    NOW,
    REMOVED,
    Bench,
    a_cluster,
    a_node,
    an_envelope,
    deletion,
    held,
    requested,
)

CAUTION = Caution(per_pass_max=2, grace_ms=15 * MINUTE_MS)
FOUND = Found(tenant_id="acme", project_id="prod", uid="uid-1", node_type="metal3.gpu-h100", gpus_per_node=8)


def standing(number: int = 1, *, age_ms: int = 60 * MINUTE_MS) -> Standing:
    name = f"ep-{number}"
    return Standing(
        endpoint_id=EndpointId(name),
        tenant_id=TenantId("acme"),
        project_id=ProjectId("prod"),
        installation="millrace",
        project="mr-acme-prod",
        name=name,
        uid=f"uid-{number}",
        created_at_ms=NOW - age_ms - number,
        is_deleting=False,
    )


def collected(*found: Standing, followed: frozenset[str] = frozenset(), seen_for_ms: int = 15 * MINUTE_MS) -> list[str]:
    since = {each.uid: NOW - seen_for_ms for each in found}
    return [each.name for each in orphans(found, followed, since, CAUTION, NOW).collect]


def test_what_nobody_follows_is_collected_oldest_first_and_a_few_at_once() -> None:
    assert collected(standing(1), standing(2), standing(3)) == ["ep-3", "ep-2"]


def test_what_was_not_nobodys_for_all_of_the_grace_is_left_alone_however_old_it_is() -> None:
    assert collected(standing(), seen_for_ms=14 * MINUTE_MS) == []

    first = orphans([standing()], frozenset(), {}, CAUTION, NOW)
    assert first.collect == ()
    assert orphans([standing()], frozenset(), first.since_ms, CAUTION, NOW + 15 * MINUTE_MS).collect == (standing(),)


def test_what_was_wanted_in_between_begins_anew() -> None:
    first = orphans([standing()], frozenset(), {}, CAUTION, NOW)

    wanted = orphans([standing()], frozenset({"ep-1"}), first.since_ms, CAUTION, NOW + 1)

    assert wanted.since_ms == {}


@pytest.mark.parametrize(
    "spared",
    [
        standing(age_ms=14 * MINUTE_MS),
        replace(standing(), installation="another"),
        replace(standing(), installation=""),
        replace(standing(), name="made-by-hand"),
        replace(standing(), project="elsewhere"),
        replace(standing(), is_deleting=True),
    ],
)
def test_what_is_young_going_or_not_of_our_making_is_never_collected(spared: Standing) -> None:
    assert collected(spared) == []


def test_what_has_a_claim_is_never_collected() -> None:
    assert collected(standing(), followed=frozenset({"ep-1"})) == []


def test_so_many_orphans_that_a_database_must_be_lost_are_all_left_alone() -> None:
    found = orphans([standing(each) for each in range(20)], frozenset(), {}, CAUTION, NOW)

    assert found.collect == ()
    assert found.held_back.startswith("20 of 20 clusters seem to be nobody's")


def test_an_orphan_is_let_go_like_anything_else_and_its_time_is_told() -> None:
    bench = Bench()
    bench.take(an_envelope(FOUND))
    nodes = [a_node("n1", joined_at_ms=NOW - MINUTE_MS)]

    bench.see(cluster=a_cluster(1, generation=9), nodes=nodes)
    assert plan(bench.claim, bench.last_seen, bench.now_ms) == (DeleteCluster("mr-acme-prod", "ep-abc", "uid-1"),)
    bench.see()
    bench.wake()
    bench.see()

    assert stage_of(bench.claim) is Stage.RELEASED
    assert [type(each) for each in bench.told] == [NodeJoined, NodeReleased], "nobody asked, so nobody is answered"
    assert bench.told[0] == NodeJoined(claim="n1", node_type="metal3.gpu-h100", gpu_count=8, at_ms=NOW - MINUTE_MS)


def test_whoever_asks_to_delete_an_orphan_is_answered() -> None:
    bench = Bench()
    bench.take(an_envelope(FOUND))

    bench.hear(deletion(), generation=2, sequence=2)
    bench.hear(REMOVED, generation=2)
    bench.see()
    bench.wake()
    bench.see()

    assert bench.of(CapacityReleased) == [CapacityReleased()]


def test_whoever_asks_for_an_endpoint_whose_cluster_was_an_orphan_gets_one() -> None:
    bench = Bench()
    bench.take(an_envelope(FOUND))

    bench.hear(requested())

    assert not bench.claim.is_unwanted
    assert stage_of(bench.claim) is Stage.REQUESTED


def test_a_claim_that_is_wanted_is_no_orphan_whatever_a_survey_says() -> None:
    bench = held(Bench())
    before = bench.claim

    bench.take(an_envelope(FOUND))

    assert bench.claim == before


def test_a_cluster_that_stands_after_its_release_is_given_back_again() -> None:
    bench = held(Bench())
    bench.hear(deletion(), generation=2, sequence=2)
    bench.hear(REMOVED, generation=2)
    bench.see()
    bench.wake()
    bench.see()
    assert bench.claim.is_released

    bench.take(an_envelope(FOUND))

    assert stage_of(bench.claim) is Stage.RELEASING
    bench.see(cluster=a_cluster(1))
    assert plan(bench.claim, bench.last_seen, bench.now_ms) == (DeleteCluster("mr-acme-prod", "ep-abc", "uid-1"),)
