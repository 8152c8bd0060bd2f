"""What a model takes of a GPU, reckoned by hand once, and the refusal of what does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import yaml

from libs.common.errors import Invalid
from libs.common.events.endpoint import NodeChoice
from libs.common.model_files import read_model_files
from services.endpoint_api.core.catalogue import Catalogue, Model
from services.endpoint_api.core.fit import BESIDE_MIB, Shape, fit
from services.endpoint_api.core.refusal import FieldRefused
from services.endpoint_api.shell.catalogue import read_catalogue
from tests.unit.common.test_model_files import FILES, entry, write
from tests.unit.endpoint_api.given import CATALOGUE, CATALOGUE_DIR, SPEC

H100_MIB: Final = 81_559
L40S_MIB: Final = 46_068
LLAMA_70B: Final = Shape(parameters=70_553_706_496, dtype="bf16", layers=80, kv_heads=8, head_dim=128)
LLAMA_8B: Final = Shape(parameters=8_030_261_248, dtype="bf16", layers=32, kv_heads=8, head_dim=128)


def test_the_reckoning_is_that_of_the_papers() -> None:
    whole = fit(LLAMA_8B, context_tokens=8192, gpus=1, memory_mib=L40S_MIB)

    assert whole.weights_mib == 15_317  # 8.03 billion parameters of two bytes.
    assert whole.cache_mib == 1024  # 8192 tokens of 2 * 32 layers * 8 heads * 128 numbers of two bytes: 128 KiB each.
    assert whole.needed_mib == 15_317 + 1024 + BESIDE_MIB
    assert whole.holds


def test_weights_and_heads_are_spread_over_gpus_until_there_is_a_head_each() -> None:
    one, eight, sixteen = (
        fit(LLAMA_70B, context_tokens=131_072, gpus=each, memory_mib=H100_MIB) for each in (1, 8, 16)
    )

    assert (one.cache_mib, eight.cache_mib, sixteen.cache_mib) == (40_960, 5120, 5120)
    assert not one.holds
    assert eight.holds


def test_the_longest_request_that_fits_is_the_last_that_does() -> None:
    tokens = fit(LLAMA_70B, context_tokens=131_072, gpus=2, memory_mib=H100_MIB).tokens

    assert 0 < tokens < 131_072
    assert fit(LLAMA_70B, context_tokens=tokens, gpus=2, memory_mib=H100_MIB).holds
    assert not fit(LLAMA_70B, context_tokens=tokens + 1024, gpus=2, memory_mib=H100_MIB).holds
    assert fit(LLAMA_70B, context_tokens=16, gpus=1, memory_mib=H100_MIB).tokens == 0


@pytest.mark.parametrize(("dtype", "weights_mib"), [("int4", 3830), ("fp8", 7659), ("fp32", 30_634)])
def test_fewer_bits_take_less(dtype: str, weights_mib: int) -> None:
    assert fit(replace(LLAMA_8B, dtype=dtype), context_tokens=16, gpus=1, memory_mib=1).weights_mib == weights_mib


def sold(shape: Shape | None, *, context_tokens: int = 8192) -> Catalogue:
    """The catalogue with one model of this shape on every tier."""
    model = replace(CATALOGUE.models[0], id="o/n", shape=shape, context_tokens=context_tokens)
    return replace(CATALOGUE, models=(model,))


SPEC_OF_IT: Final = SPEC.model_copy(update={"model": "o/n", "tier": "l40s-dedicated"})


def test_what_does_not_fit_is_refused_with_the_numbers_and_with_what_would() -> None:
    with pytest.raises(FieldRefused) as refusal:
        sold(LLAMA_70B).resolve(SPEC_OF_IT)

    assert (refusal.value.field, refusal.value.code) == ("spec.tier", "model_does_not_fit")
    assert str(refusal.value) == (
        "o/n does not fit l40s-dedicated: its GPU needs 135.9 GiB (131.4 GiB of weights, 2.5 GiB of "
        "cache for one request of 8192 tokens and 2.0 GiB beside), 40.5 GiB are usable of 45.0 GiB; tiers that have "
        "room: h100-dedicated, h100-private"
    )


def test_a_context_that_is_too_long_is_told_which_would_do() -> None:
    with pytest.raises(FieldRefused, match=r"a model of \d+ tokens of context would fit; tiers that have room: none"):
        sold(LLAMA_8B, context_tokens=100_000_000).resolve(SPEC_OF_IT)


def test_what_fits_is_pinned_and_what_nobody_knows_is_not_reckoned() -> None:
    assert sold(LLAMA_8B).resolve(SPEC_OF_IT).node_type == "terraform.gpu-l40s"
    assert sold(None).resolve(SPEC_OF_IT).node_type == "terraform.gpu-l40s"
    assert replace(sold(LLAMA_70B), gpu_memory_mib={}).resolve(SPEC_OF_IT).node_type == "terraform.gpu-l40s"


def test_a_class_of_nodes_that_has_no_room_is_no_fallback() -> None:
    small = NodeChoice(node_type="terraform.gpu-l40s", gpus_per_node=8, cluster_template="inference-l40s@1.0.0")
    large = NodeChoice(node_type="terraform.gpu-h100", gpus_per_node=8, cluster_template="inference-h100@1.0.0")
    catalogue = sold(replace(LLAMA_70B, dtype="fp32"))
    tier = replace(catalogue.tiers[0], fallbacks=(small, large))

    placed = replace(catalogue, tiers=(tier,)).resolve(SPEC_OF_IT.model_copy(update={"tier": tier.name}))

    assert placed.fallbacks == (large,)


def test_a_shape_and_the_memory_of_gpus_are_read(tmp_path: Path) -> None:
    content = yaml.safe_load((CATALOGUE_DIR / "models.yaml").read_text())
    shape = {"parameters": 8, "dtype": "fp8", "layers": 2, "kv_heads": 1, "head_dim": 4}
    content["models"][0] |= {"shape": shape}
    (tmp_path / "models.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "tiers.yaml").write_bytes((CATALOGUE_DIR / "tiers.yaml").read_bytes())

    read = read_catalogue(tmp_path)

    assert read.models[0].shape == Shape(parameters=8, dtype="fp8", layers=2, kv_heads=1, head_dim=4)
    assert read.gpu_memory_mib["metal3.gpu-h100"] == H100_MIB


def test_memory_of_nodes_that_no_tier_has_is_a_mistake() -> None:
    wrong = replace(CATALOGUE, gpu_memory_mib={"metal3.gpu-h10": H100_MIB})

    assert list(wrong.contradictions()) == ["gpu_memory_mib: no tier has nodes of type metal3.gpu-h10"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "{id}"}, "no file in models/ has its digest"),
        ({"model": "{id}", "pinned": True}, "size_bytes is 67108864, its file in models/ makes 9"),
    ],
)
def test_a_catalogue_that_contradicts_the_files_of_weights_is_refused(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    model: Model = CATALOGUE.models[0]
    content = yaml.safe_load((CATALOGUE_DIR / "models.yaml").read_text())
    if change.get("pinned"):
        content["models"][0]["digest"] = FILES.digest
    (tmp_path / "models.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "tiers.yaml").write_bytes((CATALOGUE_DIR / "tiers.yaml").read_bytes())
    write(tmp_path, n=entry(model=model.id))

    with pytest.raises(Invalid, match=says):
        read_catalogue(tmp_path)

    assert list(read_model_files(tmp_path)) == [FILES.digest]
