"""Which class of nodes a claim gets, in the order of its tier, and why not those before it."""

from __future__ import annotations

from typing import Final

from libs.common.events.capacity import CapacityFailed, CapacityReserved, CapacityWaiting
from libs.common.events.endpoint import NodeChoice
from services.capacity_manager.core.holdings import holdings
from services.capacity_manager.core.observed import NodeTypeSeen
from services.capacity_manager.core.plan import EnsureCluster, EnsureProject, plan
from services.capacity_manager.core.state import Claim
from tests.unit.capacity_manager.builders import NOW, PLACEMENT, READY_PROJECT, Bench, an_envelope, requested

CLOUD: Final = NodeChoice(node_type="terraform.gpu-h100", gpus_per_node=8, cluster_template="cloud-h100@2")
FAR: Final = NodeChoice(
    node_type="metal3.gpu-h100", gpus_per_node=8, cluster_template="inference-h100@1", region="us-1"
)
FULL, ROOMY, UNKNOWN = (
    NodeTypeSeen(is_known=known, free=free) for known, free in ((True, 0), (True, 9), (False, None))
)


def asked(*fallbacks: NodeChoice) -> Bench:
    bench = Bench()
    placement = PLACEMENT.model_copy(update={"fallbacks": fallbacks})
    bench.hear(requested().model_copy(update={"placement": placement}))
    return bench


def full(bench: Bench, *sights: NodeTypeSeen) -> Claim:
    """A look at what has no room yet, so that nothing was reserved before."""
    seen = bench.see(node_type=FULL).state
    assert seen.reservation is None
    bench.claim = seen
    bench.take(an_envelope(bench.last_seen.model_copy(update={"node_type": sights[0], "classes": sights}), sequence=3))
    return bench.claim


def test_the_first_class_with_room_is_taken_and_the_claim_says_why_not_those_before() -> None:
    bench = asked(CLOUD, FAR)

    claim = full(bench, FULL, ROOMY, ROOMY)

    reserved = [each for each in bench.told if isinstance(each, CapacityReserved)]
    assert [each.node_type for each in reserved] == ["terraform.gpu-h100"]
    assert claim.passed_over == ("metal3.gpu-h100 has 0 free of 1 wanted",)


def test_its_cluster_is_made_by_that_class_s_template_in_its_region_and_the_project_allows_every_class() -> None:
    bench = asked(CLOUD, FAR)
    claim = full(bench, FULL, FULL, ROOMY)

    (made,) = plan(claim, bench.last_seen, NOW)
    assert isinstance(made, EnsureCluster)
    assert (made.template, made.region) == ("inference-h100", "us-1")
    (project,) = [
        each
        for each in plan(claim, bench.last_seen.model_copy(update={"project": None}), NOW)
        if isinstance(each, EnsureProject)
    ]
    assert [each.node_type for each in project.classes] == ["metal3.gpu-h100", "terraform.gpu-h100", "metal3.gpu-h100"]


def test_where_no_class_has_room_it_waits_and_is_told_of_each() -> None:
    bench = asked(CLOUD)

    full(bench, FULL, UNKNOWN)

    told = [each for each in bench.told if isinstance(each, CapacityWaiting)][-1]
    assert told.reason == "NoCapacity"
    assert bench.claim.passed_over == (
        "metal3.gpu-h100 has 0 free of 1 wanted",
        "terraform.gpu-h100 is not known to the Platform",
    )
    assert bench.claim.passed_over[1] in holdings([bench.claim], {})[0].why


def test_a_class_that_the_platform_does_not_know_is_passed_over_and_only_if_all_are_unknown_it_fails() -> None:
    bench = asked(CLOUD)
    full(bench, UNKNOWN, ROOMY)
    assert [each.node_type for each in bench.told if isinstance(each, CapacityReserved)] == ["terraform.gpu-h100"]

    bench = asked(CLOUD)
    full(bench, UNKNOWN, UNKNOWN)
    assert [each.reason for each in bench.told if isinstance(each, CapacityFailed)] == ["NodeTypeUnknown"]


def test_what_is_held_stays_on_its_class_whatever_becomes_free_and_after_an_update() -> None:
    bench = asked(CLOUD)
    full(bench, FULL, ROOMY)

    bench.see(project=READY_PROJECT)
    again = requested(fewest=2).model_copy(update={"placement": PLACEMENT.model_copy(update={"fallbacks": (CLOUD,)})})
    bench.hear(again, generation=2, sequence=9)

    placement = bench.claim.placement
    assert placement is not None
    assert (placement.node_type, placement.cluster_template) == ("terraform.gpu-h100", "cloud-h100@2")
