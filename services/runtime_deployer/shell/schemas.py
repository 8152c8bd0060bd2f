"""The fields that objects of Kubernetes have, as the official client knows them: typing errors found at start."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kubernetes import client

LISTED: Final = re.compile(r"List\[(?P<item>\w+)\]")
MAPPED: Final = re.compile(r"Dict\[str, (?P<item>\w+)\]")


def unknown_fields(value: object, kind: str, path: str) -> Iterator[str]:
    """The path of each field that a schema does not have; nothing if all are known. `kind` is as in the package."""
    listed, mapped = LISTED.fullmatch(kind), MAPPED.fullmatch(kind)
    if listed is not None and isinstance(value, list):
        for place, each in enumerate(value):
            yield from unknown_fields(each, listed["item"], f"{path}[{place}]")
    elif mapped is not None and isinstance(value, Mapping):
        for name, each in value.items():
            yield from unknown_fields(each, mapped["item"], f"{path}.{name}")
    elif isinstance(value, Mapping):
        yield from _of_model(value, getattr(client, kind, None), path)


def _of_model(value: Mapping[str, object], model: Any, path: str) -> Iterator[str]:  # noqa: ANN401  # The package's own.
    if not hasattr(model, "attribute_map"):
        return  # A quantity, a time, any JSON: no fields to know.
    kinds = {name: model.openapi_types[attribute] for attribute, name in model.attribute_map.items()}
    for name, each in value.items():
        if name in kinds:
            yield from unknown_fields(each, kinds[name], f"{path}.{name}")
        else:
            yield f"{path}.{name}"
