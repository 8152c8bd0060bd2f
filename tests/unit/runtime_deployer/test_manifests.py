"""The objects as they are written: one golden file shows every change, and what each of them must promise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from libs.common.units import GIB, MIB
from services.runtime_deployer.core.manifests import DIGEST, ENDPOINT, GENERATION, MANAGED_BY, TENANT, render
from services.runtime_deployer.core.observed import Kind
from services.runtime_deployer.core.templates import LOAD_SLACK
from tests.unit.runtime_deployer import a_runtime
from tests.unit.runtime_deployer.a_runtime import GOLDEN, VLLM, Scene, a_placement, gpu_ready, requested

SECRET_WORDS = ("key", "token", "secret", "password", "credential")


def rendered(**placement: Any) -> dict[Kind, dict[str, Any]]:
    scene = Scene().hear(requested(placement=a_placement(**placement)), gpu_ready())
    return {each.kind: dict(each.body) for each in render(scene.runtime, VLLM)}


def pod_of(objects: dict[Kind, dict[str, Any]]) -> dict[str, Any]:
    pod: dict[str, Any] = objects[Kind.DEPLOYMENT]["spec"]["template"]["spec"]
    return pod


def test_the_objects_are_those_of_the_golden_file() -> None:
    text = yaml.safe_dump_all(list(rendered().values()), sort_keys=False, width=120)
    golden = GOLDEN / "vllm-1-h100.yaml"
    if os.environ.get("MILLRACE_WRITE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)

    assert text == golden.read_text(), "see the difference, then rewrite it with MILLRACE_WRITE_GOLDEN=1"


def test_a_replica_asks_for_the_gpus_of_its_tier() -> None:
    for gpus in (1, 4, 8):
        engine = pod_of(rendered(gpus_per_replica=gpus))["containers"][0]

        assert engine["resources"]["limits"]["nvidia.com/gpu"] == str(gpus)
        assert engine["resources"]["requests"]["nvidia.com/gpu"] == str(gpus)


@given(size_bytes=st.integers(0, 2000 * GIB))
def test_an_engine_may_take_longer_to_start_than_its_model_takes_to_load(size_bytes: int) -> None:
    placement = a_placement().model_copy(update={"model_size_bytes": size_bytes})
    scene = Scene().hear(requested(placement=placement), gpu_ready())
    objects = {each.kind: dict(each.body) for each in render(scene.runtime, VLLM)}

    probe = pod_of(objects)["containers"][0]["startupProbe"]
    budget_s = probe["failureThreshold"] * probe["periodSeconds"]
    spec: Any = objects[Kind.DEPLOYMENT]["spec"]
    assert budget_s >= LOAD_SLACK * size_bytes / (VLLM.load_mib_per_s * MIB)
    assert budget_s >= VLLM.start_s
    assert spec["progressDeadlineSeconds"] > budget_s + size_bytes / (VLLM.download_mib_per_s * MIB)


def test_the_models_disk_holds_the_model() -> None:
    volumes = {each["name"]: each for each in pod_of(rendered())["volumes"]}

    assert int(volumes["models"]["emptyDir"]["sizeLimit"].removesuffix("Gi")) > 40


def test_a_pod_has_time_to_finish_its_streams() -> None:
    pod = pod_of(rendered())

    sleep_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] == sleep_s + VLLM.drain_s


def test_the_weights_are_fetched_after_the_image_is_there_and_checked_against_the_digest() -> None:
    image, fetch = pod_of(rendered())["initContainers"]

    assert image["image"] == VLLM.engine_image
    assert fetch["args"] == [
        "--model",
        "millrace/ngram-1",
        "--digest",
        "sha256:" + "a" * 64,
        "--size-bytes",
        str(40 * GIB),
    ]


def test_the_engine_listens_on_the_address_of_its_pod() -> None:
    engine = pod_of(rendered())["containers"][0]

    assert engine["args"][-4:] == ["--host", "$(POD_IP)", "--port", "8000"]
    assert engine["env"] == [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    assert "command" not in engine


def test_the_command_of_a_tier_replaces_the_engines_own_and_keeps_foreign_braces() -> None:
    command = ("llama-server", "--host", "{host}", "--port={port}", "-m", "{model}", "--json", '{"a": 1}')

    engine = pod_of(rendered(command=command))["containers"][0]

    assert engine["command"] == [
        "llama-server",
        "--host",
        "$(POD_IP)",
        "--port=8000",
        "-m",
        "millrace/ngram-1",
        "--json",
        '{"a": 1}',
    ]
    assert "args" not in engine


def test_no_secret_and_no_service_token_is_in_any_object() -> None:
    objects = rendered()

    for container in (*pod_of(objects)["initContainers"], *pod_of(objects)["containers"]):
        for variable in container.get("env", []):
            assert not any(word in variable["name"].lower() for word in SECRET_WORDS)
            assert "secretKeyRef" not in variable.get("valueFrom", {})
    assert objects[Kind.SERVICE_ACCOUNT]["automountServiceAccountToken"] is False
    assert pod_of(objects)["automountServiceAccountToken"] is False


def test_every_container_is_confined() -> None:
    pod = pod_of(rendered())

    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]


def test_every_object_says_whose_it_is_and_for_which_generation() -> None:
    scene = Scene().hear(requested(generation=7), gpu_ready())
    shared, *owned = render(scene.runtime, VLLM)

    for manifest in owned:
        metadata: Any = manifest.body["metadata"]
        assert metadata["labels"] == {
            MANAGED_BY: "millrace",
            ENDPOINT: a_runtime.ENDPOINT,
            TENANT: "acme",
            GENERATION: "7",
        }
        assert metadata["annotations"] == {GENERATION: "7", DIGEST: manifest.digest}
        assert manifest.generation == 7
        assert manifest.name == a_runtime.ENDPOINT
    assert a_runtime.ENDPOINT not in str(shared.body)


def test_what_selects_pods_does_not_speak_of_a_generation() -> None:
    objects = rendered()

    selectors = [
        objects[Kind.DEPLOYMENT]["spec"]["selector"]["matchLabels"],
        objects[Kind.DISRUPTION_BUDGET]["spec"]["selector"]["matchLabels"],
        objects[Kind.NETWORK_POLICY]["spec"]["podSelector"]["matchLabels"],
        objects[Kind.SERVICE]["spec"]["selector"],
    ]
    assert selectors == [{ENDPOINT: a_runtime.ENDPOINT}] * 4


def test_every_change_of_content_changes_the_digest() -> None:
    scene = Scene().hear(requested(), gpu_ready())
    before = {each.kind: each.digest for each in render(scene.runtime, VLLM)}

    for change in (replace(VLLM, engine_image="x:2"), replace(VLLM, drain_s=7), replace(VLLM, start_s=999)):
        after = {each.kind: each.digest for each in render(scene.runtime, change)}
        assert after[Kind.DEPLOYMENT] != before[Kind.DEPLOYMENT]
        assert after[Kind.SERVICE] == before[Kind.SERVICE]


def test_every_text_is_plain_json() -> None:
    assert all(isinstance(each, str | int | bool) for each in _leaves(list(rendered().values())))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    else:
        yield value
