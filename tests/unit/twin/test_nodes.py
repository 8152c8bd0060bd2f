"""Node claims and nodes: capacity, joining, GPUs, failure, and who goes first when it becomes fewer."""

from __future__ import annotations

import pytest

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

NODES = f"{TENANT}/api/v1/nodes"


def resize(scene: Scene, nodes: int) -> None:
    parameters = f"gpuQuantity: {nodes}\nnodeType: metal3.gpu-h100\n"
    assert scene.merge(f"{INSTANCES}/ep-1", {"spec": {"parameters": parameters}}).status == 200


def test_claims_are_scheduled_then_provisioned_then_joined() -> None:
    scene = Scene()
    scene.project()
    scene.instance()
    scene.later(61 * SECOND)
    seen: list[str] = []

    for _ in range(31):
        scene.later(10 * SECOND)
        (claim,) = scene.items(CLAIMS)
        seen += [
            each["type"]
            for each in claim["status"]["conditions"]
            if each["status"] == "True" and each["type"] not in seen
        ]

    assert seen == ["Scheduled", "Provisioned", "Joined", "Ready"]
    assert claim["status"]["phase"] == "Available"
    assert claim["spec"]["typeRef"] == "metal3.gpu-h100"
    assert claim["spec"]["vClusterRef"] == "ep-1"
    assert claim["metadata"]["name"].startswith("ep-1-")
    assert claim["metadata"]["labels"]["millrace.dev/endpoint"] == "ep-1"


def test_a_node_offers_its_gpus_some_time_after_it_joined() -> None:
    scene = Scene()
    scene.project()
    scene.instance()
    scene.later(60 * SECOND + 5 * MINUTE + SECOND)
    (node,) = scene.items(NODES)
    assert is_true(node, "Ready")
    assert "nvidia.com/gpu" not in node["status"]["allocatable"]

    scene.later(90 * SECOND)
    (node,) = scene.items(NODES)

    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"
    assert node["metadata"]["labels"]["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
    assert node["metadata"]["labels"]["node.kubernetes.io/instance-type"] == "metal3.gpu-h100"


def test_a_node_type_counts_what_is_claimed() -> None:
    scene = Scene()
    scene.ready_cluster(nodes=3)

    found = scene.get(f"{MANAGEMENT}/nodetypes/metal3.gpu-h100")

    assert found["status"]["capacity"] == {"total": 4, "claimed": 3}
    assert is_true(found, "HasCapacity")


def test_more_claims_than_nodes_wait_and_get_what_is_given_back() -> None:
    scene = Scene()
    scene.ready_cluster(nodes=4)
    body = an_instance()
    body["metadata"]["name"] = "ep-2"
    scene.ask("POST", INSTANCES, body)
    scene.later(10 * MINUTE)

    (waiting,) = [each for each in scene.items(CLAIMS) if each["spec"]["vClusterRef"] == "ep-2"]
    assert condition(waiting, "Scheduled")["reason"] == "NoCapacity"
    assert not is_true(scene.get(f"{MANAGEMENT}/nodetypes/metal3.gpu-h100"), "HasCapacity")

    scene.ask("DELETE", f"{INSTANCES}/ep-1")
    scene.later(10 * MINUTE)

    (served,) = scene.items(CLAIMS)
    assert is_true(served, "Joined")


def test_a_node_type_that_the_project_does_not_allow_is_not_claimed() -> None:
    scene = Scene()
    scene.ready_cluster(allowedNodeTypes=[{"name": "terraform.gpu-l40s"}])

    (claim,) = scene.items(CLAIMS)

    assert condition(claim, "Scheduled")["reason"] == "NodeTypeNotAllowed"


def test_a_failed_claim_is_replaced_by_another() -> None:
    scene = Scene()
    scene.project()
    scene.ask("POST", "/twin/v1/faults", {"failing_claims": 1})
    scene.instance()
    scene.later(60 * SECOND + 3 * MINUTE + 40 * SECOND)
    (failed,) = scene.items(CLAIMS)
    assert failed["status"]["phase"] == "Failed"

    scene.later(15 * MINUTE)

    (claim,) = scene.items(CLAIMS)
    assert claim["metadata"]["name"] != failed["metadata"]["name"]
    assert is_true(claim, "Joined")


def test_no_capacity_on_order_holds_claims_back_until_it_is_lifted() -> None:
    scene = Scene()
    scene.ask("POST", "/twin/v1/faults", {"no_capacity": True})
    scene.ready_cluster()
    assert condition(scene.items(CLAIMS)[0], "Scheduled")["reason"] == "NoCapacity"

    scene.ask("POST", "/twin/v1/faults", {"no_capacity": False})
    scene.later(10 * MINUTE)

    assert is_true(scene.items(CLAIMS)[0], "Joined")


def test_a_claim_deleted_by_hand_is_made_again() -> None:
    scene = Scene()
    scene.ready_cluster()
    (before,) = scene.items(CLAIMS)

    scene.ask("DELETE", f"{CLAIMS}/{before['metadata']['name']}")
    scene.later(15 * MINUTE)

    (after,) = scene.items(CLAIMS)
    assert after["metadata"]["name"] != before["metadata"]["name"]
    assert is_true(after, "Joined")


@pytest.mark.parametrize("has_room", [True, False])
def test_a_pod_goes_where_what_it_prefers_is_and_elsewhere_if_there_is_no_room(has_room: bool) -> None:
    scene = Scene()
    scene.ready_cluster(nodes=2)
    scene.namespace()
    usual, preferred = sorted(each["metadata"]["name"] for each in scene.items(NODES))
    assert scene.merge(f"{NODES}/{preferred}", {"metadata": {"labels": {"has/m": "true"}}}).status == 200
    if not has_room:
        assert scene.merge(f"{NODES}/{preferred}", {"spec": {"unschedulable": True}}).status == 200
    wish = {"weight": 100, "preference": {"matchExpressions": [{"key": "has/m", "operator": "Exists"}]}}
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}}

    scene.deploy(a_deployment(affinity=affinity))
    scene.later(SECOND)

    assert [each["spec"]["nodeName"] for each in scene.pods()] == [preferred if has_room else usual]


def test_when_the_pool_shrinks_the_idle_node_goes() -> None:
    scene = Scene()
    scene.serving(nodes=2, replicas=1, gpus=8)
    (pod,) = scene.pods()
    busy = pod["spec"]["nodeName"]

    resize(scene, 1)
    scene.later(5 * MINUTE)

    assert [each["metadata"]["name"] for each in scene.items(NODES)] == [busy]
    assert [each["metadata"]["name"] for each in scene.items(CLAIMS)] == [busy]
    assert [each["metadata"]["uid"] for each in scene.pods()] == [pod["metadata"]["uid"]]


def test_a_busy_node_that_must_go_is_cordoned_and_drained_first() -> None:
    scene = Scene()
    scene.engines.stop_ms = 20 * SECOND
    scene.serving(nodes=2, replicas=2, gpus=8)

    resize(scene, 1)
    scene.later(SECOND)

    (leaving,) = [each for each in scene.items(NODES) if each["spec"].get("unschedulable")]
    stopping = [each for each in scene.pods() if "deletionTimestamp" in each["metadata"]]
    assert [each["spec"]["nodeName"] for each in stopping] == [leaving["metadata"]["name"]]
    assert len(scene.engines.running()) == 1
    scene.later(2 * MINUTE)
    assert len(scene.items(NODES)) == 1
    states = sorted(bool(each["spec"].get("nodeName")) for each in scene.pods())
    assert states == [False, True]


def test_a_pool_can_grow_while_it_serves() -> None:
    scene = Scene()
    scene.serving(nodes=1, replicas=1)
    before = {each["metadata"]["name"] for each in scene.items(CLAIMS)}

    resize(scene, 3)
    scene.later(10 * MINUTE)

    claims = scene.items(CLAIMS)
    assert len(claims) == 3
    assert before < {each["metadata"]["name"] for each in claims}
    assert len(scene.pods()) == 1


def test_slow_boots_on_order_take_longer() -> None:
    scene = Scene()
    scene.ask("POST", "/twin/v1/faults", {"boot_factor": 3})
    scene.project()
    scene.instance()

    scene.later(2 * MINUTE)
    assert scene.get(f"{INSTANCES}/ep-1")["status"]["phase"] == "Pending"
    scene.later(2 * MINUTE)
    assert scene.get(f"{INSTANCES}/ep-1")["status"]["phase"] == "Ready"


def test_time_can_be_scaled() -> None:
    scene = Scene(time_scale=0.001)
    scene.project()
    scene.instance()
    scene.later(SECOND)

    assert is_true(scene.items(CLAIMS)[0], "Joined")
    scene.namespace()
    scene.deploy(a_deployment())
    scene.later(SECOND)
    assert scene.deployment()["status"]["readyReplicas"] == 1


def test_a_cloud_that_lost_everything_gives_no_name_a_second_time() -> None:
    """Claims are known by their names: one that came again would be the old node, come back from the dead."""
    scenes = [Scene(seed=seed) for seed in (1, 2)]
    for scene in scenes:
        scene.ready_cluster()

    names = [claim["metadata"]["name"] for scene in scenes for claim in scene.items(CLAIMS)]
    uids = [each["metadata"]["uid"] for scene in scenes for each in scene.items(INSTANCES)]

    assert len(set(names)) == 2
    assert len(set(uids)) == 2
