"""Golden files: every object of every tier as it is sold, and of every template, so that each change is seen."""

from __future__ import annotations

import os
from typing import Final

import pytest
import yaml

from services.runtime_deployer.core.manifests import kinds_of
from services.runtime_deployer.core.observed import Kind
from services.runtime_deployer.core.templates import Workload
from tests.unit.runtime_deployer.a_runtime import GOLDEN, TEMPLATES
from tests.unit.runtime_deployer.tiers import SOURCES, rendered, tiers

EVERYWHERE: Final = "h100-dedicated"  # The tier in which every template is shown; the others with what they name.
SHOWN: Final = sorted(
    {(name, template) for name, tier in tiers().items() for template in tier["runtime_templates"]}
    | {(EVERYWHERE, template) for template in TEMPLATES}
)


@pytest.mark.parametrize(("tier", "template"), SHOWN, ids=[f"{tier}-{template}" for tier, template in SHOWN])
def test_what_is_made_is_what_the_golden_file_says(tier: str, template: str) -> None:
    bodies = [dict(each.body) for each in rendered(tiers()[tier], template)]
    text = yaml.safe_dump_all(bodies, sort_keys=False, width=120)
    golden = GOLDEN / "tiers" / f"{tier}-{template.replace('@', '-')}.yaml"
    if os.environ.get("MILLRACE_WRITE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)

    assert text == golden.read_text(), "see the difference, then rewrite it with MILLRACE_WRITE_GOLDEN=1"


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_what_a_source_of_weights_adds_is_what_the_golden_file_says(source: str) -> None:
    template = "vllm-openai@1"
    (body,) = (
        each.body
        for each in rendered(tiers()[EVERYWHERE], template, weights=SOURCES[source])
        if each.kind is Kind.DEPLOYMENT
    )
    text = yaml.safe_dump(dict(body), sort_keys=False, width=120)
    golden = GOLDEN / "sources" / f"{source}.yaml"
    if os.environ.get("MILLRACE_WRITE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)

    assert text == golden.read_text(), "see the difference, then rewrite it with MILLRACE_WRITE_GOLDEN=1"


def test_no_golden_file_is_left_of_what_is_made_no_longer() -> None:
    files = {each.stem for each in (GOLDEN / "tiers").glob("*.yaml")}

    assert files == {f"{tier}-{template.replace('@', '-')}" for tier, template in SHOWN}


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_a_workload_has_one_owner(template: str) -> None:
    kinds = kinds_of(TEMPLATES[template])

    assert len(kinds & {Kind.DEPLOYMENT, Kind.INFERENCE_SERVICE}) == 1
    if TEMPLATES[template].workload is Workload.INFERENCE_SERVICE:
        assert not kinds & {Kind.SERVICE, Kind.MONITOR}, "KServe makes the Service; a second one would be nobody's"
