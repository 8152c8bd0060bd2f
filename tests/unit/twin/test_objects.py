"""The Kubernetes API of a tenant cluster: verbs, versions, patches, apply, watches and cascades."""

from __future__ import annotations

import json

import pytest

from tests.unit.twin.scene import KEY, MINUTE, SECOND, TENANT, Json, Scene, a_deployment

CORE = f"{TENANT}/api/v1"
MAPS = f"{CORE}/namespaces/inference/configmaps"
DEPLOYMENT = f"{TENANT}/apis/apps/v1/namespaces/inference/deployments/ep-1"


@pytest.fixture(scope="module")
def ready() -> Scene:
    """One cluster for tests that leave nothing in it that another would see."""
    scene = Scene(history_max=60)
    scene.ready_cluster()
    scene.namespace()
    return scene


def a_map(name: str, labels: dict[str, str] | None = None, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels or {}}, "data": data}


def events_of(text: bytes) -> list[tuple[str, str]]:
    lines = [json.loads(each) for each in text.splitlines()]
    return [(each["type"], each["object"]["metadata"].get("name", "")) for each in lines]


def test_an_object_is_created_read_and_deleted(ready: Scene) -> None:
    created = ready.ask("POST", MAPS, a_map("life"))
    again = ready.ask("POST", MAPS, a_map("life"))
    read = ready.get(f"{MAPS}/life")
    deleted = ready.ask("DELETE", f"{MAPS}/life")
    gone = ready.ask("GET", f"{MAPS}/life")

    assert created.status == 201
    assert read == created.json()
    assert read["metadata"]["uid"]
    assert (again.status, again.json()["reason"]) == (409, "AlreadyExists")
    assert deleted.json()["status"] == "Success"
    assert (gone.status, gone.json()["reason"], gone.json()["details"]["name"]) == (404, "NotFound", "life")


def test_the_same_name_later_is_another_object(ready: Scene) -> None:
    first = ready.ask("POST", MAPS, a_map("twice")).json()
    ready.ask("DELETE", f"{MAPS}/twice")
    second = ready.ask("POST", MAPS, a_map("twice")).json()

    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    assert int(first["metadata"]["resourceVersion"]) < int(second["metadata"]["resourceVersion"])


def test_applying_the_same_twice_changes_nothing() -> None:
    scene = Scene()
    scene.serving()
    before = scene.deployment()

    scene.later(MINUTE)
    after = scene.deploy(a_deployment())

    assert after == before


def test_apply_creates_then_merges_and_takes_back_what_it_no_longer_says(ready: Scene) -> None:
    path = f"{MAPS}/applied"
    created = ready.apply(path, a_map("applied", {"keep": "1"}, a="1", b="2"))
    ready.merge(path, {"data": {"theirs": "x"}})
    changed = ready.apply(path, a_map("applied", {"keep": "1"}, a="3"))

    assert (created.status, changed.status) == (201, 200)
    assert changed.json()["data"] == {"a": "3", "theirs": "x"}
    assert changed.json()["metadata"]["labels"] == {"keep": "1"}


def test_two_managers_conflict_over_one_field_unless_one_forces(ready: Scene) -> None:
    path = f"{MAPS}/contested"
    ready.apply(path, a_map("contested", a="1"), manager="one")

    refused = ready.apply(path, a_map("contested", a="2"), manager="two")
    agreed = ready.apply(path, a_map("contested", a="1"), manager="two")
    forced = ready.apply(path, a_map("contested", a="2"), manager="two", force="true")

    assert (refused.status, refused.json()["reason"]) == (409, "Conflict")
    assert refused.json()["details"]["causes"][0]["reason"] == "FieldManagerConflict"
    assert agreed.status == 200
    assert forced.json()["data"] == {"a": "2"}


def test_apply_merges_containers_by_name() -> None:
    scene = Scene()
    scene.serving()
    changed = a_deployment()
    changed["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "NEW", "value": "1"})

    containers = scene.deploy(changed)["spec"]["template"]["spec"]["containers"]

    assert [each["name"] for each in containers] == ["engine"]
    assert [each["name"] for each in containers[0]["env"]] == ["POD_IP", "NEW"]


def test_apply_needs_a_manager(ready: Scene) -> None:
    body = a_map("x")
    answer = ready.ask("PATCH", f"{MAPS}/x", body, kind="application/apply-patch+yaml")

    assert answer.status == 422


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("application/merge-patch+json", {"data": {"a": "2", "b": None}}),
        ("application/strategic-merge-patch+json", {"data": {"a": "2", "b": None}}),
        (
            "application/json-patch+json",
            [{"op": "replace", "path": "/data/a", "value": "2"}, {"op": "remove", "path": "/data/b"}],
        ),
    ],
)
def test_the_three_patches_change_an_object(ready: Scene, kind: str, patch: object) -> None:
    ready.ask("DELETE", f"{MAPS}/patched")
    ready.ask("POST", MAPS, a_map("patched", a="1", b="1"))

    answer = ready.ask("PATCH", f"{MAPS}/patched", patch, kind=kind)

    assert answer.json()["data"] == {"a": "2"}


def test_a_patch_on_an_old_version_conflicts(ready: Scene) -> None:
    old = ready.ask("POST", MAPS, a_map("raced")).json()["metadata"]["resourceVersion"]
    ready.merge(f"{MAPS}/raced", {"data": {"a": "1"}})

    answer = ready.merge(f"{MAPS}/raced", {"metadata": {"resourceVersion": old}, "data": {"a": "2"}})

    assert (answer.status, answer.json()["reason"]) == (409, "Conflict")


def test_bad_bodies_are_refused_and_nothing_is_made(ready: Scene) -> None:
    before = ready.items(MAPS)

    def post(body: bytes) -> int:
        return ready.world.request("POST", MAPS, {}, {**KEY, "content-type": "application/json"}, body).status

    assert post(b"{not json: [") == 400
    assert post(b"[]") == 400
    assert ready.ask("POST", MAPS, {"kind": "Secret", "metadata": {"name": "x"}}).status == 400
    assert ready.ask("POST", MAPS, {"metadata": {}}).status == 422
    assert ready.ask("POST", MAPS, {"metadata": {"name": "Not_A_Name"}}).status == 422
    assert ready.ask("PATCH", f"{MAPS}/x", {}, kind="text/plain").status in {404, 415}
    assert ready.ask("GET", f"{CORE}/unicorns").status == 404
    assert ready.ask("PUT", MAPS, {}).status == 405
    assert ready.ask("POST", MAPS, {"metadata": {"name": "x", "labels": ["a"]}}).status == 400
    assert ready.ask("POST", MAPS, {"metadata": "x"}).status == 400
    assert ready.ask("GET", MAPS, limit="many").status == 400
    assert ready.items(MAPS) == before


def test_nothing_is_made_in_a_namespace_that_is_not_there(ready: Scene) -> None:
    answer = ready.ask("POST", f"{CORE}/namespaces/nowhere/configmaps", a_map("x"))

    assert (answer.status, answer.json()["message"]) == (404, 'namespaces "nowhere" not found')


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"selector": {"matchLabels": {"app": "other"}}}, "spec.template.metadata.labels"),
        ({"replicas": -1}, "spec.replicas"),
        ({"replicas": "two"}, "spec.replicas"),
        ({"template": {"metadata": {"labels": {"app": "ep-1"}}, "spec": {}}}, "spec.template.spec.containers"),
    ],
)
def test_a_deployment_of_a_wrong_shape_is_refused(ready: Scene, change: Json, field: str) -> None:
    body = a_deployment()
    body["spec"].update(change)

    answer = ready.ask("POST", DEPLOYMENT.rsplit("/", 1)[0], body)

    assert answer.status == 422
    assert answer.json()["details"]["causes"][0]["field"] == field


def test_lists_are_picked_by_labels_and_fields(ready: Scene) -> None:
    for name, tier in (("pick-a", "gold"), ("pick-b", "silver")):
        ready.ask("POST", MAPS, a_map(name, {"tier": tier, "set": "pick"}))

    def names(**query: str) -> list[str]:
        return [each["metadata"]["name"] for each in ready.items(MAPS, **query)]

    assert names(labelSelector="set=pick,tier!=gold") == ["pick-b"]
    assert names(labelSelector="tier in (gold,silver),set") == ["pick-a", "pick-b"]
    assert names(labelSelector="set,tier notin (silver)") == ["pick-a"]
    assert names(labelSelector="!set,tier") == []
    assert names(fieldSelector="metadata.name=pick-b") == ["pick-b"]
    assert ready.ask("GET", MAPS, labelSelector="a in (").status == 400


def test_a_long_list_comes_in_pages(ready: Scene) -> None:
    for number in range(5):
        ready.ask("POST", MAPS, a_map(f"page-{number}", {"paged": "yes"}))
    names: list[str] = []
    query = {"labelSelector": "paged=yes", "limit": "2"}

    while True:
        page = ready.get(MAPS, **query)
        names += [each["metadata"]["name"] for each in page["items"]]
        if "continue" not in page["metadata"]:
            break
        query["continue"] = page["metadata"]["continue"]

    assert names == [f"page-{number}" for number in range(5)]


def test_a_watch_tells_what_came_changed_and_went(ready: Scene) -> None:
    start = ready.get(MAPS)["metadata"]["resourceVersion"]
    ready.ask("POST", MAPS, a_map("watched", {"see": "me"}))
    ready.merge(f"{MAPS}/watched", {"data": {"a": "1"}})
    ready.ask("POST", MAPS, a_map("unseen"))
    ready.merge(f"{MAPS}/watched", {"metadata": {"labels": {"see": "not"}}})
    ready.ask("DELETE", f"{MAPS}/watched")

    some = ready.ask("GET", MAPS, watch="true", resourceVersion=start, labelSelector="see=me")
    every = ready.ask("GET", MAPS, watch="1", resourceVersion=start, fieldSelector="metadata.name=watched")

    assert events_of(some.body) == [("ADDED", "watched"), ("MODIFIED", "watched"), ("DELETED", "watched")]
    assert [verb for verb, _ in events_of(every.body)] == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]


def test_a_watch_from_nowhere_begins_with_what_there_is(ready: Scene) -> None:
    ready.ask("POST", MAPS, a_map("present", {"here": "yes"}))

    answer = ready.ask("GET", MAPS, watch="true", labelSelector="here=yes")

    assert events_of(answer.body) == [("ADDED", "present")]


def test_a_watch_from_too_long_ago_is_told_410(ready: Scene) -> None:
    for number in range(80):
        ready.merge(f"{CORE}/namespaces/inference", {"metadata": {"annotations": {"n": str(number)}}})

    answer = ready.ask("GET", MAPS, watch="true", resourceVersion="2")

    (event,) = [json.loads(each) for each in answer.body.splitlines()]
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


def test_a_namespace_takes_everything_along() -> None:
    scene = Scene()
    scene.serving()
    scene.ask("POST", MAPS, a_map("inside"))

    marked = scene.ask("DELETE", f"{CORE}/namespaces/inference").json()
    refused = scene.ask("POST", MAPS, a_map("late"))
    scene.later(MINUTE)

    assert marked["status"]["phase"] == "Terminating"
    assert (refused.status, refused.json()["reason"]) == (403, "Forbidden")
    assert scene.ask("GET", f"{CORE}/namespaces/inference").status == 404
    assert scene.engines.running() == ()
    assert scene.world.inventory()["objects"] == []


def test_pods_go_after_their_deployment() -> None:
    scene = Scene()
    scene.serving(replicas=2)

    assert scene.ask("DELETE", DEPLOYMENT).status == 200
    assert scene.ask("GET", DEPLOYMENT).status == 404
    scene.later(MINUTE)

    assert scene.pods() == []
    assert scene.engines.running() == ()


def test_in_the_foreground_pods_go_before_their_deployment() -> None:
    scene = Scene()
    scene.engines.stop_ms = 10 * SECOND
    scene.serving()

    scene.ask("DELETE", DEPLOYMENT, {"propagationPolicy": "Foreground"})
    scene.later(5 * SECOND)
    assert scene.deployment()["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert len(scene.pods()) == 1
    scene.later(10 * SECOND)

    assert scene.ask("GET", DEPLOYMENT).status == 404
    assert scene.pods() == []


def test_orphaned_pods_stay() -> None:
    scene = Scene()
    scene.serving()

    scene.ask("DELETE", DEPLOYMENT, {"propagationPolicy": "Orphan"})
    scene.later(MINUTE)

    assert scene.ask("GET", DEPLOYMENT).status == 404
    assert [each["metadata"].get("ownerReferences") for each in scene.pods()] == [[]]


def test_secrets_are_stored_encoded(ready: Scene) -> None:
    body = {"metadata": {"name": "token"}, "stringData": {"key": "secret"}}

    created = ready.ask("POST", f"{CORE}/namespaces/inference/secrets", body).json()

    assert created["data"] == {"key": "c2VjcmV0"}
    assert "stringData" not in created


def test_a_dry_run_says_what_would_be(ready: Scene) -> None:
    answer = ready.ask("POST", MAPS, a_map("dry"), dryRun="All")

    assert answer.status == 201
    assert ready.ask("GET", f"{MAPS}/dry").status == 404


def test_scale_changes_only_replicas() -> None:
    scene = Scene()
    scene.serving(replicas=1)

    scale = scene.merge(f"{DEPLOYMENT}/scale", {"spec": {"replicas": 2}}).json()
    scene.later(5 * MINUTE)

    assert scale["kind"] == "Scale"
    assert scene.deployment()["status"]["readyReplicas"] == 2


def test_discovery_names_every_kind(ready: Scene) -> None:
    groups = [each["name"] for each in ready.get(f"{TENANT}/apis")["groups"]]
    resources = {each["name"] for each in ready.get(f"{TENANT}/api/v1")["resources"]}

    assert groups == ["apps", "networking.k8s.io", "node.k8s.io", "policy"]
    assert {"pods", "pods/proxy", "nodes", "namespaces", "secrets"} <= resources


def test_a_budget_forbids_the_eviction_that_would_break_it() -> None:
    scene = Scene()
    scene.serving(replicas=1)
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "ep-1", "namespace": "inference"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "ep-1"}}},
    }
    path = f"{TENANT}/apis/policy/v1/namespaces/inference/poddisruptionbudgets"
    scene.ask("POST", path, budget)
    name = scene.pods()[0]["metadata"]["name"]
    eviction = f"{CORE}/namespaces/inference/pods/{name}/eviction"

    refused = scene.ask("POST", eviction, {})
    scene.ask("DELETE", f"{path}/ep-1")
    granted = scene.ask("POST", eviction, {})

    assert (refused.status, granted.status) == (429, 201)
