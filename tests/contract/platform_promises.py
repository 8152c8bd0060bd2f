"""What our adapter takes vCluster Platform to do: the same promises on the twin, over real HTTP, and on a real one.

Each says where it was learnt. `python -m tests.contract.platform_promises` lists those that nobody has seen a Platform
keep: they were read in documents or code, or inferred. A run against a real one is what ends that (see the README of
capacity-manager).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from libs.common.errors import MillraceError, Rejected, Unavailable
from services.capacity_manager.core.node_kinds import NodeKind
from services.capacity_manager.shell.platform import Platform, PlatformClient
from services.capacity_manager.shell.platform.adapter import MANAGEMENT, NODE_TYPES, PROJECTS
from services.capacity_manager.shell.platform.fleet import read_fleet

Json = dict[str, Any]
Test = TypeVar("Test", bound=Callable[..., None])

API: Final = "management.loft.sh/v1"
TEMPLATES: Final = f"{MANAGEMENT}/virtualclustertemplates"
POLL_S: Final = 0.1


class Learnt(StrEnum):
    """Where a promise comes from."""

    SOURCE = "source code or API types"
    DOCS = "documentation"
    INFERRED = "inferred"
    OPEN = "not established"


@dataclass(frozen=True, slots=True)
class Promise:
    """One thing that the Platform is taken to do."""

    what: str
    learnt: Learnt


PROMISES: Final[list[Promise]] = []


def promise(learnt: Learnt) -> Callable[[Test], Test]:
    """Mark a test of a promise."""

    def mark(test: Test) -> Test:
        PROMISES.append(Promise(test.__name__.removeprefix("test_").replace("_", " "), learnt))
        return test

    return mark


@dataclass(frozen=True, slots=True)
class Scene:
    """A Platform to hold to its promises, and what may be used of it. Names begin with `mark`, so that runs differ."""

    url: str
    key_file: Path
    mark: str
    region: str
    node_type: str
    template: str
    template_version: str
    wait_s: float
    ca_file: Path | None = None
    quota_codes: tuple[int, ...] = (403, 422)

    def client(self, key_file: Path | None = None) -> PlatformClient:
        return PlatformClient(url=self.url, key_file=key_file or self.key_file, ca_file=self.ca_file)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + self.wait_s
        while not holds():
            assert time.monotonic() < deadline_s, f"after {self.wait_s:.0f} s still not: {what}"
            time.sleep(POLL_S)

    def project(self, name: str, **spec: object) -> Json:
        allowed: Json = {
            "displayName": name,
            "allowedClusters": [{"name": self.region}],
            "allowedTemplates": [{"kind": "VirtualClusterTemplate", "group": "storage.loft.sh", "name": self.template}],
            "allowedNodeTypes": [{"name": self.node_type}],
        }
        return {"apiVersion": API, "kind": "Project", "metadata": {"name": name}, "spec": {**allowed, **spec}}

    def instance(self, name: str, nodes: int, **spec: object) -> Json:
        own: Json = {
            "templateRef": {"name": self.template, "version": self.template_version},
            "clusterRef": {"cluster": self.region},
            "parameters": f"gpuQuantity: {nodes}\nnodeType: {self.node_type}\n",
        }
        return {
            "apiVersion": API,
            "kind": "VirtualClusterInstance",
            "metadata": {"name": name, "labels": {"millrace.dev/endpoint": name}},
            "spec": {**own, **spec},
        }


@dataclass(frozen=True, slots=True)
class Ours:
    """A project of this run and, in it, a cluster that came up."""

    scene: Scene
    client: PlatformClient
    project: str
    cluster: str
    prefix: str

    @property
    def instances(self) -> str:
        return f"{MANAGEMENT}/namespaces/{self.prefix}{self.project}/virtualclusterinstances"

    @property
    def claims(self) -> str:
        return f"{MANAGEMENT}/namespaces/{self.prefix}{self.project}/nodeclaims"

    @property
    def proxy(self) -> str:
        return f"/kubernetes/project/{self.project}/virtualcluster/{self.cluster}"

    def seen(self) -> Json:
        found = self.client.get(self.instances, self.cluster)
        assert found is not None
        return found

    def claimed(self) -> list[Json]:
        return [each for each in self.client.list(self.claims) if each["spec"].get("vClusterRef") == self.cluster]

    def joined(self) -> int:
        return sum(_says(each, "Joined") == "True" for each in self.claimed())

    def create(self, body: Json) -> Json:
        """Create an instance; right after its project there is no namespace yet."""
        made: list[Json] = []

        def tried() -> bool:
            try:
                made.append(self.client.create(self.instances, body))
            except Unavailable as later:
                if later.code not in ("ProjectPending", "PlatformForbidden"):
                    raise
                return False
            return True

        self.scene.until(tried, "the project's namespace takes instances")
        return made[0]


def opened(scene: Scene) -> Iterator[Ours]:
    """A project and a ready cluster with one node; all of it gone again afterwards."""
    client = scene.client()
    prefix = Platform(client).namespace_prefix()
    ours = Ours(scene, client, f"{scene.mark}-a", f"{scene.mark}-c", prefix)
    client.create(PROJECTS, scene.project(ours.project))
    ours.create(scene.instance(ours.cluster, 1))
    scene.until(lambda: ours.seen()["status"].get("phase") == "Ready", "the cluster is Ready")
    scene.until(lambda: ours.joined() == 1, "its node has joined")
    yield ours
    _remove(client, scene, ours.instances, ours.cluster)
    _remove(client, scene, PROJECTS, ours.project)
    client.close()


class PlatformPromises:
    """Subclassed with a fixture `ours`."""

    @promise(Learnt.SOURCE)
    def test_it_says_who_we_are_and_how_it_names_namespaces(self, ours: Ours) -> None:
        who = Platform(ours.client).who()

        assert who.user
        assert who.prefix.endswith("-")

    @promise(Learnt.DOCS)
    def test_an_unknown_key_is_refused_with_401(self, ours: Ours, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("no-such-key")

        with pytest.raises(Unavailable) as caught:
            Platform(ours.scene.client(tmp_path / "key")).who()

        assert caught.value.code == "PlatformUnauthorized"

    @promise(Learnt.SOURCE)
    def test_it_tells_its_version_outside_of_its_apis(self, ours: Ours) -> None:
        assert ours.client.read("/version")["version"]

    @promise(Learnt.INFERRED)
    def test_it_lists_licence_features_with_a_status_of_each(self, ours: Ours) -> None:
        listed = {each["metadata"]["name"]: each["status"].get("status") for each in _list(ours, "features")}

        assert listed["vclusters"] in ("active", "preview", "included")

    @promise(Learnt.INFERRED)
    def test_it_lists_its_licence(self, ours: Ours) -> None:
        assert isinstance(_list(ours, "licenses"), tuple)

    @promise(Learnt.INFERRED)
    def test_it_answers_what_our_key_may_do(self, ours: Ours) -> None:
        asked = {"resourceAttributes": {"group": "management.loft.sh", "verb": "create", "resource": "projects"}}

        body: Json = {"apiVersion": API, "kind": "SelfSubjectAccessReview", "spec": asked}
        answer = ours.client.create(f"{MANAGEMENT}/selfsubjectaccessreviews", body)

        assert answer["status"]["allowed"] is True

    @promise(Learnt.DOCS)
    def test_node_types_are_named_provider_dot_type_and_count_what_is_claimed(self, ours: Ours) -> None:
        found = ours.client.get(NODE_TYPES, ours.scene.node_type)

        assert found is not None
        assert found["metadata"]["name"].startswith(found["spec"]["providerRef"] + ".")
        assert found["status"]["capacity"]["claimed"] >= 1

    @promise(Learnt.SOURCE)
    def test_a_project_tells_the_node_types_and_templates_that_it_may_use_and_no_others(self, ours: Ours) -> None:
        types = ours.client.read(f"{PROJECTS}/{ours.project}/nodetypes")
        templates = ours.client.read(f"{PROJECTS}/{ours.project}/templates")

        assert [each["metadata"]["name"] for each in types["nodeTypes"]] == [ours.scene.node_type]
        assert [each["metadata"]["name"] for each in templates["virtualClusterTemplates"]] == [ours.scene.template]

    @promise(Learnt.SOURCE)
    def test_a_name_that_is_taken_is_409_already_exists(self, ours: Ours) -> None:
        with pytest.raises(Unavailable, match="already exists") as caught:
            ours.client.create(PROJECTS, ours.scene.project(ours.project))

        assert caught.value.code == "PlatformConflict"

    @promise(Learnt.SOURCE)
    def test_a_change_of_an_old_version_is_a_conflict(self, ours: Ours) -> None:
        old = ours.client.get(PROJECTS, ours.project)
        assert old is not None
        version = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}}
        ours.client.merge(PROJECTS, ours.project, {**version, "spec": {"displayName": "first"}})

        with pytest.raises(Unavailable) as caught:
            ours.client.merge(PROJECTS, ours.project, {**version, "spec": {"displayName": "second"}})

        assert caught.value.code == "PlatformConflict"

    @promise(Learnt.SOURCE)
    def test_parameters_are_yaml_in_a_string_and_an_object_is_refused(self, ours: Ours) -> None:
        with pytest.raises(Rejected):
            ours.client.create(ours.instances, ours.scene.instance("obj", 0, parameters={"gpuQuantity": 0}))

        assert isinstance(ours.seen()["spec"]["parameters"], str)

    @promise(Learnt.SOURCE)
    def test_an_instance_has_no_status_subresource(self, ours: Ours) -> None:
        with pytest.raises(MillraceError):
            ours.client.read(f"{ours.instances}/{ours.cluster}/status")

    @promise(Learnt.SOURCE)
    def test_an_instance_says_by_phase_and_conditions_how_far_it_is(self, ours: Ours) -> None:
        seen = ours.seen()

        assert seen["status"]["phase"] == "Ready"
        assert _says(seen, "TemplateResolved") == "True"
        assert _says(seen, "VirtualClusterReady") == "True"

    @promise(Learnt.SOURCE)
    def test_a_node_claim_is_scheduled_then_provisioned_then_joined(self, ours: Ours) -> None:
        (claim,) = ours.claimed()[:1]

        assert [_says(claim, each) for each in ("Scheduled", "Provisioned", "Joined")] == ["True"] * 3
        assert claim["spec"]["typeRef"] == ours.scene.node_type
        assert claim["spec"]["providerRef"] == ours.scene.node_type.split(".")[0]

    @promise(Learnt.INFERRED)
    def test_the_tenant_cluster_is_reached_through_the_platform_with_the_same_key(self, ours: Ours) -> None:
        def gpus() -> int:
            nodes = ours.client.list(f"{ours.proxy}/api/v1/nodes")
            return sum(int(each["status"]["allocatable"].get("nvidia.com/gpu", 0)) for each in nodes)

        ours.scene.until(lambda: gpus() > 0, "a node of the tenant cluster offers GPUs")

    @promise(Learnt.DOCS)
    def test_a_pool_grows_and_shrinks_by_a_merge_of_the_parameters(self, ours: Ours) -> None:
        for nodes in (2, 1):
            text = f"gpuQuantity: {nodes}\nnodeType: {ours.scene.node_type}\n"
            ours.client.merge(ours.instances, ours.cluster, {"spec": {"parameters": text}})
            ours.scene.until(lambda n=nodes: len(ours.claimed()) == n, f"the pool has {nodes} claims")  # type: ignore[misc]  # Bound now.

    @promise(Learnt.SOURCE)
    def test_where_a_cluster_stands_can_not_be_changed(self, ours: Ours) -> None:
        with pytest.raises(Rejected):
            ours.client.merge(ours.instances, ours.cluster, {"spec": {"clusterRef": {"cluster": "elsewhere"}}})

    @promise(Learnt.SOURCE)
    def test_an_unknown_template_is_told_by_the_instance_or_refused(self, ours: Ours) -> None:
        wish = ours.scene.instance("no-template", 0, templateRef={"name": "no-such-template"})

        with pytest.raises(Rejected) as caught:
            ours.client.create(ours.instances, wish)

        assert caught.value.code in ("TemplateNotAllowed", "TemplateUnknown")

    @promise(Learnt.DOCS)
    def test_a_version_that_the_template_has_not_is_told_by_the_instance(self, ours: Ours) -> None:
        version = {"name": ours.scene.template, "version": "99.99.99"}
        name = f"{ours.scene.mark}-v"
        ours.create(ours.scene.instance(name, 0, templateRef=version))

        def refused() -> bool:
            found = ours.client.get(ours.instances, name)
            return found is not None and _reason(found, "TemplateResolved") == "VersionNotFound"

        ours.scene.until(refused, "TemplateResolved says VersionNotFound")
        _remove(ours.client, ours.scene, ours.instances, name)

    @promise(Learnt.OPEN)
    def test_a_full_project_refuses_in_words_that_name_its_limit(self, ours: Ours) -> None:
        full = Ours(ours.scene, ours.client, f"{ours.scene.mark}-q", f"{ours.scene.mark}-c", ours.prefix)
        quota = {"project": {"virtualclusterinstances": "0"}}
        full.client.create(PROJECTS, ours.scene.project(full.project, quotas=quota))

        with pytest.raises(Unavailable, match="limit of 0 would be exceeded") as caught:
            full.create(ours.scene.instance(full.cluster, 0))

        assert caught.value.code == "QuotaExceeded"
        _remove(full.client, ours.scene, PROJECTS, full.project)

    @promise(Learnt.INFERRED)
    def test_names_that_make_the_host_namespace_too_long_are_refused(self, ours: Ours) -> None:
        with pytest.raises(Rejected):
            ours.client.create(ours.instances, ours.scene.instance("c" * 60, 0))

    @promise(Learnt.SOURCE)
    def test_lists_come_in_pages_and_say_from_where_to_watch(self, ours: Ours) -> None:
        things, version = ours.client.listed(NODE_TYPES)

        assert ours.scene.node_type in [each["metadata"]["name"] for each in things]
        assert version

    @promise(Learnt.INFERRED)
    def test_a_watch_tells_what_changed_after_a_list(self, ours: Ours) -> None:
        _, version = ours.client.listed(ours.instances)
        ours.client.merge(ours.instances, ours.cluster, {"metadata": {"annotations": {"millrace.dev/seen": "1"}}})

        for change in ours.client.watch(ours.instances, version):
            if change["type"] != "BOOKMARK":
                break

        assert change["type"] == "MODIFIED"
        assert change["object"]["metadata"]["name"] == ours.cluster

    @promise(Learnt.INFERRED)
    def test_a_watch_from_a_version_long_gone_is_refused_so_that_we_list_again(self, ours: Ours) -> None:
        with pytest.raises(Unavailable):
            list(ours.client.watch(ours.instances, "1"))

    @promise(Learnt.OPEN)
    def test_what_is_applied_on_the_server_is_set_and_what_others_wrote_stays(self, ours: Ours) -> None:
        kind = {"apiVersion": API, "kind": "Project", "metadata": {"name": ours.project}}

        ours.client.apply(PROJECTS, ours.project, {**kind, "spec": {"description": "applied"}})

        found = ours.client.get(PROJECTS, ours.project)
        assert found is not None
        assert found["spec"]["description"] == "applied"
        assert found["spec"]["allowedNodeTypes"] == [{"name": ours.scene.node_type}]

    @promise(Learnt.SOURCE)
    def test_a_delete_of_another_uid_is_refused(self, ours: Ours) -> None:
        with pytest.raises(Unavailable) as caught:
            ours.client.delete(ours.instances, ours.cluster, uid="00000000-0000-0000-0000-000000000000")

        assert caught.value.code == "PlatformConflict"

    @promise(Learnt.SOURCE)
    def test_a_delete_of_a_version_that_has_changed_is_refused(self, ours: Ours) -> None:
        uid = ours.seen()["metadata"]["uid"]

        with pytest.raises(Unavailable) as caught:
            ours.client.delete(ours.instances, ours.cluster, uid=uid, version="1")

        assert caught.value.code == "PlatformConflict"

    @promise(Learnt.SOURCE)
    def test_what_is_absent_is_told_by_its_own_name(self, ours: Ours) -> None:
        assert ours.client.get(ours.instances, "nobody") is None
        assert ours.client.get(PROJECTS, "nobody-at-all") is None
        ours.client.delete(ours.instances, "nobody", uid="0")

    @promise(Learnt.INFERRED)
    def test_a_project_that_is_absent_does_not_look_like_an_absent_cluster(self, ours: Ours) -> None:
        elsewhere = f"{MANAGEMENT}/namespaces/{ours.prefix}nobody/virtualclusterinstances"

        try:
            found = ours.client.get(elsewhere, "nobody")
        except MillraceError:
            return
        assert found is None, "an object in a namespace that is not there"

    @promise(Learnt.SOURCE)
    def test_a_node_type_names_its_provider_which_says_by_one_block_what_kind_its_nodes_are(self, ours: Ours) -> None:
        named = {each.name: each for each in read_fleet(ours.client)}[ours.scene.node_type]

        assert named.provider == ours.scene.node_type.partition(".")[0]
        assert named.kind in (NodeKind.OWNED_METAL, NodeKind.CLOUD)

    @promise(Learnt.DOCS)
    def test_behind_a_type_of_owned_metal_stand_as_many_machines_as_it_counts(self, ours: Ours) -> None:
        metal = [each for each in read_fleet(ours.client) if each.kind is NodeKind.OWNED_METAL]
        if not metal:
            pytest.skip("this Platform has no machines of its own")
        for each in metal:
            found, there = each.hardware, ours.client.get(NODE_TYPES, each.name)
            assert found is not None, f"the machines of {each.name} can't be seen"
            assert there is not None
            whole = found.available + found.coming + found.in_use + found.broken
            assert whole == there["status"]["capacity"]["total"]

    @promise(Learnt.SOURCE)
    def test_a_tenant_cluster_gives_out_a_command_that_joins_a_machine_by_hand(self, ours: Ours) -> None:
        body = {"apiVersion": API, "kind": "VirtualClusterInstanceJoinScript", "spec": {}}

        assert ours.client.create(f"{ours.instances}/{ours.cluster}/joinscript", body)["status"]["joinCommand"]

    @promise(Learnt.SOURCE)
    def test_node_environments_can_be_listed(self, ours: Ours) -> None:
        path = f"{MANAGEMENT}/namespaces/{ours.prefix}{ours.project}/nodeenvironments"

        assert isinstance(ours.client.list(path), tuple)

    @promise(Learnt.DOCS)
    def test_two_keys_of_ours_are_in_force_at_once_until_one_is_revoked(self, ours: Ours, tmp_path: Path) -> None:
        keys, name = f"{MANAGEMENT}/ownedaccesskeys", f"{ours.scene.mark}-key"
        body = {"apiVersion": API, "kind": "OwnedAccessKey", "metadata": {"name": name}, "spec": {"type": "User"}}
        made = ours.client.create(keys, body)
        (tmp_path / "key").write_text(made["spec"]["key"])
        second = ours.scene.client(tmp_path / "key")

        assert Platform(second).who().user == Platform(ours.client).who().user

        ours.client.delete(keys, name, uid=str((made["metadata"] or {}).get("uid", "")))
        with pytest.raises(Unavailable) as caught:
            Platform(second).who()
        assert caught.value.code == "PlatformUnauthorized"

    @promise(Learnt.INFERRED)
    def test_a_node_that_is_deleted_in_its_cluster_is_given_back_and_its_pool_makes_another(self, ours: Ours) -> None:
        nodes = f"{ours.proxy}/api/v1/nodes"
        ours.scene.until(lambda: len(ours.client.list(nodes)) == 1, "one node is in the cluster")
        (before,), (claim,) = ours.client.list(nodes), ours.claimed()

        ours.client.merge(nodes, before["metadata"]["name"], {"spec": {"unschedulable": True}})
        ours.client.delete(nodes, before["metadata"]["name"], uid=before["metadata"]["uid"])

        def names() -> list[str]:
            return [each["metadata"]["name"] for each in ours.claimed() if _says(each, "Joined") == "True"]

        ours.scene.until(lambda: claim["metadata"]["name"] not in names() and len(names()) == 1, "another one joined")

    @promise(Learnt.DOCS)
    def test_deleting_a_cluster_gives_back_its_nodes_and_ends_in_404(self, ours: Ours) -> None:
        name = f"{ours.scene.mark}-d"
        made = ours.create(ours.scene.instance(name, 1))
        mine: Callable[[], list[Json]] = lambda: [  # noqa: E731  # Asked again and again.
            each for each in ours.client.list(ours.claims) if each["spec"]["vClusterRef"] == name
        ]
        ours.scene.until(lambda: len(mine()) == 1, "its pool has a claim")

        ours.client.delete(ours.instances, name, uid=made["metadata"]["uid"])

        ours.scene.until(lambda: ours.client.get(ours.instances, name) is None, "the cluster is gone")
        ours.scene.until(lambda: mine() == [], "its claims are gone")


def _list(ours: Ours, plural: str) -> tuple[Json, ...]:
    return ours.client.list(f"{MANAGEMENT}/{plural}")


def _condition(thing: Json, kind: str) -> Json:
    return next((each for each in thing["status"].get("conditions") or () if each["type"] == kind), {})


def _says(thing: Json, kind: str) -> str:
    return str(_condition(thing, kind).get("status", ""))


def _reason(thing: Json, kind: str) -> str:
    return str(_condition(thing, kind).get("reason", ""))


def _remove(client: PlatformClient, scene: Scene, path: str, name: str) -> None:
    found = client.get(path, name)
    if found is not None:
        client.delete(path, name, uid=found["metadata"]["uid"])
        scene.until(lambda: client.get(path, name) is None, f"{name} is gone")


def main() -> None:
    """Print what was never seen on a real Platform."""
    for learnt in Learnt:
        those = [each.what for each in PROMISES if each.learnt is learnt]
        sys.stdout.write(f"{learnt} ({len(those)}):\n" + "".join(f"  - {each}\n" for each in those))
    sys.stdout.write(f"\n{len(PROMISES)} promises; none was seen on a real Platform by those who wrote them.\n")


if __name__ == "__main__":
    main()
