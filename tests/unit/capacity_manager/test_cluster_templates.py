"""Our cluster templates: rendered as they were read and judged by people, refused with their line, published once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from libs.common.clock import ManualClock
from libs.common.errors import Invalid, Rejected
from libs.twin.fake_engines import FakeEngines
from libs.twin.inprocess import WorldTransport
from libs.twin.options import DEFAULT_KEY, TwinOptions
from libs.twin.world import World
from services.capacity_manager.core.cluster_template import Recipe
from services.capacity_manager.core.tenancy import Tenancy, home_of, shared_name
from services.capacity_manager.shell.platform import PlatformClient
from services.capacity_manager.shell.platform.publishing import TEMPLATES, Publisher
from services.capacity_manager.shell.platform.shares import Share, change, of, written
from services.capacity_manager.shell.templates import DIRECTORY, check, read_templates, template_of
from tests.unit.capacity_manager.builders import PLACEMENT, Bench, requested

GOLDEN: Final = Path(__file__).parent / "golden"
OURS: Final = read_templates()
RECIPE: Final = Recipe(
    name="t", version="1.0.0", tenancy=Tenancy.PRIVATE_NODES, chart="0.37.2", provider="metal3",
    node_type="metal3.gpu-h100", nodes_max=4,
)  # fmt: skip
VALUES: Final[str] = template_of(RECIPE).body["template"]["helmRelease"]["values"]


@pytest.mark.parametrize("key", OURS, ids="@".join)
def test_a_template_of_ours_is_rendered_as_it_was_approved(key: tuple[str, str]) -> None:
    template = OURS[key].body["template"]

    golden = (GOLDEN / f"{key[0]}@{key[1]}.yaml").read_text()
    assert f"{template['helmRelease']['values']}---\n{template['objects']}" == golden


def test_every_tenancy_has_a_template_and_no_template_syncs_from_its_host() -> None:
    labels = {each.body["template"]["metadata"]["labels"]["millrace.dev/tenancy"] for each in OURS.values()}

    assert labels == set(Tenancy)
    assert all("sync" not in each.body["template"]["helmRelease"]["values"] for each in OURS.values())


FILE: Final = (DIRECTORY / "private-h100.yaml").read_text()


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (("tenancy: private_nodes", "tenancy: penthouse"), "t.yaml:5: tenancy"),
        (("version: 1.0.0", "version: 1.0"), "t.yaml:4: version"),
        (("  max: 64", "  max: none"), "t.yaml:11: nodes.max"),
        (("  max: 64", "  size: 64"), "t.yaml"),
        (("metal3.gpu-h100", "terraform.gpu-l40s"), "t.yaml:1: node type terraform.gpu-l40s is not of provider metal3"),
        (("control_planes: 3", "control_planes: 2"), "t.yaml:1: 2 control planes have no majority"),
        (("tenancy: private_nodes", "tenancy: shared_pool"), "t.yaml:1: a shared cluster has no burst pool"),
        (("name: ", "name: {"), "t.yaml"),
    ],
)
def test_a_template_file_that_is_wrong_is_refused_with_its_line(
    tmp_path: Path, changed: tuple[str, str], complaint: str
) -> None:
    assert changed[0] in FILE
    (tmp_path / "t.yaml").write_text(FILE.replace(*changed, 1))

    with pytest.raises(Invalid) as caught:
        read_templates(tmp_path)

    assert complaint in str(caught.value)


def test_a_version_that_is_there_twice_and_a_directory_without_any_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no cluster templates"):
        read_templates(tmp_path)
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(FILE)

    with pytest.raises(Invalid, match=r"b.yaml:1: millrace-private-h100@1.0.0 is there twice"):
        read_templates(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("privateNodes:", "sync: {fromHost: {gateways: {enabled: true}}}\nprivateNodes:"),
        ("operator: In", "operator: NotExists"),
        ("operator: In", "operator: Exists"),
        ("quantity: {{ .Values.gpuQuantity }}", "quantity: '{{ .Values.gpuQuantity }}'"),
        ("  enabled: true\n  vpn", "  enabled: false\n  vpn"),
        ("podSecurityStandard: baseline", "podSecurityStandard: lax"),
        ("controlPlane:", "controlPlan:"),
    ],
)
def test_a_vcluster_yaml_that_such_a_cluster_can_not_have_is_refused(old: str, new: str) -> None:
    assert old in VALUES
    check(VALUES, of="t")

    with pytest.raises(Invalid):
        check(VALUES.replace(old, new), of="t")


def test_a_burst_pool_waits_before_it_takes_a_node_away_and_never_moves_a_model() -> None:
    values = template_of(replace(RECIPE, burst_max=2)).body["template"]["helmRelease"]["values"]

    (auto,) = yaml.safe_load(values.replace("{{ ", "'").replace(" }}", "'"))["privateNodes"]["autoNodes"]
    (pool,) = auto["dynamic"]
    assert pool["limits"] == {"nodes": "2"}
    assert pool["disruption"] == {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "10m"}


class Scene:
    """A twin, and somebody who publishes."""

    def __init__(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(DEFAULT_KEY)
        world = World(ManualClock(), TwinOptions(), FakeEngines())
        transport = WorldTransport(world)
        self.client = PlatformClient(url="http://twin", key_file=tmp_path / "key", transport=transport)
        self.http = httpx.Client(
            base_url="http://twin", transport=transport, headers={"authorization": f"Bearer {DEFAULT_KEY}"}
        )

    def publish(self, *recipes: Recipe) -> None:
        templates = [template_of(each) for each in recipes]
        publisher = Publisher(self.client, {(each.name, each.version): each for each in templates})
        for each in templates:
            publisher.publish(each.name, each.version)

    def found(self) -> dict[str, Any]:
        found = self.client.get(TEMPLATES, RECIPE.name)
        assert found is not None
        return found


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_template_is_published_once_and_gets_the_versions_that_it_lacks(scene: Scene) -> None:
    scene.publish(RECIPE)
    first = scene.found()
    scene.publish(RECIPE)
    assert scene.found()["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]

    scene.publish(replace(RECIPE, version="1.1.0", nodes_max=8))

    assert [each["version"] for each in scene.found()["spec"]["versions"]] == ["1.0.0", "1.1.0"]
    assert scene.found()["spec"]["versions"][0] == first["spec"]["versions"][0]


def test_a_published_version_does_not_change_under_the_clusters_that_run_by_it(scene: Scene) -> None:
    scene.publish(RECIPE)
    before = scene.found()

    with pytest.raises(Rejected, match="give what changed a new version") as caught:
        scene.publish(replace(RECIPE, nodes_max=8))

    assert caught.value.code == "TemplateInvalid"
    assert scene.found() == before


def test_a_template_of_the_operator_under_our_name_is_left_alone(scene: Scene) -> None:
    body = {"metadata": {"name": RECIPE.name}, "spec": {"displayName": "theirs", "versions": []}}
    assert scene.http.post(TEMPLATES, json=body).status_code == 201
    before = scene.found()

    scene.publish(RECIPE)

    assert scene.found() == before


@pytest.mark.parametrize(
    ("tenancy", "project", "cluster", "is_shared"),
    [
        ("private_nodes", "mr-acme-prod", "ep-abc", False),
        ("tenant_cluster", "mr-acme-prod", "sc-h100-dedicated-eu-1", True),
        ("shared_pool", "mr-pool", "sc-h100-dedicated-eu-1", True),
        ("vnode", "mr-pool", "sc-h100-dedicated-eu-1", True),
        ("of a newer build", "mr-acme-prod", "ep-abc", False),
    ],
)
def test_the_tenancy_says_where_an_endpoint_lives(tenancy: str, project: str, cluster: str, is_shared: bool) -> None:
    bench = Bench()
    bench.hear(requested().model_copy(update={"placement": PLACEMENT.model_copy(update={"tenancy": tenancy})}))

    home = home_of(bench.claim)

    assert (home.project, home.cluster, home.is_shared) == (project, cluster, is_shared)
    assert (home.tenant_id == "") is (project == "mr-pool")


@pytest.mark.parametrize("tier", ["a-tier-with-a-very-long-name", "gpu-2.0"])
def test_the_name_of_a_shared_cluster_fits_a_namespace(tier: str) -> None:
    assert len(shared_name(tier, "eu-1")) <= 25
    assert "." not in shared_name(tier, "eu-1")
    assert shared_name(tier, "eu-1") != shared_name(tier, "us-1")


def test_shares_are_read_as_they_were_written_and_one_that_can_not_be_read_still_counts_as_somebody() -> None:
    shares = {"ep-a": Share(2, 7), "ep-b": Share(0, 1)}
    instance = {"metadata": {"annotations": {**written(shares), "other": "x", "share.millrace.dev/ep-c": "many"}}}

    assert of(instance) == {**shares, "ep-c": Share(0, 0)}
    assert of({"metadata": {"annotations": None}}) == {}
    assert change("ep-a", None) == {"share.millrace.dev/ep-a": None}
