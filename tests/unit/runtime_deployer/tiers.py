"""The tiers that are sold, as placements, and what each template makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from libs.common.events.endpoint import Placement
from libs.common.units import GIB
from services.runtime_deployer.core.manifests import Manifest, render
from services.runtime_deployer.core.templates import Template
from tests.unit.runtime_deployer.a_runtime import TEMPLATES, Scene, gpu_ready, requested

CATALOGUE: Final = Path(__file__).parents[3] / "deploy" / "catalogue" / "tiers.yaml"


def tiers() -> dict[str, dict[str, Any]]:
    """The tiers of the catalogue, by name."""
    return {each["name"]: each for each in yaml.safe_load(CATALOGUE.read_text())["tiers"]}


def rendered(tier: dict[str, Any], template: str, templates: dict[str, Template] | None = None) -> tuple[Manifest, ...]:
    """Every object of an endpoint of that tier with a model of 40 GiB."""
    kept = ("tenancy", "node_type", "gpus_per_node", "gpus_per_replica", "cluster_template", "price_class")
    placement = Placement(
        **{each: tier[each] for each in kept},
        runtime_template=template,
        model_digest="sha256:" + "a" * 64,
        model_size_bytes=40 * GIB,
    )
    known = templates or dict(TEMPLATES)
    scene = Scene(templates=known).hear(requested(placement=placement), gpu_ready())
    return render(scene.runtime, known[template])
