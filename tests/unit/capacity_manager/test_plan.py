"""What is done on the Platform, and what is left alone."""

from __future__ import annotations

from libs.common.ids import EndpointId, ProjectId, TenantId
from services.capacity_manager.core.names import cluster_name, project_name
from services.capacity_manager.core.observed import Observed, ProjectSeen
from services.capacity_manager.core.plan import (
    Action,
    DeleteCluster,
    EnsureCluster,
    EnsureProject,
    ResizeCluster,
    plan,
    template_of,
)
from services.capacity_manager.core.question import question_of
from services.capacity_manager.core.state import Claim
from tests.unit.capacity_manager.builders import (
    NOW,
    READY_PROJECT,
    REMOVED,
    Bench,
    a_cluster,
    a_node,
    deletion,
    held,
    requested,
    scaled,
)


def planned(claim: Claim, **seen: object) -> tuple[Action, ...]:
    fields: dict[str, object] = {"project": READY_PROJECT, "cluster": None, **seen}
    return plan(claim, Observed.model_validate({"question": question_of(claim), **fields}), NOW)


def test_a_project_comes_first_and_a_cluster_only_once_quota_is_held() -> None:
    bench = Bench()
    bench.hear(requested())

    assert [type(each) for each in planned(bench.claim, project=None)] == [EnsureProject]
    assert planned(bench.claim) == ()
    bench.see()
    (action,) = planned(bench.claim)

    assert isinstance(action, EnsureCluster)
    assert (action.project, action.name, action.nodes) == ("mr-acme-prod", "ep-abc", 1)
    assert (action.template, action.template_version) == ("inference-h100", "1.0.0")


def test_a_claim_that_has_what_it_wants_does_nothing() -> None:
    assert planned(held(Bench()).claim, cluster=a_cluster(1)) == ()


def test_a_pool_grows_no_further_than_the_quota_that_is_held() -> None:
    bench = held(Bench(gpus=0))
    bench.hear(scaled(3))

    assert planned(bench.claim, cluster=a_cluster(1)) == ()
    bench.see(cluster=a_cluster(1), nodes=[a_node("n0")])

    assert planned(bench.claim, cluster=a_cluster(1)) == (
        ResizeCluster("mr-acme-prod", "ep-abc", 1, "metal3.gpu-h100", 3),
    )


def test_a_pool_whose_size_cannot_be_read_is_written_again() -> None:
    cluster = a_cluster(1).model_copy(update={"quantity": None})

    assert [type(each) for each in planned(held(Bench()).claim, cluster=cluster)] == [ResizeCluster]


def test_a_cluster_goes_only_after_the_runtime_and_only_the_one_that_was_seen() -> None:
    bench = held(Bench())
    bench.hear(deletion(), generation=2, sequence=2)

    assert planned(bench.claim, cluster=a_cluster()) == ()
    bench.hear(REMOVED, generation=2)

    assert planned(bench.claim, cluster=a_cluster()) == (DeleteCluster("mr-acme-prod", "ep-abc", "uid-1"),)
    assert planned(bench.claim, cluster=a_cluster(deleting=True)) == ()
    assert planned(bench.claim) == ()


def test_a_cluster_that_is_being_deleted_is_not_made_again_before_it_is_gone() -> None:
    assert planned(held(Bench()).claim, cluster=a_cluster(deleting=True)) == ()


def test_what_a_newer_generation_or_another_owner_wrote_is_left_alone() -> None:
    claim = held(Bench()).claim

    assert planned(claim, cluster=a_cluster(9, generation=2)) == ()
    assert planned(claim, cluster=a_cluster(9, ours=False)) == ()
    assert planned(claim, cluster=a_cluster(1), project=ProjectSeen(is_ours=False, is_as_wanted=False)) == ()


def test_a_failed_claim_does_nothing_until_it_is_unwanted() -> None:
    bench = Bench()
    bench.hear(requested())
    bench.see(cluster=a_cluster(refusal="TemplateUnknown"))
    assert planned(bench.claim, project=None) == ()

    bench.hear(deletion(), generation=2, sequence=2)
    bench.hear(REMOVED, generation=2)

    assert [type(each) for each in planned(bench.claim, cluster=a_cluster())] == [DeleteCluster]


def test_names_are_computed_and_fit_the_platform() -> None:
    plain = project_name(tenant_id=TenantId("acme"), project_id=ProjectId("prod"))
    long = project_name(tenant_id=TenantId("a-rather-long-tenant"), project_id=ProjectId("and-a-long-project"))

    assert plain == "mr-acme-prod"
    assert long == project_name(tenant_id=TenantId("a-rather-long-tenant"), project_id=ProjectId("and-a-long-project"))
    assert len(long) <= 30
    assert cluster_name(EndpointId("ep-abcdefghij")) == "ep-abcdefghij"
    assert len(cluster_name(EndpointId("ep-" + "x" * 60))) + len(long) <= 55


def test_a_template_may_have_no_version() -> None:
    assert template_of("inference-h100@1.0.0") == ("inference-h100", "1.0.0")
    assert template_of("inference-h100") == ("inference-h100", "")
