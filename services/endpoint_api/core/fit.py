"""Whether a model fits a class of nodes: weights, one request's key-value cache and what else a GPU holds, in MiB.

An engine that can't hold one request of the model's whole context refuses to start, after its node was paid for: so it
is counted before anything is claimed. All figures are of one GPU of a replica: its GPUs share weights and heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from libs.common.units import MIB

USABLE_PERCENT: Final = 90  # What vLLM takes of a GPU unless told otherwise.
BESIDE_MIB: Final = 2048  # CUDA's context, captured graphs, and the activations of a full batch.
BITS: Final = MappingProxyType({"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4})
BLOCK_TOKENS: Final = 16  # Engines hand the cache out in blocks of so many tokens.


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model decides its memory; `dtype` and `kv_dtype` are keys of BITS."""

    parameters: int
    dtype: str
    layers: int
    kv_heads: int
    head_dim: int
    kv_dtype: str = "bf16"


@dataclass(frozen=True, slots=True)
class Fit:
    """The reckoning for one GPU. `tokens` is the longest request that would fit."""

    gpus: int
    memory_mib: int
    usable_mib: int
    weights_mib: int
    cache_mib: int
    context_tokens: int
    tokens: int

    @property
    def needed_mib(self) -> int:
        """What the GPU must hold."""
        return self.weights_mib + self.cache_mib + BESIDE_MIB

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.needed_mib <= self.usable_mib

    @property
    def words(self) -> str:
        """The reckoning for people."""
        parts = (
            f"{_gib(self.weights_mib)} of weights, {_gib(self.cache_mib)} of cache for one request of "
            f"{self.context_tokens} tokens and {_gib(BESIDE_MIB)} beside"
        )
        usable = f"{_gib(self.usable_mib)} are usable of {_gib(self.memory_mib)}"
        who = f"each of its {self.gpus} GPUs" if self.gpus > 1 else "its GPU"
        return f"{who} needs {_gib(self.needed_mib)} ({parts}), {usable}"


def fit(shape: Shape, *, context_tokens: int, gpus: int, memory_mib: int) -> Fit:
    """Reckon a replica on so many GPUs of so much memory each."""
    usable_mib = memory_mib * USABLE_PERCENT // 100
    weights_mib = math.ceil(shape.parameters * BITS[shape.dtype] / 8 / gpus / MIB)
    token_bytes = 2 * shape.layers * math.ceil(shape.kv_heads / gpus) * shape.head_dim * BITS[shape.kv_dtype] // 8
    blocks = math.ceil(context_tokens / BLOCK_TOKENS)
    left_mib = max(0, usable_mib - weights_mib - BESIDE_MIB)
    return Fit(
        gpus=gpus,
        memory_mib=memory_mib,
        usable_mib=usable_mib,
        weights_mib=weights_mib,
        cache_mib=math.ceil(blocks * BLOCK_TOKENS * token_bytes / MIB),
        context_tokens=context_tokens,
        tokens=left_mib * MIB // token_bytes // BLOCK_TOKENS * BLOCK_TOKENS,
    )


def _gib(mib: int) -> str:
    return f"{mib / 1024:.1f} GiB"
