"""The tiers that are sold, as placements, and what each template makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from libs.common.events.endpoint import Placement
from libs.common.units import GIB
from libs.model_fetch.manifest import File, Manifest
from services.runtime_deployer.core.manifests import Manifest as Object
from services.runtime_deployer.core.manifests import render
from services.runtime_deployer.core.templates import Template
from services.runtime_deployer.core.weights import Weights
from tests.unit.runtime_deployer.a_runtime import TEMPLATES, Scene, gpu_ready, requested

CATALOGUE: Final = Path(__file__).parents[3] / "deploy" / "catalogue" / "tiers.yaml"


def tiers() -> dict[str, dict[str, Any]]:
    """The tiers of the catalogue, by name."""
    return {each["name"]: each for each in yaml.safe_load(CATALOGUE.read_text())["tiers"]}


FILES: Final = Manifest((File("config.json", 855, "b" * 64), File("model.safetensors", 40 * GIB - 855, "c" * 64)))
PINNED: Final = FILES.digest
SOURCES: Final = {
    "s3": Weights("s3://models/llama", FILES.text, endpoint="https://s3.example.com:9000", region="eu-1", secret="s3"),
    "hub": Weights("hf://o/n@v1", FILES.text, secret="hub"),
    "claim": Weights("pvc://weights/llama", FILES.text),
    "directory": Weights("file:///mnt/models/llama", FILES.text),
    "image": Weights("baked:///opt/llama", FILES.text),
}


def rendered(
    tier: dict[str, Any],
    template: str,
    templates: dict[str, Template] | None = None,
    weights: Weights | None = None,
) -> tuple[Object, ...]:
    """Every object of an endpoint of that tier with a model of 40 GiB."""
    kept = ("tenancy", "node_type", "gpus_per_node", "gpus_per_replica", "cluster_template", "price_class")
    placement = Placement(
        **{each: tier[each] for each in kept},
        runtime_template=template,
        model_digest="sha256:" + "a" * 64 if weights is None else PINNED,
        model_size_bytes=40 * GIB,
    )
    known = templates or dict(TEMPLATES)
    files = {PINNED: weights} if weights is not None else {}
    scene = Scene(templates=known, weights=files).hear(requested(placement=placement), gpu_ready())
    return render(scene.runtime, known[template])
