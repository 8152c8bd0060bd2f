"""What is sold: pinned for those who may buy it, refused in clear words for everybody else."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from libs.common.errors import Invalid
from libs.common.events.endpoint import EndpointSpec, Scaling
from services.endpoint_api.core.catalogue import Catalogue
from services.endpoint_api.core.refusal import FieldRefused
from services.endpoint_api.shell.catalogue import read_catalogue
from tests.unit.endpoint_api.given import CATALOGUE, CATALOGUE_DIR, SPEC

H100: Final = EndpointSpec(model="millrace/ngram-1-large", tier="h100-dedicated", region="us-1")


def test_an_accepted_spec_is_pinned_to_what_the_catalogue_says() -> None:
    placement = CATALOGUE.resolve(H100)

    assert placement.node_type == "metal3.gpu-h100"
    assert (placement.gpus_per_node, placement.gpus_per_replica) == (8, 4)
    assert placement.cluster_template == "inference-h100@1.0.0"
    assert placement.runtime_template == "vllm@4"
    assert placement.model_digest.startswith("sha256:")


def test_what_a_cut_stream_owes_is_pinned_too() -> None:
    tiers = tuple(replace(each, interrupted="generated") for each in CATALOGUE.tiers)

    assert CATALOGUE.resolve(H100).interrupted == "delivered"
    assert replace(CATALOGUE, tiers=tiers).resolve(H100).interrupted == "generated"


@pytest.mark.parametrize(
    ("change", "field", "code", "listed"),
    [
        ({"model": "nobody/nothing"}, "spec.model", "unknown_model", "millrace/ngram-1-large"),
        ({"tier": "b200"}, "spec.tier", "unknown_tier", "l40s-dedicated"),
        ({"region": "mars-1"}, "spec.region", "unknown_region", "us-1"),
        ({"scaling": Scaling(max=17)}, "spec.scaling.max", "too_many_replicas", "16"),
    ],
)
def test_what_does_not_exist_is_refused_by_field_with_what_exists(
    change: dict[str, Any], field: str, code: str, listed: str
) -> None:
    with pytest.raises(FieldRefused) as refusal:
        CATALOGUE.resolve(SPEC.model_copy(update=change))

    assert (refusal.value.field, refusal.value.code) == (field, code)
    assert listed in str(refusal.value)
    assert "nobody" not in str(refusal.value)


def test_a_model_that_does_not_fit_a_tier_is_refused() -> None:
    small = replace(CATALOGUE.models[0], tiers=("h100-dedicated",))

    with pytest.raises(FieldRefused) as refusal:
        Catalogue(CATALOGUE.tiers, (small,)).resolve(SPEC)

    assert refusal.value.code == "model_does_not_fit"


def test_a_tier_that_a_tenant_is_not_entitled_to_looks_as_if_it_did_not_exist() -> None:
    closed = Catalogue((replace(CATALOGUE.tiers[0], open=False), CATALOGUE.tiers[1]), CATALOGUE.models)

    with pytest.raises(FieldRefused) as refusal:
        closed.for_tenant(("l40s-dedicated",)).resolve(H100)

    assert "h100" not in str(refusal.value)
    assert all("h100-dedicated" not in each.tiers for each in closed.for_tenant(()).models)
    assert [each.name for each in closed.for_tenant(()).tiers] == ["l40s-dedicated"]


@pytest.mark.parametrize("entitled", [("h100-dedicated",), ("*",)])
def test_an_entitlement_opens_a_tier(entitled: tuple[str, ...]) -> None:
    closed = Catalogue((replace(CATALOGUE.tiers[0], open=False), CATALOGUE.tiers[1]), CATALOGUE.models)

    assert closed.for_tenant(entitled).resolve(H100).node_type == "metal3.gpu-h100"


def test_a_spec_may_pin_any_template_of_its_tier_and_no_other() -> None:
    tier = replace(CATALOGUE.tiers[0], runtime_templates=("vllm@2", "vllm@1"))
    catalogue = Catalogue((tier,), CATALOGUE.models)

    assert catalogue.resolve(H100).runtime_template == "vllm@2"
    assert catalogue.resolve(H100.model_copy(update={"template": "vllm@1"})).runtime_template == "vllm@1"
    with pytest.raises(FieldRefused) as refusal:
        catalogue.resolve(H100.model_copy(update={"template": "vllm@9"}))
    assert (refusal.value.field, refusal.value.code) == ("spec.template", "unknown_template")
    assert "vllm@2, vllm@1" in str(refusal.value)


def write(directory: Path, **changes: str) -> Path:
    """The real catalogue in ``directory``, with whole files replaced."""
    for name in ("tiers", "models"):
        text = changes.get(name, (CATALOGUE_DIR / f"{name}.yaml").read_text())
        (directory / f"{name}.yaml").write_text(text)
    return directory


@cache
def shipped(file: str) -> dict[str, list[dict[str, Any]]]:
    """What is in a file of the real catalogue."""
    content: dict[str, list[dict[str, Any]]] = yaml.safe_load((CATALOGUE_DIR / f"{file}.yaml").read_text())
    return content


def changed(file: str, **change: Any) -> str:
    """A file of the real catalogue with the first entry changed."""
    first, *rest = shipped(file)[file]
    return yaml.safe_dump({**shipped(file), file: [first | change, *rest]})


CLOUD = {"node_type": "terraform.gpu-h100", "gpus_per_node": 8, "cluster_template": "inference-h100@1.0.0"}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("tiers", changed("tiers", gpus_per_replica=16), "a replica needs 16 GPUs, a node has 8"),
        ("tiers", changed("tiers", name="l40s-dedicated"), "tier l40s-dedicated is there twice"),
        ("tiers", changed("tiers", name="other"), "there is no tier h100-dedicated"),
        ("tiers", changed("tiers", regions=[]), "tiers.0.regions"),
        ("tiers", changed("tiers", regions=["eu-1", "eu-1"]), "region eu-1 is there twice"),
        ("tiers", changed("tiers", tenancy="shared"), "tiers.0.tenancy"),
        ("tiers", changed("tiers", replicas_max=65), "replicas_max is over 64"),
        ("tiers", changed("tiers", node_typ="x"), "tiers.0.node_typ"),
        ("tiers", changed("tiers", warm={"nodes": 2, "most": 1}), "most 1 is below nodes 2"),
        ("tiers", changed("tiers", interrupted="never"), "tiers.0.interrupted"),
        ("tiers", changed("tiers", route="shared"), "clients of private_nodes can't enter by shared"),
        ("tiers", changed("tiers", route="bridge", tenancy="vnode"), "tiers.0.route (line "),
        ("tiers", changed("tiers", route="door"), "tiers.0.route (line "),
        ("tiers", changed("tiers", tenancy="vnode", warm={"nodes": 1, "floor": 2}), "floor 2 is above nodes 1"),
        ("tiers", changed("tiers", fallbacks=[{**CLOUD, "gpus_per_node": 2}]), "too few for a replica"),
        ("tiers", changed("tiers", fallbacks=[CLOUD, CLOUD]), "class terraform.gpu-h100 is there twice"),
        ("tiers", changed("tiers", tenancy="vnode", fallbacks=[CLOUD]), "nodes of one class; leave fallbacks out"),
        ("models", changed("models", digest="sha256:12"), "models.0.digest"),
        ("models", changed("models", tiers=["b200"]), "there is no tier b200"),
        ("models", changed("models", size_bytes="many"), "models.0.size_bytes"),
        ("models", "version: 2\nmodels: []\n", "version (line 1): "),
        ("models", "version: 1\n\nmodels:\n- id: a/b\n  size_bytes: 0\n", "models.0.size_bytes (line 5): "),
        ("models", "version: 1\n\nmodels:\n- id: a/b\n  size_bytes: 0\n", "models.0.digest (line 4): "),
        ("models", "version: 1\nversion: 1\n", "is there twice"),
        ("models", "version: [1\n", "models.yaml"),
        ("models", "", "the file"),
        ("models", "- !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(Invalid) as refusal:
        read_catalogue(write(tmp_path, **{name: text}))

    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert str(tmp_path) in str(refusal.value)


def test_a_missing_file_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"tiers\.yaml: No such file.*MILLRACE_CATALOGUE_DIR"):
        read_catalogue(tmp_path)
