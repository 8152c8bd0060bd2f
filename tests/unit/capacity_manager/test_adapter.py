"""The quirks of vCluster Platform's API, one by one, and what is never taken for an absence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from libs.common.errors import Invalid, MillraceError, Rejected, Unavailable
from libs.common.events.endpoint import NodeChoice
from libs.common.events.facts import Fact
from services.capacity_manager.core.observed import GpuNode, Observed
from services.capacity_manager.core.plan import DeleteCluster, EnsureCluster, EnsureProject, ResizeCluster, plan
from services.capacity_manager.core.question import question_of
from services.capacity_manager.core.state import Claim
from services.capacity_manager.shell.platform import Platform, PlatformClient
from tests.unit.capacity_manager.builders import NODE_TYPE, NOW, PLACEMENT, Bench, requested

Json = dict[str, Any]
Answer = Callable[[httpx.Request], httpx.Response]

ROOT = "/kubernetes/management/apis/management.loft.sh/v1"
PROJECT = f"{ROOT}/projects/mr-acme-prod"
INSTANCE = f"{ROOT}/namespaces/p-mr-acme-prod/virtualclusterinstances/ep-abc"
INSTANCES = INSTANCE.removesuffix("/ep-abc")
CLAIMS = f"{ROOT}/namespaces/p-mr-acme-prod/nodeclaims"
TYPE = f"{ROOT}/nodetypes/{NODE_TYPE}"
NODES = "/kubernetes/project/mr-acme-prod/virtualcluster/ep-abc/api/v1/nodes"
CLOUD = NodeChoice(node_type="terraform.gpu-h100", gpus_per_node=8, cluster_template="cloud@2")
FULL_PROJECT = "cannot create x, because project virtualclusterinstances limit of 5 would be exceeded"
OURS = {
    "app.kubernetes.io/managed-by": "millrace",
    "millrace.dev/tenant": "acme",
    "millrace.dev/project": "prod",
}


def ok(body: Json, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=body)


def status_of(code: int, reason: str, message: str, **details: str) -> httpx.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message}
    return httpx.Response(code, json={**body, "code": code, "details": details})


def absent(name: str) -> httpx.Response:
    return status_of(404, "NotFound", f'things "{name}" not found', name=name)


def a_project(**spec: object) -> Json:
    allowed = {
        "allowedNodeTypes": [{"name": NODE_TYPE}],
        "allowedTemplates": [
            {"kind": "VirtualClusterTemplate", "group": "storage.loft.sh", "name": "inference-h100"},
        ],
        "allowedClusters": [{"name": "eu-1"}],
    }
    return {
        "metadata": {"name": "mr-acme-prod", "resourceVersion": "7", "labels": dict(OURS)},
        "spec": {**allowed, **spec},
    }


def an_instance(**changes: object) -> Json:
    labels = {**OURS, "millrace.dev/endpoint": "ep-abc", "millrace.dev/generation": "1"}
    return {
        "metadata": {"name": "ep-abc", "uid": "u1", "resourceVersion": "9", "labels": labels},
        "spec": {"parameters": f"gpuQuantity: 1\nnodeType: {NODE_TYPE}\n"},
        "status": {"phase": "Ready"},
        **changes,
    }


def a_type(status: Json) -> Json:
    return {"metadata": {"name": NODE_TYPE}, "status": status}


class Wire:
    """Answers by path, and keeps what was asked."""

    def __init__(self, tmp: Path) -> None:
        self.answers: dict[str, httpx.Response | Answer | Exception] = {
            f"{ROOT}/selves": ok({"kind": "Self", "status": {"projectNamespacePrefix": "p-"}}, 201),
            PROJECT: ok(a_project()),
            INSTANCE: absent("ep-abc"),
            CLAIMS: ok({"kind": "NodeClaimList", "items": None}),
            TYPE: ok(a_type({"capacity": {"total": 4, "claimed": 1}})),
        }
        self.asked: list[tuple[str, str, Json]] = []
        self.headers: list[httpx.Headers] = []
        self.key_file = tmp / "key"
        self.key_file.write_text("secret-1\n")
        client = PlatformClient(
            url="https://platform.test", key_file=self.key_file, transport=httpx.MockTransport(self.answer)
        )
        self.platform = Platform(client)

    def answer(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        self.asked.append((request.method, request.url.path, body))
        self.headers.append(request.headers)
        found = self.answers.get(f"{request.method} {request.url.path}", self.answers.get(request.url.path))
        if isinstance(found, Exception):
            raise found
        if isinstance(found, httpx.Response):
            return found
        assert found is not None, f"nobody answers {request.method} {request.url.path}"
        return found(request)

    def writes(self) -> list[tuple[str, str, Json]]:
        return [each for each in self.asked if each[0] != "GET" and not each[1].endswith("selves")]


@pytest.fixture
def wire(tmp_path: Path) -> Wire:
    return Wire(tmp_path)


@pytest.fixture
def claim() -> Claim:
    bench = Bench()
    bench.hear(requested())
    return bench.claim


def test_a_null_list_is_an_empty_one_and_an_object_that_is_itself_absent_is_absent(wire: Wire, claim: Claim) -> None:
    seen = wire.platform.observe(claim)

    assert (seen.cluster, seen.nodes) == (None, ())
    assert seen.node_type is not None
    assert seen.node_type.free == 3


def test_two_looks_at_the_same_world_are_equal(wire: Wire, claim: Claim) -> None:
    wire.answers[INSTANCE] = ok(an_instance())

    assert wire.platform.observe(claim) == wire.platform.observe(claim)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (status_of(401, "Unauthorized", "Unauthorized"), "PlatformUnauthorized"),
        (status_of(403, "Forbidden", "user can't get this"), "PlatformForbidden"),
        (status_of(500, "InternalError", "etcd"), "PlatformUnavailable"),
        (status_of(503, "ServiceUnavailable", "later"), "PlatformUnavailable"),
        (httpx.Response(502, text="<html>bad gateway</html>"), "PlatformUnavailable"),
        (httpx.Response(200, text="<html>please log in</html>"), "PlatformGarbled"),
        (httpx.Response(200, text='{"kind": "NodeClaimList", "items": ['), "PlatformGarbled"),
        (httpx.Response(200, json={"kind": "Status"}), "PlatformGarbled"),
        (httpx.Response(200, json={"kind": "NodeClaimList", "items": [{}]}), "PlatformGarbled"),
        (httpx.Response(200, json=["a"]), "PlatformGarbled"),
        (httpx.Response(302, headers={"location": "/login"}), "PlatformGarbled"),
        (httpx.Response(404, text="404 page not found"), "PlatformGarbled"),
        (status_of(404, "NotFound", "the server could not find the requested resource"), "PlatformUnavailable"),
        (status_of(429, "TooManyRequests", "slow down"), "PlatformThrottled"),
        (httpx.ConnectTimeout("late"), "PlatformUnavailable"),
        (httpx.ReadTimeout("late"), "PlatformUnavailable"),
        (httpx.ConnectError("refused"), "PlatformUnavailable"),
        (httpx.RemoteProtocolError("half an answer"), "PlatformUnavailable"),
    ],
)
@pytest.mark.parametrize("path", [PROJECT, INSTANCE, CLAIMS, TYPE])
def test_what_is_no_clear_answer_is_unknown_and_never_absent(
    wire: Wire, claim: Claim, path: str, given: httpx.Response | Exception, code: str
) -> None:
    wire.answers[path] = given

    with pytest.raises(Unavailable) as caught:
        wire.platform.observe(claim)

    assert caught.value.code == code


def test_a_missing_namespace_is_not_a_missing_cluster(wire: Wire, claim: Claim) -> None:
    wire.answers[INSTANCE] = status_of(404, "NotFound", 'namespaces "p-mr-acme-prod" not found', name="p-mr-acme-prod")

    with pytest.raises(Unavailable) as caught:
        wire.platform.observe(claim)

    assert caught.value.code == "ProjectPending"


def test_a_throttled_answer_is_obeyed_up_to_a_limit(wire: Wire, claim: Claim) -> None:
    wire.answers[PROJECT] = httpx.Response(429, headers={"retry-after": "9999"})

    with pytest.raises(Unavailable) as caught:
        wire.platform.observe(claim)

    assert caught.value.retry_after_s == 60


def test_the_prefix_is_asked_once_and_null_means_the_old_one(wire: Wire) -> None:
    wire.answers[f"{ROOT}/selves"] = ok({"kind": "Self", "status": {"projectNamespacePrefix": None}}, 201)

    assert [wire.platform.namespace_prefix() for _ in range(3)] == ["loft-p-"] * 3
    assert len(wire.asked) == 1


def test_a_rotated_key_is_used_at_once_and_a_missing_one_is_an_outage(wire: Wire, claim: Claim) -> None:
    wire.platform.observe(claim)
    wire.key_file.write_text("secret-2")
    wire.platform.observe(claim)
    assert [wire.headers[0]["authorization"], wire.headers[-1]["authorization"]] == [
        "Bearer secret-1",
        "Bearer secret-2",
    ]

    wire.key_file.unlink()
    with pytest.raises(Unavailable) as caught:
        wire.platform.observe(claim)
    assert caught.value.code == "PlatformUnauthorized"


@pytest.mark.parametrize(
    ("listed", "is_as_wanted"),
    [
        (None, False),
        ([], False),
        ([{"name": "metal3.gpu-H100"}], False),
        ([{"name": "metal3.*"}], True),
        ([{"name": "metal.*"}], False),
        ([{"name": NODE_TYPE}, {"name": "x"}], True),
    ],
)
def test_a_null_allow_list_allows_all_and_an_empty_one_nothing_and_neither_is_ours(
    wire: Wire, claim: Claim, listed: object, is_as_wanted: bool
) -> None:
    wire.answers[PROJECT] = ok(a_project(allowedNodeTypes=listed))

    seen = wire.platform.observe(claim)

    assert seen.project is not None
    assert (seen.project.is_ours, seen.project.is_as_wanted) == (True, is_as_wanted)


def the_project_action(claim: Claim) -> EnsureProject:
    (action,) = plan(claim, observed(claim), NOW)
    assert isinstance(action, EnsureProject)
    return action


def observed(claim: Claim) -> Observed:
    return Observed(question=question_of(claim), project=None, cluster=None)


def test_a_drifted_project_is_widened_on_the_version_that_was_read_and_nothing_is_taken_from_it(
    wire: Wire, claim: Claim
) -> None:
    wire.answers[PROJECT] = ok(a_project(allowedNodeTypes=[{"name": "terraform.gpu-l40s"}]))

    wire.platform.apply(the_project_action(claim))

    ((method, path, body),) = wire.writes()
    assert (method, path) == ("PATCH", PROJECT)
    assert body == {
        "metadata": {"resourceVersion": "7"},
        "spec": {"allowedNodeTypes": [{"name": "terraform.gpu-l40s"}, {"name": NODE_TYPE}]},
    }
    assert wire.headers[-1]["content-type"] == "application/merge-patch+json"


def test_a_project_of_another_owner_is_left_alone(wire: Wire, claim: Claim) -> None:
    theirs = a_project()
    theirs["metadata"]["labels"] = None
    wire.answers[PROJECT] = ok(theirs)

    with pytest.raises(Rejected) as caught:
        wire.platform.apply(the_project_action(claim))

    assert caught.value.code == "NameTaken"
    assert wire.writes() == []


ENSURE = EnsureCluster(
    project="mr-acme-prod", name="ep-abc", generation=1, endpoint_id="ep-abc", tenant_id="acme", project_id="prod",  # type: ignore[arg-type]  # Plain text as ids.
    tier="h100-dedicated", region="eu-1", template="inference-h100", template_version="1.0.0", node_type=NODE_TYPE,
    nodes=2,
)  # fmt: skip


def test_parameters_are_yaml_in_a_string_and_every_label_is_set(wire: Wire) -> None:
    wire.answers[f"POST {INSTANCES}"] = ok(an_instance(), 201)

    wire.platform.apply(ENSURE)

    ((_, _, body),) = wire.writes()
    assert isinstance(body["spec"]["parameters"], str)
    assert yaml.safe_load(body["spec"]["parameters"]) == {"gpuQuantity": 2, "nodeType": NODE_TYPE}
    assert body["spec"]["templateRef"] == {"name": "inference-h100", "version": "1.0.0"}
    assert body["metadata"]["labels"] == {
        **OURS,
        "millrace.dev/endpoint": "ep-abc",
        "millrace.dev/tier": "h100-dedicated",
        "millrace.dev/region": "eu-1",
        "millrace.dev/installation": "millrace",
        "millrace.dev/generation": "1",
    }


def test_a_cluster_that_an_earlier_try_made_is_adopted_and_one_of_another_owner_is_not(wire: Wire) -> None:
    wire.answers[f"POST {INSTANCES}"] = status_of(409, "AlreadyExists", 'x "ep-abc" already exists', name="ep-abc")
    wire.answers[INSTANCE] = ok(an_instance())

    wire.platform.apply(ENSURE)
    wire.answers[INSTANCE] = ok(an_instance(metadata={"name": "ep-abc", "labels": {"team": "them"}}))
    with pytest.raises(Rejected) as caught:
        wire.platform.apply(ENSURE)

    assert caught.value.code == "NameTaken"


@pytest.mark.parametrize(
    ("given", "kind", "code"),
    [
        (status_of(403, "Forbidden", FULL_PROJECT), Unavailable, "QuotaExceeded"),
        (status_of(422, "Invalid", FULL_PROJECT), Unavailable, "QuotaExceeded"),
        (status_of(403, "Forbidden", "node type a.b is not allowed in project x"), Rejected, "NodeTypeNotAllowed"),
        (status_of(403, "Forbidden", "template x is not allowed in project y"), Rejected, "TemplateNotAllowed"),
        (status_of(422, "Invalid", 'template "x" not found'), Rejected, "TemplateUnknown"),
        (status_of(422, "Invalid", "template parameters are wrong"), Rejected, "TemplateInvalid"),
        (status_of(422, "Invalid", "spec.foo: is wrong"), Rejected, "PlatformRefused"),
        (status_of(403, "Forbidden", "you may not"), Unavailable, "PlatformForbidden"),
        (status_of(409, "Conflict", "the object has been modified"), Unavailable, "PlatformConflict"),
    ],
)  # fmt: skip
def test_each_denial_has_its_reason(wire: Wire, given: httpx.Response, kind: type[MillraceError], code: str) -> None:
    wire.answers[f"POST {INSTANCES}"] = given

    with pytest.raises(kind) as caught:
        wire.platform.apply(ENSURE)

    assert isinstance(caught.value, Rejected | Unavailable)
    assert caught.value.code == code


def test_a_resize_keeps_parameters_that_are_not_ours_and_needs_the_version_that_was_read(wire: Wire) -> None:
    wire.answers[INSTANCE] = ok(an_instance(spec={"parameters": "gpuQuantity: 1\nextra: kept\n"}))

    wire.platform.apply(ResizeCluster("mr-acme-prod", "ep-abc", 1, NODE_TYPE, 3))

    ((method, _, body),) = wire.writes()
    assert method == "PATCH"
    assert body["metadata"]["resourceVersion"] == "9"
    assert yaml.safe_load(body["spec"]["parameters"]) == {"gpuQuantity": 3, "nodeType": NODE_TYPE, "extra": "kept"}
    assert "status" not in body


def test_a_resize_by_an_older_generation_writes_nothing(wire: Wire) -> None:
    newer = an_instance()
    newer["metadata"]["labels"]["millrace.dev/generation"] = "2"
    wire.answers[INSTANCE] = ok(newer)

    with pytest.raises(Unavailable):
        wire.platform.apply(ResizeCluster("mr-acme-prod", "ep-abc", 1, NODE_TYPE, 3))

    assert wire.writes() == []


def test_a_delete_names_the_cluster_that_was_seen_and_one_that_is_gone_is_fine(wire: Wire) -> None:
    wire.answers[f"DELETE {INSTANCE}"] = absent("ep-abc")

    wire.platform.apply(DeleteCluster("mr-acme-prod", "ep-abc", "u1"))

    ((_, _, body),) = wire.writes()
    assert body["preconditions"] == {"uid": "u1"}


def test_claims_of_other_clusters_are_not_ours_and_pages_are_followed(wire: Wire, claim: Claim) -> None:
    def node(name: str, cluster: str) -> Json:
        joined = {"type": "Joined", "status": "True", "lastTransitionTime": "2027-01-15T08:00:00Z"}
        return {
            "metadata": {"name": name},
            "spec": {"vClusterRef": cluster},
            "status": {"phase": "Available", "conditions": [joined]},
        }

    def page(request: httpx.Request) -> httpx.Response:
        if "continue" in request.url.params:
            return ok({"kind": "NodeClaimList", "items": [node("a", "ep-abc")]})
        more = {"continue": "next"}
        return ok({"kind": "NodeClaimList", "metadata": more, "items": [node("z", "ep-abc"), node("y", "other")]})

    wire.answers[INSTANCE] = ok(an_instance())
    wire.answers[CLAIMS] = page

    seen = wire.platform.observe(claim)

    assert [(each.name, each.is_joined, each.joined_at_ms) for each in seen.nodes] == [
        ("a", True, 1_800_000_000_000),
        ("z", True, 1_800_000_000_000),
    ]


def test_unreadable_parameters_are_an_unknown_size(wire: Wire, claim: Claim) -> None:
    wire.answers[INSTANCE] = ok(an_instance(spec={"parameters": "{nonsense"}, status=None))

    seen = wire.platform.observe(claim)

    assert seen.cluster is not None
    assert (seen.cluster.quantity, seen.cluster.phase) == (None, "Pending")


@pytest.mark.parametrize(
    ("status", "free"),
    [
        ({"capacity": {"total": 2, "claimed": 5}}, 0),
        ({"capacity": {"total": 0, "claimed": 0}}, 0),
        ({"capacity": {"total": 0, "claimed": 3}, "conditions": [{"type": "HasCapacity", "status": "True"}]}, None),
        ({}, None),
    ],
)
def test_free_capacity_is_never_negative_and_an_untold_limit_is_none(
    wire: Wire, claim: Claim, status: Json, free: int | None
) -> None:
    wire.answers[TYPE] = ok(a_type(status))

    seen = wire.platform.observe(claim)

    assert seen.node_type is not None
    assert seen.node_type.free == free


def test_a_node_type_that_is_itself_absent_is_unknown_to_the_platform(wire: Wire, claim: Claim) -> None:
    wire.answers[TYPE] = absent(NODE_TYPE)

    seen = wire.platform.observe(claim)

    assert seen.node_type is not None
    assert not seen.node_type.is_known


def test_each_node_type_of_a_claim_with_fallbacks_is_asked_for_once_a_look(wire: Wire) -> None:
    bench = Bench()
    classes = (NodeChoice(node_type=NODE_TYPE, gpus_per_node=8, cluster_template="other@1", region="us-1"), CLOUD)
    placement = PLACEMENT.model_copy(update={"fallbacks": classes})
    bench.hear(requested().model_copy(update={"placement": placement}))
    wire.answers[f"{ROOT}/nodetypes/{CLOUD.node_type}"] = absent(CLOUD.node_type)

    seen = wire.platform.observe(bench.claim)

    assert [each.is_known for each in seen.classes] == [True, True, False]
    assert seen.node_type == seen.classes[0]
    asked = [path for _, path, _ in wire.asked if "/nodetypes/" in path]
    assert sorted(asked) == sorted(set(asked))


def test_only_ready_nodes_offer_gpus_and_a_silent_cluster_hides_nothing_else(wire: Wire) -> None:
    bench = Bench()
    bench.hear(requested())
    claim = replace(bench.claim, told=(Fact.NODES_JOINED,))

    def node(name: str, ready: str, gpus: str) -> Json:
        return {
            "metadata": {"name": name},
            "status": {"allocatable": {"nvidia.com/gpu": gpus}, "conditions": [{"type": "Ready", "status": ready}]},
        }

    wire.answers[INSTANCE] = ok(an_instance())
    wire.answers[NODES] = ok(
        {"kind": "NodeList", "items": [node("b", "True", "8"), node("a", "False", "8"), node("c", "True", "0")]}
    )
    assert wire.platform.observe(claim).gpu_nodes == (GpuNode(name="b", gpus=8),)

    wire.answers[NODES] = status_of(503, "ServiceUnavailable", "waking up")
    seen = wire.platform.observe(claim)
    assert seen.gpu_nodes is None
    assert seen.cluster is not None


def test_a_file_without_a_certificate_ends_the_start_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("not a certificate")

    for name in ("ca", "missing"):
        with pytest.raises(Invalid):
            PlatformClient(url="https://x", key_file=tmp_path / "key", ca_file=tmp_path / name)
