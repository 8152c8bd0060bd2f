"""Every object of every template in every tier, judged by a real API server; and what it refuses, by its field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydantic import JsonValue

from libs.common.errors import Rejected
from services.runtime_deployer.core.plan import Apply, Check
from services.runtime_deployer.core.templates import Template
from services.runtime_deployer.shell.kubernetes import PATHS, KubernetesClusters
from tests.integration.kube.crds import definitions, installed
from tests.integration.kube.deployer import ANY, Deployer
from tests.integration.kube.running import Kube, http_client
from tests.unit.runtime_deployer.a_runtime import TEMPLATES
from tests.unit.runtime_deployer.tiers import SOURCES, rendered, tiers

pytestmark = [pytest.mark.kube, pytest.mark.xdist_group("kube")]


@pytest.fixture(scope="module")
def operator(kube: Kube) -> Iterator[Deployer]:
    """An operator of a cluster in which KServe's and the Prometheus operator's kinds are installed."""
    one = Deployer(kube)
    with http_client(kube.kubeconfig) as http, installed(one, definitions(http)):
        KubernetesClusters(one.connections).apply(Apply(ANY, rendered(tiers()["h100-dedicated"], "vllm@1")[0]))
        yield one
    one.connections.close()


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_every_object_of_a_template_passes_a_dry_run_in_every_tier(operator: Deployer, template: str) -> None:
    clusters = KubernetesClusters(operator.connections)

    for tier in tiers().values():
        _, *owned = rendered(tier, template)
        clusters.apply(Check(ANY, tuple(owned)))

    for manifest in owned:
        assert operator.ask("GET", f"{PATHS[manifest.kind]}/{manifest.name}").status == 404, "it was a dry run"


@pytest.mark.parametrize("source", sorted(SOURCES))
@pytest.mark.parametrize("template", ["vllm@1", "vllm-openai@1", "kserve-vllm@1"])
def test_a_pod_that_fetches_from_any_source_passes_a_dry_run(operator: Deployer, template: str, source: str) -> None:
    _, *owned = rendered(tiers()["h100-dedicated"], template, weights=SOURCES[source])

    KubernetesClusters(operator.connections).apply(Check(ANY, tuple(owned)))


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_an_object_with_a_field_too_many_is_refused_with_that_field_whatever_its_kind(
    operator: Deployer, template: str
) -> None:
    clusters = KubernetesClusters(operator.connections)
    _, *owned = rendered(tiers()["h100-dedicated"], template)

    for manifest in owned:
        spec = manifest.body.get("spec")
        more: dict[str, JsonValue] = {"spec": {**spec, "noSuchField": 1}} if isinstance(spec, dict) else {"specc": {}}
        body = {**manifest.body, **more}
        with pytest.raises(Rejected, match=r"noSuchField|specc") as refused:
            clusters.apply(Check(ANY, (replace(manifest, body=body),)))
        assert refused.value.code == "invalid_object", manifest.kind


def test_a_field_of_the_pod_inside_an_inference_service_is_judged_too(operator: Deployer) -> None:
    templates: dict[str, Template] = dict(TEMPLATES)
    templates["kserve-vllm@1"] = replace(templates["kserve-vllm@1"], pod={"prioritClassName": "gold"})
    _, *owned = rendered(tiers()["h100-dedicated"], "kserve-vllm@1", templates)

    with pytest.raises(Rejected, match=r"predictor\.prioritClassName"):
        KubernetesClusters(operator.connections).apply(Check(ANY, tuple(owned)))
