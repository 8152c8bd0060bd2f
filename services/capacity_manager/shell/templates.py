"""Reads the cluster templates that an operator edits, and makes the Platform's objects of them.

Every text is checked against what we know of a vcluster.yaml before it is used: one we never write is a mistake.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from libs.common.errors import Invalid
from services.capacity_manager.core.cluster_template import (
    Recipe,
    contradictions,
    objects_of,
    values_of,
    version_of,
)
from services.capacity_manager.shell.vcluster_yaml import RecipeFile, VclusterYaml

Json = dict[str, Any]

DIRECTORY: Final = Path(__file__).parents[1] / "templates"
BYTES_MAX: Final = 1 << 18
QUOTED: Final = re.compile(r"'(\{\{[^{}']*\}\})'")
SAMPLES: Final = {"gpuQuantity": "1", "nodeType": "provider.type", "loft.cluster": "region"}
PLACE: Final = re.compile(r"\{\{ \.Values\.([A-Za-z.]+) \}\}")


@dataclass(frozen=True, slots=True)
class Template:
    """One version of a template, as the Platform takes it; `digest` tells whether it is what was published."""

    name: str
    version: str
    body: Json
    digest: str


Templates = Mapping[tuple[str, str], Template]


def read_templates(directory: Path = DIRECTORY) -> Templates:
    """Every template of a directory. Raises Invalid, naming file and line, for what is malformed or contradicts."""
    return {(each.name, each.version): template_of(each) for each in read_recipes(directory)}


def read_recipes(directory: Path = DIRECTORY) -> tuple[Recipe, ...]:
    """What the templates of a directory are made from. Raises Invalid as `read_templates`."""
    recipes: dict[Path, Recipe] = {path: _read(path) for path in sorted(directory.glob("*.yaml"))}
    if not recipes:
        raise Invalid(f"no cluster templates in {directory}; set MILLRACE_TEMPLATES_DIR")
    for wrong, complaint in contradictions(tuple(recipes.values())):
        place = next(path for path, each in recipes.items() if each is wrong)
        raise Invalid(f"{place.name}:1: {complaint}")
    return tuple(recipes.values())


def template_of(recipe: Recipe) -> Template:
    """The template of a recipe. Raises Invalid if its vcluster.yaml holds what such a cluster can't have."""
    values = _text(values_of(recipe))
    check(values, of=f"{recipe.name}@{recipe.version}")
    objects = "---\n".join(_text(each) for each in objects_of(recipe))
    body = version_of(recipe, values=values, objects=objects)
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
    return Template(recipe.name, recipe.version, dict(body), digest)


def check(values: str, *, of: str) -> None:
    """Raise Invalid for a vcluster.yaml that has what we do not write, or lacks what it needs."""
    filled = PLACE.sub(lambda found: SAMPLES.get(found.group(1), ""), values)
    try:
        VclusterYaml.model_validate(yaml.safe_load(filled))
    except (yaml.YAMLError, ValidationError) as wrong:
        raise Invalid(f"the vcluster.yaml of {of} is wrong: {_told(wrong)}") from None


def _read(path: Path) -> Recipe:
    text = path.read_bytes()
    if len(text) > BYTES_MAX:
        raise Invalid(f"{path.name}:1: larger than {BYTES_MAX} bytes")
    try:
        return RecipeFile.model_validate(yaml.safe_load(text)).recipe()
    except yaml.YAMLError as malformed:
        raise Invalid(f"{path.name}: {' '.join(str(malformed).split())}") from None
    except ValidationError as wrong:
        line = _line(text, wrong.errors()[0]["loc"])
        raise Invalid(f"{path.name}:{line}: {_told(wrong)}") from None


def _text(thing: object) -> str:
    """YAML, in which the Platform's parameters stand bare: a quoted number would be a text."""
    return QUOTED.sub(r"\1", yaml.safe_dump(thing, sort_keys=True))


def _line(text: bytes, place: tuple[int | str, ...]) -> int:
    """Where in the file the trouble is; of what is missing, where it should be."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for step in place:
        if isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == step), node)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
    return 1 if node is None else int(node.start_mark.line) + 1


def _told(wrong: ValidationError | yaml.YAMLError) -> str:
    if isinstance(wrong, ValidationError):
        details = wrong.errors(include_input=False, include_url=False)
        return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg']}" for each in details)
    return " ".join(str(wrong).split())
