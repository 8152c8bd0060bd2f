"""Nodes of a cluster that endpoints share: their time is the provider's own, in one account, and told to nobody."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations

from libs.common.events.capacity import NodeJoined, NodeReleased, NodeUse, NodeUsed, Pool
from libs.common.events.endpoint import Stage
from libs.common.events.envelope import Envelope
from libs.common.units import SECOND_MS
from tests.unit.metering.world import T0, World, envelope, joined, requested, staged

POOL = Pool(project="mr-pool", cluster="sc-a", tenant_id="", project_id="", tier="l40s-shared", region="eu-1")
WARM, SERVING, GONE = 10 * SECOND_MS, 4 * SECOND_MS, 20 * SECOND_MS


def told_of_a_node() -> list[Envelope]:
    """Warm for ten seconds, then of use for four, then on its way out, and gone."""
    at = (T0, T0, T0 + WARM, T0 + WARM + SERVING, T0 + GONE)
    news = (
        NodeJoined(claim="n", node_type="terraform.gpu-l40s", gpu_count=2, at_ms=at[0], pool=POOL),
        NodeUsed(claim="n", use=NodeUse.WARM, at_ms=at[1]),
        NodeUsed(claim="n", use=NodeUse.SERVING, at_ms=at[2]),
        NodeUsed(claim="n", use=NodeUse.DRAINING, at_ms=at[3]),
        NodeReleased(claim="n", at_ms=at[4]),
    )
    return [
        envelope(each, subject="sc-a", sequence=number, at_ms=at[number - 1]) for number, each in enumerate(news, 1)
    ]


def booked(events: Iterable[Envelope]) -> World:
    world = World()
    world.clock.advance(GONE)
    world.hear(*events)
    world.pass_time(30)
    return world


def test_time_of_a_shared_node_is_in_the_account_of_what_it_was_held_for_whatever_the_order() -> None:
    for order in permutations(told_of_a_node()):
        assert booked(order).sums() == {
            ("!pool/mr-pool/sc-a/warm", "gpu_ms"): 2 * WARM,
            ("!pool/mr-pool/sc-a/serving", "gpu_ms"): 2 * SERVING,
            ("!pool/mr-pool/sc-a/draining", "gpu_ms"): 2 * (GONE - WARM - SERVING),
        }


def test_no_tenant_is_told_of_it() -> None:
    assert booked(told_of_a_node()).windows_told() == []


def test_a_warm_node_of_an_endpoint_is_warm_while_that_serves_and_draining_with_it() -> None:
    world = World()
    world.hear(
        requested(), staged(Stage.READY, since_ms=T0, sequence=2), joined("n", at_ms=T0, sequence=1, gpu_count=1)
    )
    world.hear(envelope(NodeUsed(claim="n", use=NodeUse.WARM, at_ms=T0 + 2_000), sequence=2, at_ms=T0 + 2_000))
    world.hear(staged(Stage.DRAINING, since_ms=T0 + 5_000, sequence=3))
    world.hear(envelope(NodeReleased(claim="n", at_ms=T0 + 6_000), sequence=3, at_ms=T0 + 6_000))
    world.pass_time(30)

    assert world.sums() == {("serving", "gpu_ms"): 2_000, ("warm", "gpu_ms"): 3_000, ("draining", "gpu_ms"): 1_000}
