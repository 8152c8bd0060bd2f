"""Trouble that can be ordered of the Platform: each fault does what it says, and ends when it is called off."""

from __future__ import annotations

from typing import Any

from libs.twin.options import NODE_TYPES, Faults, TwinOptions
from tests.unit.twin.scene import CLAIMS, INSTANCES, KEY, MANAGEMENT, MINUTE, SECOND, Scene

FAULTS = "/twin/v1/faults"
PARTIAL = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


def order(scene: Scene, **faults: Any) -> None:
    assert scene.ask("POST", FAULTS, faults).status == 200


def names(scene: Scene) -> list[str]:
    return [each["metadata"]["name"] for each in scene.items(INSTANCES)]


def test_trouble_may_be_there_from_the_beginning() -> None:
    options = TwinOptions.model_validate_json('{"faults": {"no_capacity": true}}')

    scene = Scene(faults=options.faults)
    scene.ready_cluster()

    assert scene.items(CLAIMS)[0]["status"]["reason"] == "NoCapacity"


def test_what_is_no_fault_is_refused_and_changes_nothing() -> None:
    scene = Scene()

    assert scene.ask("POST", FAULTS, {"no_capacity": True, "unheard_of": 1}).status == 400
    assert scene.get(FAULTS) == Faults().model_dump(mode="json")


def test_an_expired_key_is_refused_for_so_many_calls() -> None:
    scene = Scene()
    order(scene, unauthorized_calls=2)

    assert [scene.ask("GET", f"{MANAGEMENT}/projects").status for _ in range(3)] == [401, 401, 200]


def test_a_type_may_have_fewer_nodes_than_it_has_claims() -> None:
    scene = Scene()
    scene.ready_cluster(nodes=2)

    order(scene, capacity={"metal3.gpu-h100": 1})
    scene.merge(f"{INSTANCES}/ep-1", {"spec": {"parameters": "gpuQuantity: 3\nnodeType: metal3.gpu-h100\n"}})
    scene.later(MINUTE)

    h100 = scene.get(f"{MANAGEMENT}/nodetypes/metal3.gpu-h100")
    assert h100["status"]["capacity"] == {"total": 1, "claimed": 2}
    reasons = [each["status"].get("reason", "") for each in scene.items(CLAIMS)]
    assert sorted(reasons) == ["", "", "NoCapacity"]
    order(scene, capacity={})
    scene.later(10 * MINUTE)
    assert all(each["status"]["phase"] == "Available" for each in scene.items(CLAIMS))


def test_a_lost_node_fails_its_claim_and_the_pool_replaces_it() -> None:
    scene = Scene()
    scene.ready_cluster()
    (before,) = scene.items(CLAIMS)

    order(scene, lost_nodes=1)
    scene.later(SECOND)
    (failed,) = scene.items(CLAIMS)
    assert (failed["status"]["phase"], failed["status"]["reason"]) == ("Failed", "NodeLost")
    scene.later(20 * MINUTE)

    (after,) = scene.items(CLAIMS)
    assert after["metadata"]["name"] != before["metadata"]["name"]
    assert after["status"]["phase"] == "Available"


def test_a_delete_may_be_accepted_and_never_happen() -> None:
    scene = Scene()
    scene.ready_cluster()
    order(scene, ignored_deletes=1)

    assert scene.ask("DELETE", f"{INSTANCES}/ep-1").status == 200
    scene.later(10 * MINUTE)
    assert "deletionTimestamp" not in scene.get(f"{INSTANCES}/ep-1")["metadata"]
    scene.ask("DELETE", f"{INSTANCES}/ep-1")
    scene.later(10 * MINUTE)

    assert scene.ask("GET", f"{INSTANCES}/ep-1").status == 404


def test_a_404_may_come_while_it_is_still_there() -> None:
    scene = Scene()
    scene.ready_cluster()
    order(scene, early_404_ms=5 * SECOND, delete_factor=10.0)
    scene.ask("DELETE", f"{INSTANCES}/ep-1")

    assert scene.ask("GET", f"{INSTANCES}/ep-1").status == 404
    assert names(scene) == []
    scene.later(6 * SECOND)

    assert scene.ask("GET", f"{INSTANCES}/ep-1").status == 200
    assert names(scene) == ["ep-1"]


def test_a_list_may_lag_behind_both_ways_and_a_get_does_not() -> None:
    scene = Scene()
    scene.project()
    order(scene, stale_list_ms=3 * SECOND)
    scene.instance()

    assert names(scene) == []
    assert scene.ask("GET", f"{INSTANCES}/ep-1").status == 200
    scene.later(4 * SECOND)
    assert names(scene) == ["ep-1"]
    scene.later(10 * MINUTE)
    scene.ask("DELETE", f"{INSTANCES}/ep-1")
    while scene.ask("GET", f"{INSTANCES}/ep-1").status == 200:
        scene.later(SECOND)
    assert names(scene) == ["ep-1"]
    scene.later(4 * SECOND)

    assert names(scene) == []


def test_a_list_of_metadata_has_nothing_else() -> None:
    scene = Scene()
    scene.ready_cluster()

    answer = scene.world.request("GET", INSTANCES, {}, {**KEY, "accept": PARTIAL}, b"").json()

    assert answer["kind"] == "PartialObjectMetadataList"
    (item,) = answer["items"]
    assert set(item) == {"metadata"}
    assert item["metadata"]["name"] == "ep-1"


def test_many_nodes_cost_what_changes_and_not_what_is_there() -> None:
    """Counted, not timed: a change in one of many clusters has one cluster's controllers look."""
    scene = Scene(node_types=(NODE_TYPES[0].model_copy(update={"capacity": 100}), NODE_TYPES[1]))
    scene.project()
    for number in range(40):
        body = {
            "metadata": {"name": f"ep-{number}"},
            "spec": {
                "templateRef": {"name": "inference-h100", "version": "1.0.0"},
                "parameters": "gpuQuantity: 1\nnodeType: metal3.gpu-h100\n",
            },
        }
        assert scene.ask("POST", INSTANCES, body).status == 201
    scene.later(20 * MINUTE)
    looked: list[str] = []
    for key, tenant in scene.world.tenants.items():
        assert tenant.cluster is not None
        step = tenant.cluster.step
        tenant.cluster.step = lambda now_ms, key=key, step=step: looked.append(key[1]) or step(now_ms)  # type: ignore

    path = "/kubernetes/project/acme/virtualcluster/ep-7/api/v1/namespaces"
    assert scene.ask("POST", path, {"metadata": {"name": "inference"}}).status == 201
    scene.later(MINUTE)

    assert set(looked) == {"ep-7"}
