"""JSON that fits a schema, filled from the words of a prompt: what this model says where it must say JSON."""

from __future__ import annotations

import re
from typing import Any, Final

Json = dict[str, Any]

DEPTH_MAX: Final = 8  # A schema that refers to itself must end somewhere.
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")
_NAME: Final = re.compile(r"\b[A-Z]\w+")
_WORD: Final = re.compile(r"\w+")


def filled(schema: Json, prompt: str, *, defs: Json | None = None, depth: int = 0) -> object:
    """A value that the schema allows: numbers, choices and names as the prompt has them, else the plainest there is."""
    defs = defs if defs is not None else {**schema.get("$defs", {}), **schema.get("definitions", {})}
    if depth > DEPTH_MAX:
        return None
    schema = _plain(schema, defs)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return next((each for each in schema["enum"] if str(each).lower() in prompt.lower()), schema["enum"][0])
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match next((each for each in kind if each != "null"), "null") if isinstance(kind, list) else kind:
        case "object":
            properties: Json = schema.get("properties", {})
            return {name: filled(each, prompt, defs=defs, depth=depth + 1) for name, each in properties.items()}
        case "array":
            return [filled(schema.get("items", {}), prompt, defs=defs, depth=depth + 1)]
        case "integer":
            return int(_number(prompt))
        case "number":
            return _number(prompt)
        case "boolean":
            return " not " not in f" {prompt.lower()} "
        case "null":
            return None
        case _:
            return _name(prompt)


def _plain(schema: Json, defs: Json) -> Json:
    """The schema itself, where it refers to one or offers several."""
    if "$ref" in schema:
        return _plain(defs.get(str(schema["$ref"]).rpartition("/")[2], {}), defs)
    for several in ("anyOf", "oneOf", "allOf"):
        if schema.get(several):
            return _plain(schema[several][0], defs)
    return schema


def _number(prompt: str) -> float:
    found = _NUMBER.search(prompt)
    return float(found.group()) if found else 0.0


def _name(prompt: str) -> str:
    names = _NAME.findall(prompt) or _WORD.findall(prompt)
    return names[-1] if names else ""
