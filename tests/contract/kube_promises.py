"""What we take a Kubernetes API server to do, kept by the twin's façade and by a real one: one suite for both.

Requests are made as runtime-deployer makes them, through its own connections. Nothing here runs a container: pods ask
for a node that is not there, so what is tested is the API server and the controllers behind it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import httpx
import pytest

from libs.common.errors import Rejected
from services.runtime_deployer.core.manifests import ENDPOINT, MANAGED_BY, MANAGER, Manifest, namespace
from services.runtime_deployer.core.observed import Kind
from services.runtime_deployer.core.plan import Apply, Delete
from services.runtime_deployer.core.state import Cluster
from services.runtime_deployer.shell.connections import APPLY, JSON, Connections, Reply
from services.runtime_deployer.shell.kubernetes import PATHS, KubernetesClusters

Json = dict[str, Any]

POLL_S: Final = 0.1
CHANGES: Final = 60  # More than the history of the twin under test holds.
TIMEOUT_S: Final = 30.0
NOWHERE: Final = {"kube.test/nowhere": "true"}
GPU: Final = "nvidia.com/gpu"
MERGE: Final = "application/merge-patch+json"

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Api:
    """An API server to hold to its promises, with a namespace of this run's own."""

    connections: Connections
    cluster: Cluster
    namespace: str
    http: httpx.Client  # For watches, which our connections don't do: they end when there is nothing more.
    wait_s: float = 60.0
    made: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, body: Json | None = None, content: str = JSON, /, **query: str) -> Reply:
        return self.connections.ask(
            self.cluster, method, path, query=query, body=body, content_type=content, timeout_s=TIMEOUT_S
        )

    def apply(self, body: Json, manager: str = "ours", **query: str) -> Reply:
        path = f"{self.of(body['kind'])}/{body['metadata']['name']}"
        return self.ask("PATCH", path, body, APPLY, fieldManager=manager, **query)

    def of(self, kind: str) -> str:
        group, plural = PLACES[kind]
        return f"/{group}/namespaces/{self.namespace}/{plural}"

    def name(self, what: str) -> str:
        return f"{what}-{next(_numbers)}"

    def until(self, holds: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + self.wait_s
        while not holds():
            assert time.monotonic() < deadline_s, f"after {self.wait_s:.0f} s still not: {what}"
            time.sleep(POLL_S)


PLACES: Final[Mapping[str, tuple[str, str]]] = {
    "ConfigMap": ("api/v1", "configmaps"),
    "Service": ("api/v1", "services"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "ResourceQuota": ("api/v1", "resourcequotas"),
    "Pod": ("api/v1", "pods"),
    "Deployment": ("apis/apps/v1", "deployments"),
    "ReplicaSet": ("apis/apps/v1", "replicasets"),
}


def opened(api: Api) -> Iterator[Api]:
    """The API with its namespace; it is deleted again, and with it whatever tests left."""
    metadata = {"name": api.namespace}
    made = api.ask("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    assert made.status == 201, made
    accounts = api.of("ServiceAccount")
    api.until(lambda: api.ask("GET", f"{accounts}/default").is_ok, "the namespace has its account")
    yield api
    api.ask("DELETE", f"/api/v1/namespaces/{api.namespace}")
    gone = f"/api/v1/namespaces/{api.namespace}"
    api.until(lambda: api.ask("GET", gone).status == 404, "the namespace is gone, with all that was in it")


def a_config(name: str, data: Json, labels: Json | None = None) -> Json:
    metadata: Json = {"name": name, **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def a_deployment(name: str, *, replicas: int = 1, gpus: int = 0) -> Json:
    amount = {"resources": {"limits": {GPU: str(gpus)}, "requests": {GPU: str(gpus)}}} if gpus else {}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "nodeSelector": NOWHERE,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{"name": "main", "image": "kube.test/main:1", **amount}],
                },
            },
        },
    }


def version_of(reply: Reply) -> str:
    assert reply.is_ok, reply
    return str(reply.body["metadata"]["resourceVersion"])


def causes_of(reply: Reply) -> list[Json]:
    return list((reply.body.get("details") or {}).get("causes") or ())


class KubePromises:
    """Subclassed with a fixture `api`."""

    def test_an_apply_makes_the_object_and_the_same_again_changes_nothing(self, api: Api) -> None:
        wanted = a_deployment(api.name("twice"), replicas=0)

        first = api.apply(wanted)
        path = f"{api.of('Deployment')}/{wanted['metadata']['name']}"
        api.until(lambda: _is_settled(api.ask("GET", path)), "its controller has nothing more to say")
        before = api.ask("GET", path)
        second = api.apply(wanted)

        assert (first.status, second.status) == (201, 200)
        assert version_of(second) == version_of(before)
        assert second.body["metadata"]["generation"] == 1

    def test_what_another_manager_set_otherwise_is_a_conflict_that_names_field_and_manager(self, api: Api) -> None:
        name = api.name("held")
        api.apply(a_deployment(name, replicas=0))
        api.apply(a_deployment(name, replicas=3), "theirs", force="true")

        refused = api.apply(a_deployment(name, replicas=1))

        assert refused.status == 409, refused
        (cause,) = causes_of(refused)
        assert cause["reason"] == "FieldManagerConflict"
        assert cause["field"] == ".spec.replicas"
        assert 'conflict with "theirs"' in cause["message"]
        assert api.ask("GET", f"{api.of('Deployment')}/{name}").body["spec"]["replicas"] == 3

    def test_a_forced_apply_takes_the_field_from_its_owner(self, api: Api) -> None:
        name = api.name("forced")
        api.apply(a_config(name, {"a": "1"}))

        taken = api.apply(a_config(name, {"a": "2"}), "theirs", force="true")

        assert taken.body["data"] == {"a": "2"}
        assert api.apply(a_config(name, {"a": "1"})).status == 409

    def test_a_plain_write_owns_what_it_changed_and_an_apply_over_it_is_a_conflict(self, api: Api) -> None:
        name = api.name("edited")
        api.apply(a_config(name, {"a": "1", "b": "1"}))
        edit = {"data": {"a": "by hand"}}
        api.ask("PATCH", f"{api.of('ConfigMap')}/{name}", edit, MERGE, fieldManager="kubectl-edit")

        refused = api.apply(a_config(name, {"a": "1", "b": "1"}))

        assert refused.status == 409, refused
        assert [each["field"] for each in causes_of(refused)] == [".data.a"]
        assert 'conflict with "kubectl-edit"' in causes_of(refused)[0]["message"]

    def test_a_field_that_is_applied_no_longer_goes_unless_another_has_it_too(self, api: Api) -> None:
        name = api.name("less")
        api.apply(a_config(name, {"mine": "1", "shared": "1"}))
        api.apply(a_config(name, {"shared": "1", "other": "1"}), "theirs")

        after = api.apply(a_config(name, {}))

        assert after.body["data"] == {"shared": "1", "other": "1"}

    def test_an_apply_that_is_bound_to_an_old_version_is_a_conflict_and_writes_nothing(self, api: Api) -> None:
        name = api.name("fenced")
        old = version_of(api.apply(a_config(name, {"a": "1"})))
        api.apply(a_config(name, {"a": "2"}))
        late = a_config(name, {"a": "3"})
        late["metadata"]["resourceVersion"] = old

        refused = api.apply(late)

        assert (refused.status, refused.body["reason"]) == (409, "Conflict")
        assert causes_of(refused) == []
        assert api.ask("GET", f"{api.of('ConfigMap')}/{name}").body["data"] == {"a": "2"}

    def test_an_apply_that_is_bound_to_what_is_gone_makes_it_anew_unless_it_names_its_uid(self, api: Api) -> None:
        name = api.name("ghost")
        path = f"{api.of('ConfigMap')}/{name}"
        old = api.apply(a_config(name, {"a": "1"})).body["metadata"]
        late = a_config(name, {"a": "2"})
        late["metadata"] = {**late["metadata"], "resourceVersion": old["resourceVersion"], "uid": old["uid"]}
        api.ask("DELETE", path)

        refused = api.apply(late)

        assert (refused.status, refused.body["reason"]) == (409, "Conflict"), refused
        assert api.ask("GET", path).status == 404
        late["metadata"].pop("uid")
        assert api.apply(late).status == 201

    def test_an_apply_without_a_manager_is_refused(self, api: Api) -> None:
        name = api.name("nobody")

        refused = api.ask("PATCH", f"{api.of('ConfigMap')}/{name}", a_config(name, {}), APPLY)

        assert refused.status == 422
        assert [each["field"] for each in causes_of(refused)] == ["fieldManager"]

    def test_a_dry_run_answers_as_if_it_were_done_and_does_nothing(self, api: Api) -> None:
        name = api.name("dry")

        answer = api.apply(a_config(name, {"a": "1"}), dryRun="All")

        assert answer.status == 201
        assert answer.body["data"] == {"a": "1"}
        assert api.ask("GET", f"{api.of('ConfigMap')}/{name}").status == 404

    def test_a_deployment_that_is_wrong_is_refused_with_the_field_by_name(self, api: Api) -> None:
        wanted = a_deployment(api.name("wrong"))
        wanted["spec"]["template"]["metadata"]["labels"] = {"app": "another"}
        wanted["spec"]["template"]["spec"]["containers"][0].pop("image")

        refused = api.apply(wanted)

        assert refused.status == 422
        assert {each["field"] for each in causes_of(refused)} >= {"spec.template.metadata.labels"}

    def test_a_field_that_no_schema_has_is_refused_by_its_name(self, api: Api) -> None:
        wanted = a_deployment(api.name("typo"))
        wanted["spec"]["template"]["spec"]["nodeSelectr"] = {}

        refused = api.apply(wanted)

        assert not refused.is_ok
        assert "nodeSelectr" in refused.body["message"]
        assert api.ask("GET", f"{api.of('Deployment')}/{wanted['metadata']['name']}").status == 404

    def test_the_selector_of_a_deployment_can_not_be_changed(self, api: Api) -> None:
        wanted = a_deployment(api.name("fixed"), replicas=0)
        api.apply(wanted)
        wanted["spec"]["selector"]["matchLabels"] = {"app": "another"}
        wanted["spec"]["template"]["metadata"]["labels"] = {"app": "another"}

        refused = api.apply(wanted, force="true")

        assert refused.status == 422
        assert "spec.selector" in {each["field"] for each in causes_of(refused)}

    def test_a_list_gives_what_has_the_label_and_page_by_page(self, api: Api) -> None:
        marks = {"kube.test/of": api.name("list")}
        names = [api.name("item") for _ in range(5)]
        for each in names:
            api.apply(a_config(each, {}, marks))
        api.apply(a_config(api.name("item"), {}, {"kube.test/of": "another"}))
        chosen = {"labelSelector": ",".join(f"{key}={value}" for key, value in marks.items()), "limit": "2"}

        pages = [api.ask("GET", api.of("ConfigMap"), **chosen)]
        while pages[-1].body["metadata"].get("continue"):
            more = {"continue": pages[-1].body["metadata"]["continue"]}
            pages.append(api.ask("GET", api.of("ConfigMap"), **chosen, **more))

        assert [len(each.body["items"]) for each in pages] == [2, 2, 1]
        assert [each["metadata"]["name"] for page in pages for each in page.body["items"]] == sorted(names)

    def test_a_watch_goes_on_where_it_was_cut_and_tells_each_change_once(self, api: Api) -> None:
        name = api.name("watched")
        chosen = {"labelSelector": f"kube.test/of={name}"}
        path = f"{api.of('ConfigMap')}/{name}"
        start = api.ask("GET", api.of("ConfigMap"), **chosen).body["metadata"]["resourceVersion"]
        api.apply(a_config(name, {"a": "1"}, {"kube.test/of": name}))
        (added,) = self.seen(api, start, 1, chosen)

        api.apply(a_config(name, {"a": "2"}, {"kube.test/of": name}))
        api.ask("DELETE", path)
        changed, deleted = self.seen(api, added["object"]["metadata"]["resourceVersion"], 2, chosen)

        assert [added["type"], changed["type"], deleted["type"]] == ["ADDED", "MODIFIED", "DELETED"]
        assert [each["object"]["data"]["a"] for each in (added, changed, deleted)] == ["1", "2", "2"]

    def test_a_watch_from_a_version_that_is_no_longer_known_is_told_410(self, api: Api) -> None:
        name = api.name("busy")
        for number in range(CHANGES):
            api.apply(a_config(name, {"a": str(number)}))

        def told() -> Json:
            return self.seen(api, "1", 1, {})[0]

        api.until(lambda: told()["type"] == "ERROR", "it has forgotten the first version")
        assert (told()["object"]["code"], told()["object"]["reason"]) == (410, "Expired")

    def test_a_name_that_is_taken_is_409_already_exists(self, api: Api) -> None:
        body = a_config(api.name("taken"), {})
        api.ask("POST", api.of("ConfigMap"), body)

        again = api.ask("POST", api.of("ConfigMap"), body)

        assert (again.status, again.body["reason"]) == (409, "AlreadyExists")

    def test_what_is_not_there_is_404_by_its_name_for_a_get_and_a_delete(self, api: Api) -> None:
        path = f"{api.of('ConfigMap')}/{api.name('none')}"

        for method in ("GET", "DELETE"):
            answer = api.ask(method, path)
            assert (answer.status, answer.body["reason"]) == (404, "NotFound")
            assert answer.body["details"]["kind"] == "configmaps"

    def test_an_apply_into_a_namespace_that_is_not_there_is_404_and_names_the_namespace(self, api: Api) -> None:
        path = "/api/v1/namespaces/kube-test-none/configmaps/any"

        answer = api.ask("PATCH", path, a_config("any", {}), APPLY, fieldManager="ours")

        assert answer.status == 404
        assert answer.body["details"]["kind"] == "namespaces"

    def test_a_kind_that_is_not_served_is_404_and_names_nothing(self, api: Api) -> None:
        answer = api.ask("GET", f"/apis/none.test/v1/namespaces/{api.namespace}/things/any")

        assert answer.status == 404
        assert not (answer.body.get("details") or {}).get("name")

    def test_a_delete_in_the_foreground_keeps_the_owner_until_what_hangs_from_it_is_gone(self, api: Api) -> None:
        wanted = a_deployment(api.name("owner"), replicas=2)
        name = wanted["metadata"]["name"]
        path = f"{api.of('Deployment')}/{name}"
        chosen = {"labelSelector": f"app={name}"}
        api.apply(wanted)
        api.until(lambda: len(api.ask("GET", api.of("Pod"), **chosen).body["items"]) == 2, "two pods")

        marked = api.ask("DELETE", path, propagationPolicy="Foreground")

        assert marked.body["metadata"]["deletionTimestamp"]
        assert "foregroundDeletion" in marked.body["metadata"]["finalizers"]
        api.until(lambda: api.ask("GET", path).status == 404, "the owner is gone")
        for kind in ("ReplicaSet", "Pod"):
            assert api.ask("GET", api.of(kind), **chosen).body["items"] == []

    def test_a_deployment_makes_a_replica_set(self, api: Api) -> None:
        wanted = a_deployment(api.name("sets"))
        name = wanted["metadata"]["name"]
        api.apply(wanted)
        api.until(lambda: bool(api.ask("GET", api.of("Pod"), labelSelector=f"app={name}").body["items"]), "a pod")

        sets = api.ask("GET", api.of("ReplicaSet"), labelSelector=f"app={name}").body["items"]

        assert [each["metadata"]["ownerReferences"][0]["name"] for each in sets] == [name]

    def test_a_delete_for_the_uid_of_another_life_is_refused(self, api: Api) -> None:
        name = api.name("reborn")
        path = f"{api.of('ConfigMap')}/{name}"
        first = api.apply(a_config(name, {}))
        api.ask("DELETE", path)
        api.apply(a_config(name, {}))
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": first.body["metadata"]["uid"]}}

        refused = api.ask("DELETE", path, options)

        assert refused.status == 409, refused
        assert api.ask("GET", path).is_ok

    def test_a_pod_that_fits_nowhere_says_why(self, api: Api) -> None:
        wanted = a_deployment(api.name("nowhere"))
        chosen = {"labelSelector": f"app={wanted['metadata']['name']}"}
        api.apply(wanted)

        def told() -> list[str]:
            pods = api.ask("GET", api.of("Pod"), **chosen).body["items"]
            conditions = [each for pod in pods for each in pod.get("status", {}).get("conditions", ())]
            return [each["message"] for each in conditions if each.get("reason") == "Unschedulable"]

        api.until(lambda: bool(told()), "the scheduler has said something")

        assert "node affinity/selector" in told()[0]

    def test_a_quota_of_gpus_lets_no_pod_over_it_and_the_deployment_says_so(self, api: Api) -> None:
        quota = {
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpus"},
            "spec": {"hard": {f"requests.{GPU}": "4"}},
        }  # fmt: skip
        api.apply(quota)
        place = f"{api.of('ResourceQuota')}/gpus"
        api.until(lambda: "used" in api.ask("GET", place).body.get("status", {}), "the quota counts")
        wanted = a_deployment(api.name("greedy"), replicas=2, gpus=4)
        path = f"{api.of('Deployment')}/{wanted['metadata']['name']}"
        api.apply(wanted)

        def said() -> list[Json]:
            conditions = api.ask("GET", path).body.get("status", {}).get("conditions", [])
            return [each for each in conditions if each["type"] == "ReplicaFailure" and each["status"] == "True"]

        try:
            api.until(lambda: bool(said()), "the deployment says that it may not")
            api.until(lambda: _used(api, place) == "4", "what is there is counted")
            assert said()[0]["reason"] == "FailedCreate"
            assert "exceeded quota: gpus" in said()[0]["message"]
            assert f"requests.{GPU}=4" in said()[0]["message"]
            pods = api.ask("GET", api.of("Pod"), labelSelector=f"app={wanted['metadata']['name']}").body["items"]
            assert len(pods) == 1
        finally:
            api.ask("DELETE", path, propagationPolicy="Foreground")
            api.until(lambda: _used(api, place) == "0", "what is gone is counted no longer")
            api.ask("DELETE", place)

    def test_our_adapter_reports_a_foreign_owner_and_overrules_nobody(self, api: Api) -> None:
        name = api.name("foreign")
        path = f"{PATHS[Kind.DEPLOYMENT]}/{name}"
        body = a_deployment(name, replicas=0)
        body["metadata"]["labels"] = {MANAGED_BY: MANAGER, ENDPOINT: name}
        clusters = KubernetesClusters(api.connections)
        clusters.apply(Apply(api.cluster, namespace()))
        clusters.apply(Apply(api.cluster, Manifest(Kind.DEPLOYMENT, name, 1, "", body)))
        theirs = a_deployment(name, replicas=2)
        api.ask("PATCH", path, theirs, APPLY, fieldManager="theirs", force="true")

        with pytest.raises(Rejected, match=r'another field manager owns \.spec\.replicas.*"theirs"') as caught:
            clusters.apply(Apply(api.cluster, Manifest(Kind.DEPLOYMENT, name, 1, "", body)))

        assert caught.value.code == "field_conflict"
        assert api.ask("GET", path).body["spec"]["replicas"] == 2
        clusters.apply(Delete(api.cluster, Kind.DEPLOYMENT, name))
        api.until(lambda: api.ask("GET", path).status == 404, "it is gone")

    @staticmethod
    def seen(api: Api, version: str, wanted: int, chosen: Mapping[str, str]) -> list[Json]:
        """The next changes that a watch tells, bookmarks apart."""
        query = {**chosen, "watch": "true", "resourceVersion": version, "timeoutSeconds": str(int(api.wait_s))}
        told: list[Json] = []
        with api.http.stream("GET", api.of("ConfigMap").lstrip("/"), params=query) as stream:
            for line in stream.iter_lines():
                event = json.loads(line)
                if event.get("type") == "BOOKMARK":
                    continue
                # A real server may refuse at once, with a plain status, where the twin says it in the stream.
                told.append(event if "type" in event else {"type": "ERROR", "object": event})
                if len(told) == wanted:
                    break
        assert len(told) == wanted, told
        return told


def _used(api: Api, place: str) -> str:
    used = api.ask("GET", place).body.get("status", {}).get("used", {})
    return str(used.get(f"requests.{GPU}"))


def _is_settled(reply: Reply) -> bool:
    status = reply.body.get("status", {})
    return bool(status.get("observedGeneration") == reply.body["metadata"]["generation"] and status.get("conditions"))
