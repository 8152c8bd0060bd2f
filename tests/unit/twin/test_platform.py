"""The management API: who may ask, projects, tenant clusters, and the errors that adapters must tell apart."""

from __future__ import annotations

import pytest
import yaml

from tests.unit.twin.scene import (
    CLAIMS,
    INSTANCES,
    MANAGEMENT,
    MINUTE,
    SECOND,
    TENANT,
    Scene,
    a_deployment,
    an_instance,
    condition,
    is_true,
)


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic twin-access-key"}])
def test_nobody_without_a_good_key_is_let_in(headers: dict[str, str]) -> None:
    scene = Scene()

    for path in (f"{MANAGEMENT}/projects", f"{TENANT}/api/v1/pods"):
        answer = scene.world.request("GET", path, {}, headers, b"")

        assert answer.status == 401
        assert answer.json()["reason"] == "Unauthorized"


def test_health_and_version_need_no_key() -> None:
    scene = Scene()

    assert scene.world.request("GET", "/healthz", {}, {}).status == 200
    assert "version" in scene.world.request("GET", "/version", {}, {}).json()


def test_a_self_says_who_asks_and_which_prefix_project_namespaces_have() -> None:
    answer = Scene().ask("POST", f"{MANAGEMENT}/selves", {"kind": "Self"})

    assert answer.status == 201
    assert answer.json()["status"]["projectNamespacePrefix"] == "p-"
    assert answer.json()["status"]["user"]["name"] == "inference-automation"


def test_a_project_takes_instances_only_once_its_namespace_is_there() -> None:
    scene = Scene()
    scene.ask("POST", f"{MANAGEMENT}/projects", {"metadata": {"name": "acme"}})

    early = scene.instance()
    scene.later(SECOND)
    late = scene.instance()

    assert (early.status, early.json()["message"]) == (404, 'namespaces "p-acme" not found')
    assert late.status == 201


def test_an_instance_passes_its_conditions_in_order_until_it_is_ready() -> None:
    scene = Scene()
    scene.project()
    scene.instance()
    seen: list[str] = []
    phases: list[str] = []

    for _ in range(70):
        scene.later(SECOND)
        found = scene.get(f"{INSTANCES}/ep-1")
        phases.append(found["status"]["phase"])
        seen += [each["type"] for each in found["status"]["conditions"] if each["type"] not in seen]

    wanted = ["Scheduled", "TemplateResolved", "SpaceReady", "VirtualClusterDeployed", "VirtualClusterReady"]
    assert [each for each in seen if each in wanted] == wanted
    assert phases[0] == "Pending"
    assert phases[-1] == "Ready"
    assert phases == sorted(phases)
    assert found["spec"]["clusterRef"]["namespace"] == "loft-acme-v-ep-1"


def test_a_tenant_cluster_answers_404_before_it_exists_and_503_until_it_is_ready() -> None:
    scene = Scene()
    scene.project()

    assert scene.ask("GET", f"{TENANT}/version").status == 404
    scene.instance()
    assert scene.ask("GET", f"{TENANT}/version").status == 503
    scene.later(2 * MINUTE)
    assert scene.get(f"{TENANT}/version")["gitVersion"] == "v1.36.5"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"templateRef": {"name": "no-such", "version": "1.0.0"}}, "TemplateNotFound"),
        ({"templateRef": {"name": "inference-h100", "version": "9.9.9"}}, "VersionNotFound"),
        ({"templateRef": {"name": "inference-h100", "version": "1"}}, "VersionError"),
        ({"parameters": "gpuQuantity: many"}, "ErrorSyncingParameters"),
        ({"parameters": "gpuQuantity: 1000"}, "ErrorSyncingParameters"),
        ({"parameters": "["}, "ErrorSyncingParameters"),
    ],
)
def test_an_instance_whose_template_cannot_be_resolved_says_why(spec: dict[str, object], reason: str) -> None:
    scene = Scene()
    scene.project()
    body = an_instance()
    body["spec"].update(spec)
    assert scene.ask("POST", INSTANCES, body).status == 201
    scene.later(2 * MINUTE)

    found = scene.get(f"{INSTANCES}/ep-1")

    assert condition(found, "TemplateResolved")["status"] == "False"
    assert condition(found, "TemplateResolved")["reason"] == reason
    assert found["status"]["phase"] == "Failed"


def test_a_wildcard_version_finds_the_newest() -> None:
    scene = Scene()
    scene.project()
    body = an_instance()
    body["spec"]["templateRef"]["version"] = "1.x.x"
    scene.ask("POST", INSTANCES, body)
    scene.later(2 * MINUTE)

    assert scene.get(f"{INSTANCES}/ep-1")["status"]["phase"] == "Ready"


def test_the_rendered_values_hold_the_parameters() -> None:
    scene = Scene()
    scene.ready_cluster(nodes=2)

    values = scene.get(f"{INSTANCES}/ep-1")["status"]["virtualCluster"]["helmRelease"]["values"]

    assert yaml.safe_load(values)["privateNodes"]["autoNodes"][0]["static"][0]["quantity"] == 2


def test_a_second_create_conflicts_and_a_name_comes_free_only_when_the_first_is_gone() -> None:
    scene = Scene()
    scene.ready_cluster()

    again = scene.instance()
    scene.ask("DELETE", f"{INSTANCES}/ep-1")
    during = scene.instance()
    scene.later(5 * MINUTE)
    after = scene.instance()

    assert (again.status, again.json()["reason"]) == (409, "AlreadyExists")
    assert during.status == 409
    assert after.status == 201


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"parameters": {"gpuQuantity": 1}}, "spec.parameters"),
        ({"templateRef": None}, "spec.templateRef"),
        ({"template": {"helmRelease": {}}}, "spec.templateRef"),
    ],
)
def test_an_instance_of_a_wrong_shape_is_refused(change: dict[str, object], field: str) -> None:
    scene = Scene()
    scene.project()
    body = an_instance()
    body["spec"].update(change)

    answer = scene.ask("POST", INSTANCES, body)

    assert answer.status == 422
    assert answer.json()["details"]["causes"][0]["field"] == field
    assert scene.items(INSTANCES) == []


def test_the_cluster_of_an_instance_cannot_be_changed() -> None:
    scene = Scene()
    scene.ready_cluster()

    answer = scene.merge(f"{INSTANCES}/ep-1", {"spec": {"clusterRef": {"cluster": "us-1"}}})

    assert answer.status == 422


@pytest.mark.parametrize("code", [422, 403])
def test_one_instance_more_than_the_quota_is_refused_in_the_platforms_words(code: int) -> None:
    scene = Scene(quota_denial_code=code)
    scene.project(quotas={"project": {"virtualclusterinstances": "1"}})
    scene.instance()
    body = an_instance()
    body["metadata"]["name"] = "ep-2"

    answer = scene.ask("POST", INSTANCES, body)

    assert answer.status == code
    what = "cannot create virtualclusterinstance, because project virtualclusterinstances limit of 1 would be exceeded"
    assert f"metadata.name: Forbidden: {what}" in answer.json()["message"]


def test_claims_beyond_the_quota_are_not_made_and_the_instance_says_so() -> None:
    scene = Scene()
    scene.ready_cluster(nodes=2, quotas={"project": {"nodeclaims": "1"}})

    provisioned = condition(scene.get(f"{INSTANCES}/ep-1"), "NodesProvisioned")

    assert len(scene.items(CLAIMS)) == 1
    assert provisioned["reason"] == "QuotaExceeded"
    assert "project nodeclaims limit of 1 would be exceeded" in provisioned["message"]
    assert (
        scene.merge(f"{MANAGEMENT}/projects/acme", {"spec": {"quotas": {"project": {"nodeclaims": "2"}}}}).status == 200
    )
    scene.later(10 * MINUTE)
    assert is_true(scene.get(f"{INSTANCES}/ep-1"), "NodesProvisioned")


def test_a_project_shows_only_the_node_types_that_it_allows() -> None:
    scene = Scene()
    scene.project(allowedNodeTypes=[{"name": "terraform.*"}])

    found = scene.get(f"{MANAGEMENT}/projects/acme/nodetypes")

    assert [each["metadata"]["name"] for each in found["nodeTypes"]] == ["terraform.gpu-l40s"]


def test_a_template_that_the_project_does_not_allow_is_refused() -> None:
    scene = Scene()
    allowed = {"kind": "VirtualClusterTemplate", "group": "storage.loft.sh", "name": "inference-l40s"}
    scene.project(allowedTemplates=[allowed])

    assert scene.instance().status == 403
    assert scene.instance(template="inference-l40s", node_type="terraform.gpu-l40s").status == 201


def test_an_update_must_say_which_version_it_saw() -> None:
    scene = Scene()
    scene.ready_cluster()
    seen = scene.get(f"{INSTANCES}/ep-1")
    scene.merge(f"{INSTANCES}/ep-1", {"metadata": {"labels": {"somebody": "else"}}})

    stale = scene.ask("PUT", f"{INSTANCES}/ep-1", seen)
    seen["metadata"].pop("resourceVersion")
    blind = scene.ask("PUT", f"{INSTANCES}/ep-1", seen)

    assert (stale.status, stale.json()["reason"]) == (409, "Conflict")
    assert blind.status == 422


def test_an_instance_has_no_status_subresource() -> None:
    scene = Scene()
    scene.ready_cluster()

    assert scene.ask("GET", f"{INSTANCES}/ep-1/status").status == 404


def test_a_delete_with_another_uid_is_refused() -> None:
    scene = Scene()
    scene.ready_cluster()

    answer = scene.ask("DELETE", f"{INSTANCES}/ep-1", {"preconditions": {"uid": "of the one before"}})

    assert answer.status == 409
    assert "deletionTimestamp" not in scene.get(f"{INSTANCES}/ep-1")["metadata"]


def test_nothing_is_left_after_the_instance_and_its_project_are_deleted() -> None:
    scene = Scene()
    scene.serving(nodes=2, replicas=3)
    assert len(scene.engines.running()) == 3

    marked = scene.ask("DELETE", f"{INSTANCES}/ep-1").json()
    assert "deletionTimestamp" in marked["metadata"]
    assert scene.ask("DELETE", f"{MANAGEMENT}/projects/acme").status == 200
    scene.later(SECOND)
    assert scene.get(f"{INSTANCES}/ep-1")["metadata"]["deletionTimestamp"]
    scene.later(5 * MINUTE)

    assert scene.ask("GET", f"{INSTANCES}/ep-1").status == 404
    assert scene.ask("GET", f"{MANAGEMENT}/projects/acme").status == 404
    assert all(found == [] for found in scene.world.inventory().values())
    types = scene.items(f"{MANAGEMENT}/nodetypes")
    assert [each["status"]["capacity"]["claimed"] for each in types] == [0, 0]
    assert scene.world.next_due_ms() is None


def test_a_project_waits_for_its_instances_and_takes_no_new_ones() -> None:
    scene = Scene()
    scene.ready_cluster()
    scene.ask("DELETE", f"{MANAGEMENT}/projects/acme")
    scene.later(MINUTE)
    body = an_instance()
    body["metadata"]["name"] = "ep-2"

    assert scene.get(f"{MANAGEMENT}/projects/acme")["metadata"]["deletionTimestamp"]
    assert scene.ask("POST", INSTANCES, body).status == 403


def test_faults_on_order_are_answered_so_many_times() -> None:
    scene = Scene()
    scene.ask("POST", "/twin/v1/faults", {"unavailable_calls": 2, "throttled_calls": 1})

    statuses = [scene.ask("GET", f"{MANAGEMENT}/projects").status for _ in range(4)]

    assert statuses == [503, 503, 429, 200]
    assert scene.ask("POST", "/twin/v1/faults", {"no_such": 1}).status == 400


def test_the_same_requests_at_the_same_times_make_the_same_world() -> None:
    def live() -> object:
        scene = Scene()
        scene.serving(nodes=2, replicas=2)
        return scene.world.inventory(), scene.pods()

    assert live() == live()


def test_one_long_step_leads_where_many_short_ones_do() -> None:
    def live(steps: int) -> object:
        scene = Scene()
        scene.ready_cluster(nodes=2)
        scene.namespace()
        scene.deploy(a_deployment(replicas=2))
        for _ in range(steps):
            scene.later(10 * MINUTE // steps)
        return scene.pods(), scene.items(CLAIMS)

    assert live(1) == live(600)
