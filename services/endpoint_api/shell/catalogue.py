"""Reads the catalogue's files, and refuses a malformed or self-contradicting one with one clear line."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from libs.common.errors import Invalid
from libs.common.events.endpoint import ADAPTER_RANK_MAX, ADAPTERS_MAX, NodeChoice
from libs.common.model_files import ModelFile, read_model_files
from services.endpoint_api.core.catalogue import Catalogue, Model, Tier, why_no_route
from services.endpoint_api.core.fit import Shape

BYTES_MAX: Final = 1 << 20  # A catalogue is written by hand; a megabyte of it is a mistake.

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
Versioned = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*@[0-9][0-9A-Za-z.-]*$")]
Surface = Literal["chat", "completions", "responses", "embeddings", "speech", "transcriptions", "translations"]
Words = Annotated[str, Field(min_length=1, max_length=500)]


NodeType = Annotated[str, Field(pattern=r"^[a-z0-9-]+\.[a-z0-9.-]+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class _WarmEntry(_Strict):
    """Nodes beyond what endpoints need; capacity-manager reads the same file and holds them."""

    nodes: int = Field(ge=0, le=64)
    floor: int = Field(default=0, ge=0)
    most: int = Field(default=0, ge=0, le=64)

    @model_validator(mode="after")
    def _ordered(self) -> _WarmEntry:
        if self.floor > self.nodes:
            raise ValueError(f"floor {self.floor} is above nodes {self.nodes}")
        if 0 < self.most < self.nodes:
            raise ValueError(f"most {self.most} is below nodes {self.nodes}")
        return self


class _FallbackEntry(_Strict):
    """A class of nodes to have instead."""

    node_type: NodeType
    gpus_per_node: int = Field(ge=1, le=16)
    cluster_template: Versioned
    region: str = ""


class _TierEntry(_Strict):
    name: Name
    description: Words
    tenancy: Literal["shared_pool", "tenant_cluster", "private_nodes", "vnode"]
    regions: tuple[Name, ...] = Field(min_length=1)
    gpu: Words
    node_type: NodeType
    gpus_per_node: int = Field(ge=1, le=16)
    gpus_per_replica: int = Field(ge=1, le=16)
    replicas_max: int = Field(ge=1)
    cluster_template: Versioned
    runtime_templates: tuple[Versioned, ...] = Field(min_length=1)
    price_class: Name
    open: bool = True
    licences: tuple[Name, ...] = ()
    command: tuple[str, ...] = ()
    warm: _WarmEntry | None = None
    fallbacks: tuple[_FallbackEntry, ...] = ()
    interrupted: Literal["delivered", "generated"] = "delivered"
    route: Literal["layer", "tenant", "shared", "bridge"] = "layer"

    @field_validator("route")
    @classmethod
    def _can_be(cls, route: str, others: ValidationInfo) -> str:
        """Here, and not among what contradicts itself as a whole: a complaint names its line."""
        tenancy = others.data.get("tenancy")
        wrong = why_no_route(route, tenancy) if tenancy is not None else ""
        if wrong:
            raise ValueError(wrong)
        return route


class _ShapeEntry(_Strict):
    """What decides the memory that a model takes."""

    parameters: int = Field(ge=1)
    dtype: Literal["fp32", "bf16", "fp16", "fp8", "int8", "int4"]
    layers: int = Field(ge=1, le=1000)
    kv_heads: int = Field(ge=1, le=1000)
    head_dim: int = Field(ge=1, le=10_000)
    kv_dtype: Literal["bf16", "fp16", "fp8"] = "bf16"


class _ModelEntry(_Strict):
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$", max_length=128)]
    description: Words
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size_bytes: int = Field(ge=1)
    context_tokens: int = Field(ge=1)
    tiers: tuple[str, ...] = Field(min_length=1)
    surfaces: tuple[Surface, ...] = ()
    adapters_max: int = Field(default=0, ge=0, le=ADAPTERS_MAX)
    adapter_rank_max: int = Field(default=0, ge=0, le=ADAPTER_RANK_MAX)
    shape: _ShapeEntry | None = None


class _TierFile(_Strict):
    version: Literal[1]
    tiers: tuple[_TierEntry, ...] = Field(min_length=1)
    gpu_memory_mib: dict[NodeType, Annotated[int, Field(ge=1)]] = {}


class _ModelFile(_Strict):
    version: Literal[1]
    models: tuple[_ModelEntry, ...] = Field(min_length=1)


FileT = TypeVar("FileT", _TierFile, _ModelFile)


def read_catalogue(directory: Path) -> Catalogue:
    """The catalogue in ``directory``. Raises Invalid: one line, with the file and what is wrong in it."""
    sold = _read(directory / "tiers.yaml", _TierFile)
    models = _read(directory / "models.yaml", _ModelFile).models
    catalogue = Catalogue(
        tuple(_tier(each) for each in sold.tiers),
        tuple(_model(each) for each in models),
        MappingProxyType(sold.gpu_memory_mib),
    )
    files = read_model_files(directory).values()
    wrong = "; ".join((*catalogue.contradictions(), *_unlike(catalogue, files)))
    if wrong:
        raise Invalid(f"catalogue {directory}: {wrong}")
    return catalogue


def _tier(entry: _TierEntry) -> Tier:
    plain = entry.model_dump(exclude={"warm", "fallbacks"})
    return Tier(**plain, fallbacks=tuple(NodeChoice(**each.model_dump()) for each in entry.fallbacks))


def _model(entry: _ModelEntry) -> Model:
    shape = Shape(**entry.shape.model_dump()) if entry.shape is not None else None
    return Model(**entry.model_dump(exclude={"shape"}), shape=shape)


def _unlike(catalogue: Catalogue, files: Collection[ModelFile]) -> Iterator[str]:
    """Where the catalogue and the files of models' weights say different things of one model."""
    for model in catalogue.models:
        own = [each for each in files if each.model == model.id]
        pinned = next((each for each in own if each.digest == model.digest), None)
        if own and pinned is None:
            yield f"model {model.id}: no file in models/ has its digest {model.digest}"
        if pinned is not None and pinned.size_bytes != model.size_bytes:
            yield f"model {model.id}: size_bytes is {model.size_bytes}, its file in models/ makes {pinned.size_bytes}"


def _read(path: Path, kind: type[FileT]) -> FileT:
    try:
        with path.open("rb") as file:
            text = file.read(BYTES_MAX + 1)
    except OSError as missing:
        raise Invalid(f"catalogue {path}: {missing.strerror}; set MILLRACE_CATALOGUE_DIR") from missing
    if len(text) > BYTES_MAX:
        raise Invalid(f"catalogue {path}: larger than {BYTES_MAX} bytes")
    try:
        return kind.model_validate(yaml.load(text, Loader=_OnceLoader))  # noqa: S506 - it is a SafeLoader.
    except yaml.YAMLError as malformed:
        raise Invalid(f"catalogue {path}: {' '.join(str(malformed).split())}") from None
    except ValidationError as wrong:
        details = wrong.errors(include_input=False, include_url=False)
        told = "; ".join(f"{_place(text, each['loc'])}: {each['msg']}" for each in details)
        raise Invalid(f"catalogue {path}: {told}") from None


def _place(text: bytes, path: tuple[int | str, ...]) -> str:
    """Where in the file something is, in its own words and by its line; of what is missing, where it should be."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for step in path:
        if isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == step), node)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
    name = ".".join(map(str, path)) or "the file"
    return name if node is None else f"{name} (line {node.start_mark.line + 1})"


class _OnceLoader(yaml.SafeLoader):
    """A safe loader to which a key that is there twice is an error, not a silent choice of the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)
