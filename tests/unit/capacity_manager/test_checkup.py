"""What a look at the Platform means: each missing thing says what it turns off, and only some make it unfit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from libs.common.clock import ManualClock
from libs.common.errors import Invalid
from libs.twin.fake_engines import FakeEngines
from libs.twin.inprocess import WorldTransport
from libs.twin.options import DEFAULT_KEY, TwinOptions
from libs.twin.options import FEATURES as LICENSABLE
from libs.twin.world import World
from services.capacity_manager.core.checkup import (
    FEATURES,
    RIGHTS,
    Finding,
    Health,
    Sight,
    TypeSight,
    checkup,
    is_healthy,
)
from services.capacity_manager.core.tiers import TierClass, TierSight
from services.capacity_manager.shell.doctor import findings
from services.capacity_manager.shell.platform import PlatformClient
from services.capacity_manager.shell.tiers import read_tiers

CATALOGUE = Path(__file__).parents[3] / "deploy" / "catalogue"
TYPE = TypeSight("metal3.gpu-h100", "Available", gpus=8, total=4, free=3)
CLASS = TierClass("metal3.gpu-h100", 8, "inference-h100@1.0.0", "tiers.yaml:7")
TIER = TierSight("h100-dedicated", "private_nodes", (CLASS,), ("metal3",), "tiers.yaml:7")
WELL = Sight(
    "https://platform",
    user="us",
    host="platform",
    prefix="p-",
    version="v4.12.1",
    plan="scale",
    features=dict.fromkeys(FEATURES, "active"),
    rights=dict.fromkeys(RIGHTS, True),
    node_types=(TYPE,),
    tiers=(TIER,),
)


def of(found: tuple[Finding, ...], name: str) -> Finding:
    (one,) = [each for each in found if each.name == name]
    return one


def test_a_platform_that_has_everything_is_healthy_and_nothing_is_explained() -> None:
    found = checkup(WELL)

    assert is_healthy(found)
    assert {each.health for each in found} == {Health.FINE}
    assert [each.means for each in found if each.means] == []


@pytest.mark.parametrize("feature", FEATURES)
def test_each_missing_feature_says_what_it_turns_off(feature: str) -> None:
    found = checkup(replace(WELL, features={**dict.fromkeys(FEATURES, "active"), feature: ""}))

    is_needed, means = FEATURES[feature]
    assert of(found, feature) == Finding(
        "licence", feature, Health.BROKEN if is_needed else Health.LACKING, "not licensed", means
    )
    assert is_healthy(found) is not is_needed


@pytest.mark.parametrize("right", RIGHTS)
def test_each_missing_right_says_what_can_not_be_done(right: str) -> None:
    found = checkup(replace(WELL, rights={**dict.fromkeys(RIGHTS, True), right: False}))

    assert of(found, right).means == RIGHTS[right]


@pytest.mark.parametrize(
    ("sight", "name", "health", "says"),
    [
        (replace(WELL, version="4.7.9"), "version", Health.BROKEN, "4.7.9"),
        (replace(WELL, version=None), "version", Health.LACKING, "not told"),
        (replace(WELL, version="main"), "version", Health.LACKING, "main"),
        (replace(WELL, node_types=(replace(TYPE, free=0),)), TYPE.name, Health.LACKING, "0 of 4 free, 8 GPUs each"),
        (replace(WELL, node_types=(replace(TYPE, free=-1),)), TYPE.name, Health.LACKING, "-1 of 4 free, 8 GPUs each"),
        (replace(WELL, node_types=(replace(TYPE, free=None),)), TYPE.name, Health.FINE, "no limit told, 8 GPUs each"),
        (replace(WELL, node_types=()), "node types", Health.BROKEN, "none has GPUs"),
        (replace(WELL, node_types=()), TIER.name, Health.BROKEN, "tiers.yaml:7 node_type: the Platform has no"),
        (replace(WELL, node_types=(replace(TYPE, gpus=4),)), TIER.name, Health.BROKEN,
         "tiers.yaml:7 gpus_per_node: 8, but a metal3.gpu-h100 has 4"),
        (replace(WELL, tiers=(replace(TIER, classes=(CLASS, replace(CLASS, node_type="a.b"))),)), TIER.name,
         Health.LACKING, "tiers.yaml:7 node_type: the Platform has no a.b"),
        (replace(WELL, node_types=(replace(TYPE, phase="Failed"),)), TYPE.name, Health.LACKING, "Failed; 3 of 4 free"),
        (replace(WELL, features={}), TIER.name, Health.LACKING, "tiers.yaml:7 licences: needs metal3"),
        (replace(WELL, tiers=(replace(TIER, tenancy="vnode"),), features={"metal3": "active"}), TIER.name,
         Health.LACKING, "tiers.yaml:7 licences: needs vnode-runtime"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_should_be_is_said(sight: Sight, name: str, health: Health, says: str) -> None:
    found = of(checkup(sight), name)

    assert found.health is health
    assert found.said.startswith(says)


def test_without_access_nothing_else_is_judged() -> None:
    (only,) = checkup(Sight("https://platform", tiers=(TIER,), troubles={"platform": "no answer"}))

    assert (only.name, only.health, only.said) == ("access", Health.BROKEN, "no answer")


def examined(tmp_path: Path, **options: object) -> tuple[Finding, ...]:
    (tmp_path / "key").write_text(DEFAULT_KEY)
    world = World(ManualClock(), TwinOptions.model_validate(options), FakeEngines())
    client = PlatformClient(url="http://twin", key_file=tmp_path / "key", transport=WorldTransport(world))
    return findings(client, url="http://twin", catalogue_dir=CATALOGUE)


def test_the_twin_with_a_full_licence_is_healthy(tmp_path: Path) -> None:
    found = examined(tmp_path)

    assert [each for each in found if each.health is not Health.FINE] == []
    assert of(found, "metal3.gpu-h100").said == "4 of 4 free, 8 GPUs each"


def test_what_the_twin_lacks_is_found(tmp_path: Path) -> None:
    features = [each for each in LICENSABLE if each != "metal3"]

    found = examined(tmp_path, features=features, forbidden=["delete virtualclusterinstances"])

    assert not is_healthy(found)
    assert of(found, "metal3").health is Health.LACKING
    assert of(found, "h100-dedicated").health is Health.LACKING
    assert of(found, "delete virtualclusterinstances").health is Health.BROKEN


def test_a_refused_key_and_a_login_page_end_the_examination_with_their_words(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    answers = {"401": httpx.Response(401, json={"kind": "Status"}), "html": httpx.Response(200, text="<html>")}

    said = {}
    for name, answer in answers.items():
        transport = httpx.MockTransport(lambda _, answer=answer: answer)
        client = PlatformClient(url="http://twin", key_file=tmp_path / "key", transport=transport)
        (only,) = findings(client, url="http://twin", catalogue_dir=None)
        said[name] = only.said

    assert said == {
        "401": "the Platform does not accept our access key",
        "html": "HTTP 200 without a JSON object; that is no answer of its API",
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("version: 1\ntiers: 7\n", "tiers.yaml:1: no list of tiers"),
        ("version: 1\ntiers:\n  - name: a\n    tenancy: vnode\n", "tiers.yaml:3: a tier needs node_type"),
        (
            "tiers:\n  - {name: a, tenancy: v, node_type: x.y, cluster_template: t, gpus_per_node: 1,"
            " gpus_per_replica: 1, replicas_max: 1}\n  - 7\n",
            "tiers.yaml:3: a tier is a map",
        ),
        ("tiers: [", "tiers.yaml"),
    ],
)
def test_a_catalogue_that_can_not_be_read_is_refused_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "tiers.yaml").write_text(text)

    with pytest.raises(Invalid) as caught:
        read_tiers(tmp_path)

    assert complaint in str(caught.value)


def test_findings_are_json(tmp_path: Path) -> None:
    assert json.dumps([each.health for each in examined(tmp_path)])
