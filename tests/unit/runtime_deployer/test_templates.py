"""Runtime templates as an operator writes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from libs.common.errors import Invalid
from libs.common.events.endpoint import Placement
from services.runtime_deployer.core.pod import WRITTEN, pod_spec, served_name
from services.runtime_deployer.core.templates import Template, Workload
from services.runtime_deployer.shell.settings import TEMPLATES_DIR
from services.runtime_deployer.shell.templates import FILE_BYTES_MAX, load_templates
from tests.unit.runtime_deployer.a_runtime import ENDPOINT, MODEL, TEMPLATES, a_placement

SHIPPED = (TEMPLATES_DIR / "vllm-1.yaml").read_text()


def test_a_second_version_of_vllm_differs_where_it_says_so() -> None:
    one, two = (load_templates(TEMPLATES_DIR)[each] for each in ("vllm@1", "vllm@2"))

    assert two.drain_s == 2 * one.drain_s
    assert set(two.engine_args) - set(one.engine_args) == {"--enable-prefix-caching"}
    assert replace(two, version="1", drain_s=one.drain_s, engine_args=one.engine_args) == one


def test_the_shipped_templates_are_engines_direct_and_behind_kserve() -> None:
    shipped = load_templates(TEMPLATES_DIR)

    assert set(shipped) == {
        "container@1",
        "kserve-vllm@1",
        "triton@1",
        "vllm-dra@1",
        "vllm-mig@1",
        "vllm-openai@1",
        "vllm-openai@2",
        "vllm@1",
        "vllm@2",
        "vllm@3",
        "vllm@4",
    }
    assert {each.workload for each in shipped.values()} == set(Workload)


def test_a_new_version_stands_beside_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "vllm-1.yaml").write_text(SHIPPED)
    (tmp_path / "vllm-2.yaml").write_text(SHIPPED.replace('version: "1"', 'version: "2"').replace("60", "90"))

    templates = load_templates(tmp_path)

    assert set(templates) == {"vllm@1", "vllm@2"}
    assert templates["vllm@2"].start_s == 90


def test_what_an_operator_adds_to_the_pod_is_in_the_pod_and_in_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "vllm-1.yaml").write_text(SHIPPED + "\npod: {priorityClassName: gold}\n")
    placement = a_placement()
    mine, theirs = load_templates(tmp_path)["vllm@1"], load_templates(TEMPLATES_DIR)["vllm@1"]

    made, plain = (pod_spec(ENDPOINT, placement, MODEL, each) for each in (mine, theirs))

    assert made == {**plain, "priorityClassName": "gold"}


def test_every_field_that_we_write_into_a_pod_is_kept_from_a_second_owner() -> None:
    full = replace(load_templates(TEMPLATES_DIR)["vllm-dra@1"], pull_secret="any")

    assert set(pod_spec(ENDPOINT, a_placement(), MODEL, full)) <= WRITTEN


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (SHIPPED.replace("start_s: 60", "start_s: soon"), "start_s"),
        (SHIPPED + "\nhealth_pth: /x\n", "health_pth"),
        (SHIPPED.replace("engine_image: millrace/model-server:1", ""), "engine_image"),
        (SHIPPED.replace("model-server:1", "model-server"), "engine_image: 'millrace/model-server' is whatever"),
        (SHIPPED.replace("model-fetch:1", "model-fetch:latest"), "fetch_image"),
        (SHIPPED + "\ngpu_resource: nvidia.com/mig-1g.10gb\ndevice_class: gpu.nvidia.com\n", "gpu_resource"),
        (SHIPPED + "\nclaim: {storage_gib: 0}\n", "claim.storage_gib"),
        (SHIPPED + "\nworkload: knative\n", "workload"),
        (SHIPPED + "\npod: {prioritClassName: gold}\n", "pod.prioritClassName: no pod has such a field"),
        (SHIPPED + "\npod: {topologySpreadConstraints: [{maxSkw: 1}]}\n", "pod.topologySpreadConstraints[0].maxSkw"),
        (SHIPPED + "\npod: {affinity: {nodeAffinity: {prefered: []}}}\n", "pod.affinity.nodeAffinity.prefered"),
        (SHIPPED + "\npod: {containers: []}\n", "pod.containers: we write that field ourselves"),
        (SHIPPED.replace("{digest}", "{digset}"), "fetch_args.3: {digset} is filled in by nobody; there are {model}"),
        (SHIPPED + "\nadapter_args: [--max-loras, '{adapter_max}']\n", "adapter_args.1: {adapter_max}"),
        (SHIPPED.replace("port: 8000", "port: 80000"), "port: 80000 is no port"),
        (SHIPPED.replace("[443]", "[443, 0]"), "egress_ports.1: 0 is no port"),
        (SHIPPED.replace("health_path: /health", "health_path: health"), "health_path: 'health' is no path"),
        (SHIPPED.replace("0.0.0.0/0", "10.0.0.1/8"), "ingress_cidrs.0: 10.0.0.1/8 has host bits set"),
        (SHIPPED.replace("drain_s: 120", "drain_s: 0"), "drain_s: 0 is not more than nothing"),
        (SHIPPED.replace("unroute_s: 6", "unroute_s: 600"), "unroute_s: 600 is not between 0 and drain_s (120)"),
        (SHIPPED.replace("gpu_resource: nvidia.com/gpu", "gpu_resource: gpu"), "gpu_resource: 'gpu' is no resource"),
        (SHIPPED.replace("effect: NoSchedule", "effect: Never"), "tolerations.0.effect: 'Never' is none"),
        (SHIPPED + "\nengine_env: {1ST: x}\n", "engine_env.1ST: is no name"),
        (SHIPPED + "\nclaim: {storage_gib: 9, access_mode: Any}\n", "claim.access_mode: 'Any' is none"),
        ("name: [", "not YAML"),
        ("", "file"),
        ("x" * (FILE_BYTES_MAX + 1), "more than a template may have"),
    ],
)
def test_a_broken_template_is_refused_with_its_file_and_field(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "broken.yaml").write_text(text)

    with pytest.raises(Invalid, match=r"broken\.yaml") as refused:
        load_templates(tmp_path)

    assert named in str(refused.value)


def test_two_files_with_one_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SHIPPED)
    (tmp_path / "b.yaml").write_text(SHIPPED)

    with pytest.raises(Invalid, match=r"vllm@1 is already defined"):
        load_templates(tmp_path)


def test_a_directory_without_templates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="MILLRACE_TEMPLATES_DIR"):
        load_templates(tmp_path)


def test_a_template_says_by_itself_how_its_engine_takes_adapters() -> None:
    placement = a_placement().model_copy(update={"adapters_max": 4, "adapter_rank_max": 32})
    room = ["--enable-lora", "--max-loras", "4", "--max-lora-rank", "32"]

    args = {
        name: engine_args(replace(TEMPLATES["vllm@3"], name="ours", adapter_args=declared), placement)
        for name, declared in (("declared", TEMPLATES["vllm@3"].adapter_args), ("none", ()), ("unsaid", None))
    }

    assert args["declared"][-5:] == room
    assert args["none"] == args["unsaid"] == args["declared"][:-5]
    assert engine_args(TEMPLATES["vllm@1"], placement)[-5:] == room, "published before templates could say so"


def test_an_engine_answers_to_the_endpoints_own_name_where_its_template_says_so() -> None:
    placement = a_placement()

    own, shared = (served_name(ENDPOINT, placement, MODEL, TEMPLATES[key]) for key in ("vllm@3", "vllm@1"))

    assert (own, shared) == (f"{MODEL}@{ENDPOINT}", MODEL)
    assert own in engine_args(TEMPLATES["vllm@3"], placement)


def engine_args(template: Template, placement: Placement) -> list[str]:
    """What its engine is started with."""
    containers = pod_spec(ENDPOINT, placement, MODEL, template)["containers"]
    assert isinstance(containers, list)
    engine = containers[0]
    assert isinstance(engine, dict)
    args = engine["args"]
    assert isinstance(args, list)
    return [str(each) for each in args]
