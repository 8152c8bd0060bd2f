"""The models that an operator has weights for: one YAML file a revision beside the catalogue, read and judged at start.

endpoint-api reads them to hold the catalogue against them, runtime-deployer to bring the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from libs.common.errors import Invalid
from libs.model_fetch.manifest import File, Manifest, problems
from libs.model_fetch.sources import Scheme, parse_source

DIRECTORY: Final = "models"  # Beside tiers.yaml and models.yaml.
FILE_BYTES_MAX: Final = 256 * 1024  # Four hundred files of a model, with room for comments.


class FileEntry(BaseModel):
    """One file of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    path: str
    size_bytes: int
    sha256: str


class ModelFile(BaseModel):
    """One revision of a model: where its weights are, and what they must be."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    version: Literal[1]
    model: Annotated[str, Field(min_length=1, max_length=128)]
    revision: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    source: str
    endpoint: Annotated[str, Field(pattern=r"^(https?://[^\s/?#]+(/[^\s?#]*)?)?$", max_length=200)] = ""
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{0,40}$")] = ""
    secret: Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$")] = ""
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Field(ge=1)]
    files: tuple[FileEntry, ...]

    @property
    def manifest(self) -> Manifest:
        """Its files."""
        return Manifest(tuple(File(each.path, each.size_bytes, each.sha256) for each in self.files))

    def contradictions(self) -> Iterator[str]:
        """What can't be true of it, each with its field; none if it is sound."""
        try:
            parse_source(self.source)
        except Invalid as wrong:
            yield f"source: {wrong}"
        for field, what in problems(self.manifest.files):
            yield f"{field}: {what}"
        if self.manifest.digest != self.digest:
            yield f"digest: is {self.digest}, its files make {self.manifest.digest}"
        if self.manifest.size_bytes != self.size_bytes:
            yield f"size_bytes: is {self.size_bytes}, its files make {self.manifest.size_bytes}"
        if self.endpoint and not self.source.startswith((f"{Scheme.S3}://", f"{Scheme.HUB}://")):
            yield "endpoint: only an S3 service and a hub have one"


def read_model_files(catalogue: Path) -> Mapping[str, ModelFile]:
    """Every revision in the catalogue's directory of models, by digest; none if there is no such directory.

    Raises Invalid naming the file and the field, or the two files that hold the same digest for different places.
    """
    found: dict[str, ModelFile] = {}
    for path in sorted((catalogue / DIRECTORY).glob("*.yaml")):
        record = _read(path)
        if record.digest in found:
            raise Invalid(f"{path}: digest: another file has {record.digest} too; a revision has one place")
        found[record.digest] = record
    return MappingProxyType(found)


def _read(path: Path) -> ModelFile:
    try:
        text = path.read_bytes()
        if len(text) > FILE_BYTES_MAX:
            raise Invalid(f"{path}: {len(text)} bytes is more than a model's file may have ({FILE_BYTES_MAX})")
        record = ModelFile.model_validate(yaml.safe_load(text))
    except OSError as wrong:
        raise Invalid(f"{path}: can't be read: {wrong.strerror}") from wrong
    except yaml.YAMLError as wrong:
        raise Invalid(f"{path}: is not YAML: {str(wrong).splitlines()[0]}") from wrong
    except ValidationError as wrong:
        told = wrong.errors(include_input=False, include_url=False)
        fields = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'file'}: {each['msg']}" for each in told)
        raise Invalid(f"{path}: {fields}") from None
    wrong_fields = "; ".join(record.contradictions())
    if wrong_fields:
        raise Invalid(f"{path}: {wrong_fields}")
    return record
