"""From a template reference and parameters to a rendered vcluster.yaml and the static pools in it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import yaml

from libs.twin import kinds
from libs.twin.licensing import unlicensed
from libs.twin.objects import Json
from libs.twin.store import Store

PLACE: Final = re.compile(r"\{\{-?\s*\.Values\.([A-Za-z0-9_.]+)\s*(?:\|\s*quote\s*)?-?\}\}")


class Unrendered(Exception):
    """The template can't be resolved; `reason` is that of the TemplateResolved condition."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Pool:
    """A static pool of nodes."""

    name: str
    provider: str
    quantity: int
    requirements: tuple[Mapping[str, Any], ...]
    properties: Mapping[str, str]
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...]


def render(
    store: Store, instance: Json, loft: Mapping[str, str], features: Collection[str]
) -> tuple[Json, tuple[Pool, ...]]:
    """The rendered template definition and its pools. Raises Unrendered, also for what the licence does not have."""
    spec = instance["spec"]
    if spec.get("templateRef"):
        definition, declared = _resolve(store, spec["templateRef"])
    else:
        definition, declared = spec.get("template") or {}, []
    values = _parameters(declared, spec.get("parameters") or "")
    values.update({f"loft.{key}": text for key, text in loft.items()})
    text = (definition.get("helmRelease") or {}).get("values") or ""
    rendered = PLACE.sub(lambda found: values.get(found.group(1), "<no value>"), text)
    try:
        pools = _pools_in(rendered)
    except (yaml.YAMLError, KeyError, ValueError, TypeError, AttributeError) as wrong:
        raise Unrendered("ErrorRenderingTemplate", f"error rendering template: {wrong}") from wrong
    objects = PLACE.sub(lambda found: values.get(found.group(1), "<no value>"), definition.get("objects") or "")
    release = {**(definition.get("helmRelease") or {}), "values": rendered}
    lacking = unlicensed(rendered, objects, features)
    if lacking:
        raise Unrendered("FeatureNotAllowed", f"feature {lacking} is not allowed by the current license")
    return {**definition, "helmRelease": release, "objects": objects}, pools


@lru_cache(maxsize=1024)
def _pools_in(rendered: str) -> tuple[Pool, ...]:
    """Remembered, because controllers ask again whenever anything moved, and YAML is slow to read."""
    config = yaml.safe_load(rendered) or {}
    return tuple(_pool(auto, each) for auto in _auto_nodes(config) for each in auto.get("static") or ())


def _resolve(store: Store, reference: Json) -> tuple[Json, list[Json]]:
    name, wanted = reference.get("name", ""), reference.get("version", "")
    found = store.find(kinds.TEMPLATES, "", name)
    if found is None:
        raise Unrendered("TemplateNotFound", f'virtualclustertemplates.management.loft.sh "{name}" not found')
    versions = found["spec"].get("versions") or []
    if not versions:
        return found["spec"].get("template") or {}, found["spec"].get("parameters") or []
    if wanted and len(wanted.split(".")) != 3:
        raise Unrendered("VersionError", f"template version {wanted!r} is not of the form X.Y.Z")
    fitting = [each for each in versions if _version_fits(each["version"], wanted or "x.x.x")]
    if not fitting:
        raise Unrendered("VersionNotFound", f"couldn't find any version {wanted!r} in template {name}")
    newest = max(fitting, key=lambda each: [int(part) for part in each["version"].split(".")])
    return newest["template"], newest.get("parameters") or []


def _version_fits(version: str, wanted: str) -> bool:
    pairs = zip(version.split("."), wanted.split("."), strict=True)
    return all(part == want or want in {"x", "X"} for part, want in pairs)


@lru_cache(maxsize=1024)
def _given(text: str) -> object:
    return yaml.safe_load(text) or {}


def _parameters(declared: list[Json], text: str) -> dict[str, str]:
    try:
        given = _given(text)
    except yaml.YAMLError as wrong:
        raise Unrendered("ErrorSyncingParameters", f"parameters are not YAML: {wrong}") from wrong
    if not isinstance(given, dict):
        raise Unrendered("ErrorSyncingParameters", "parameters are not an object")
    values = {str(key): _text(value) for key, value in given.items()}
    for each in declared:
        name = each["variable"]
        if name not in values and each.get("defaultValue") not in {None, ""}:
            values[name] = str(each["defaultValue"])
        if name not in values and each.get("required"):
            raise Unrendered("ErrorSyncingParameters", f"parameter {name} is required")
        if name in values and each.get("type") == "number":
            _check_number(each, values[name])
    return values


def _check_number(declared: Json, text: str) -> None:
    name = declared["variable"]
    try:
        number = float(text)
    except ValueError as wrong:
        raise Unrendered("ErrorSyncingParameters", f"parameter {name}: {text!r} is not a number") from wrong
    if number < declared.get("min", number):
        raise Unrendered("ErrorSyncingParameters", f"parameter {name}: {text} is less than {declared['min']}")
    if number > declared.get("max", number):
        raise Unrendered("ErrorSyncingParameters", f"parameter {name}: {text} is greater than {declared['max']}")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _auto_nodes(config: Json) -> list[Json]:
    private = config.get("privateNodes") or {}
    return (private.get("autoNodes") or []) if private.get("enabled") else []


def _pool(auto: Json, pool: Json) -> Pool:
    requirements = tuple(
        {
            "key": each["property"],
            "operator": each.get("operator") or "In",
            "values": [str(value) for value in each.get("values") or [each["value"]]],
        }
        for each in pool.get("nodeTypeSelector") or ()
    )
    return Pool(
        name=pool["name"],
        provider=auto["provider"],
        quantity=int(pool["quantity"]),
        requirements=requirements,
        properties={key: str(value) for key, value in (auto.get("properties") or {}).items() if value is not None},
        labels=dict(pool.get("nodeLabels") or {}),
        taints=tuple(pool.get("taints") or ()),
    )
