"""The seed's provisioning flow on a real Kubernetes: from a request to a warm replica, and back to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from libs.common.events.runtime import CacheWarmed, ReplicasChanged, RuntimeFailed
from libs.common.units import GIB, MINUTE_MS
from services.runtime_deployer.core.lifecycle import Stage
from services.runtime_deployer.core.manifests import NAMESPACE, namespace, render
from services.runtime_deployer.core.plan import Apply
from services.runtime_deployer.shell.connections import APPLY
from services.runtime_deployer.shell.kubernetes import AUTOSCALERS, KubernetesClusters
from tests.integration.kube.deployer import ANY, Deployer
from tests.integration.kube.running import Kube
from tests.integration.runtime_bench import STEPS
from tests.unit.runtime_deployer.a_runtime import (
    VLLM,
    a_placement,
    cluster_ready,
    deletion_requested,
    gpu_ready,
    requested,
    scale_decided,
    withdrawn,
)

pytestmark = [pytest.mark.kube, pytest.mark.xdist_group("kube"), pytest.mark.timeout(600)]

OURS = {"deployments", "networkpolicies", "poddisruptionbudgets", "serviceaccounts", "services"}
THEIRS = {"endpointslices", "pods", "replicasets"}  # What the controllers make of them.
SERVICES = f"/api/v1/namespaces/{NAMESPACE}/services"
QUOTA = f"/api/v1/namespaces/{NAMESPACE}/resourcequotas/gpus"


@pytest.fixture
def deployer(kube: Kube) -> Iterator[Deployer]:
    """A deployer; whatever its endpoint still has at the end is removed as a customer would have it."""
    if not kube.is_ours:
        pytest.skip("the engines of a cluster that is not ours can't be reached through its API server")
    made = Deployer(kube)
    yield made
    made.hear(deletion_requested(generation=90, sequence=90), withdrawn(generation=90, sequence=90))
    made.until_stage(Stage.REMOVED)
    made.connections.close()


def ask_for(deployer: Deployer, template: str = "vllm@1", **more: Any) -> None:
    placement = a_placement(template=template, **more).model_copy(update={"model_size_bytes": GIB})
    deployer.hear(requested(placement=placement), cluster_ready(), gpu_ready())


def plurals(deployer: Deployer) -> set[str]:
    return {each.partition("/")[0] for each in deployer.objects()}


def test_an_endpoint_comes_up_step_by_step_scales_and_leaves_no_object(deployer: Deployer) -> None:
    ask_for(deployer)
    deployer.until_stage(Stage.SERVING)

    assert [each for each in deployer.kinds if each in STEPS] == list(STEPS)
    (replica,) = deployer.last(CacheWarmed).replicas
    assert replica.url.startswith("http://10.64.")
    assert plurals(deployer) == OURS | THEIRS

    deployer.hear(scale_decided(2))
    deployer.until(lambda: len(deployer.runtime.replicas_told.replicas) == 2, "two replicas")
    deployer.hear(scale_decided(1, sequence=2))
    deployer.until(lambda: len(deployer.runtime.replicas_told.replicas) == 1, "one replica again")
    told = [(each.data.desired, each.data.ready) for each in deployer.told if isinstance(each.data, ReplicasChanged)]
    assert (2, 2) in told
    assert told[-1] == (1, 1)

    deployer.hear(deletion_requested(), withdrawn())
    deployer.until_stage(Stage.REMOVED)

    assert deployer.objects() == {}
    assert deployer.kinds.count("runtime.removed") == 1
    assert deployer.ask("GET", f"/api/v1/namespaces/{NAMESPACE}").is_ok, "the namespace is shared and stays"


def test_what_is_applied_twice_changes_nothing(deployer: Deployer) -> None:
    ask_for(deployer)
    deployer.until_stage(Stage.SERVING)
    deployer.until(lambda: _is_quiet(deployer), "at rest")
    before = {name: each["metadata"]["resourceVersion"] for name, each in deployer.objects().items()}

    template = deployer.runtime.template
    assert template is not None
    clusters = KubernetesClusters(deployer.connections)
    for manifest in render(deployer.runtime, template):
        clusters.apply(Apply(ANY, manifest))
    deployer.start()
    for _ in range(10):
        deployer.step()

    assert {name: each["metadata"]["resourceVersion"] for name, each in deployer.objects().items()} == before


def test_an_edit_of_somebody_else_is_kept_and_reported(deployer: Deployer) -> None:
    ask_for(deployer)
    deployer.until_stage(Stage.SERVING)
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{deployer.endpoint}"
    edit = {"spec": {"replicas": 2}}

    deployer.ask("PATCH", path, edit, "application/merge-patch+json", fieldManager="kubectl-edit")
    deployer.until(lambda: "kubectl-edit" in deployer.runtime.delay, "reported")

    assert deployer.runtime.delay.startswith("field_conflict")
    assert ".spec.replicas" in deployer.runtime.delay
    assert deployer.ask("GET", path).body["spec"]["replicas"] == 2
    assert "runtime.failed" not in deployer.kinds


def test_a_quota_of_gpus_blocks_and_says_so_and_lets_the_endpoint_up_once_it_is_raised(deployer: Deployer) -> None:
    _quota(deployer, "0")
    try:
        ask_for(deployer)
        deployer.until(lambda: deployer.runtime.trouble is not None, "in trouble")

        trouble = deployer.runtime.trouble
        assert trouble is not None
        assert trouble.reason == "QuotaExceeded"
        assert "exceeded quota: gpus, requested: requests.nvidia.com/gpu=4" in trouble.message

        _quota(deployer, "4")
        deployer.until_stage(Stage.SERVING)
        assert "runtime.failed" not in deployer.kinds
    finally:
        deployer.ask("DELETE", QUOTA)


def test_a_change_of_template_goes_through_where_a_quota_has_no_room_for_a_replica_more(deployer: Deployer) -> None:
    _quota(deployer, "4")
    try:
        ask_for(deployer)
        deployer.until_stage(Stage.SERVING)
        (old,) = deployer.runtime.replicas_told.replicas
        placement = a_placement(template="vllm@2").model_copy(update={"model_size_bytes": GIB})

        deployer.hear(requested(generation=2, sequence=20, placement=placement))
        deployer.until(lambda: deployer.runtime.has_served and deployer.stage is Stage.SERVING, "warm again")

        (new,) = deployer.runtime.replicas_told.replicas
        assert new.name != old.name
        assert deployer.runtime.no_room_for == deployer.runtime.recipe, "the quota was what said so"
        assert "runtime.failed" not in deployer.kinds
    finally:
        deployer.ask("DELETE", QUOTA)


def test_a_quota_that_stays_fails_the_endpoint_with_its_words(deployer: Deployer) -> None:
    _quota(deployer, "0")
    try:
        ask_for(deployer)
        deployer.until(lambda: deployer.runtime.trouble is not None, "in trouble")
        deployer.clock.advance(10 * MINUTE_MS)
        deployer.until_stage(Stage.FAILED)
    finally:
        deployer.ask("DELETE", QUOTA)

    failure = deployer.last(RuntimeFailed)
    assert failure.reason == "QuotaExceeded"
    assert "limited: requests.nvidia.com/gpu=0" in failure.message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"engine_image": "fake.test/missing:1"}, "ImagePullBackOff"),
        ({"engine_image": "fake.test/engine:1", "fetch_image": "fake.test/says-DigestMismatch:1"}, "DigestMismatch"),
        ({"engine_image": "fake.test/engine:1", "fetch_image": "fake.test/says-ModelGated:1"}, "ModelGated"),
        ({"fetch_image": "fake.test/oom:1"}, "OOMKilled"),
    ],
)
def test_trouble_of_a_pod_is_told_by_its_reason(deployer: Deployer, change: dict[str, str], reason: str) -> None:
    deployer.templates["vllm@1"] = replace(VLLM, **change)  # type: ignore[arg-type]  # Texts are texts.
    deployer.start()
    ask_for(deployer)
    deployer.until(lambda: deployer.runtime.trouble is not None or deployer.stage is Stage.FAILED, "in trouble")
    deployer.clock.advance(10 * MINUTE_MS)

    deployer.until_stage(Stage.FAILED)

    assert deployer.last(RuntimeFailed).reason == reason


def test_a_field_that_no_schema_has_is_refused_by_name_before_anything_is_applied(deployer: Deployer) -> None:
    deployer.templates["vllm@1"] = replace(VLLM, pod={"prioritClassName": "gold"})
    deployer.start()
    ask_for(deployer)

    deployer.until_stage(Stage.FAILED)

    failure = deployer.last(RuntimeFailed)
    assert failure.reason == "InvalidObject"
    assert "prioritClassName" in failure.message
    assert deployer.objects() == {}


def test_an_object_that_somebody_else_owns_is_refused_before_anything_is_applied_and_survives(
    deployer: Deployer,
) -> None:
    KubernetesClusters(deployer.connections).apply(Apply(ANY, namespace()))
    metadata = {"name": deployer.endpoint, "labels": {"app": "theirs"}}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 1}]}}
    path = f"{SERVICES}/{deployer.endpoint}"
    deployer.ask("PATCH", path, body, APPLY, fieldManager="theirs")
    ask_for(deployer)

    deployer.until_stage(Stage.FAILED)

    failure = deployer.last(RuntimeFailed)
    assert failure.reason == "ForeignObject"
    assert f"Service {NAMESPACE}/{deployer.endpoint} is there and not ours" in failure.message
    assert deployer.objects() == {}
    deployer.hear(deletion_requested(), withdrawn())
    deployer.until_stage(Stage.REMOVED)
    assert deployer.ask("DELETE", path).is_ok, "what is not ours was not deleted either"


def test_a_workload_that_somebody_else_scales_is_refused_before_anything_is_applied(deployer: Deployer) -> None:
    KubernetesClusters(deployer.connections).apply(Apply(ANY, namespace()))
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployer.endpoint}
    body = {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "theirs"},
        "spec": {"scaleTargetRef": target, "maxReplicas": 3},
    }  # fmt: skip
    assert deployer.ask("PATCH", f"{AUTOSCALERS}/theirs", body, APPLY, fieldManager="theirs").is_ok
    try:
        ask_for(deployer)
        deployer.until_stage(Stage.FAILED)
    finally:
        deployer.ask("DELETE", f"{AUTOSCALERS}/theirs")

    assert deployer.last(RuntimeFailed).reason == "ForeignAutoscaler"
    assert deployer.objects() == {}


def _quota(deployer: Deployer, gpus: str) -> None:
    KubernetesClusters(deployer.connections).apply(Apply(ANY, namespace()))
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpus"}}
    spec = {"spec": {"hard": {"requests.nvidia.com/gpu": gpus}}}
    assert deployer.ask("PATCH", QUOTA, {**body, **spec}, APPLY, fieldManager="operator").is_ok
    deployer.until(
        lambda: deployer.ask("GET", QUOTA).body.get("status", {}).get("hard", {}) == spec["spec"]["hard"], "counted"
    )


def _is_quiet(deployer: Deployer) -> bool:
    """Whether nothing moves any more, the controllers' own bookkeeping included."""
    first = {name: each["metadata"]["resourceVersion"] for name, each in deployer.objects().items()}
    for _ in range(10):
        deployer.step()
    return {name: each["metadata"]["resourceVersion"] for name, each in deployer.objects().items()} == first
