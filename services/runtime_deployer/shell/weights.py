"""Where models are, from the files of an operator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from libs.common.model_files import read_model_files
from services.runtime_deployer.core.weights import Weights


def load_weights(catalogue: Path) -> Mapping[str, Weights]:
    """The weights of every revision with a file in the catalogue, by digest. Raises Invalid naming file and field."""
    return MappingProxyType(
        {
            digest: Weights(
                source=each.source,
                manifest=each.manifest.text,
                endpoint=each.endpoint,
                region=each.region,
                secret=each.secret,
            )
            for digest, each in read_model_files(catalogue).items()
        }
    )
