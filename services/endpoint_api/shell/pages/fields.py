"""A JSON Schema as a table of fields, what is inside of it by dotted names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.endpoint_api.shell.pages.markup import Markup, inline, joined, tag

Json = dict[str, Any]

DEPTH_MAX: Final = 6  # Deeper is a schema that contains itself.
BOUNDS: Final = {
    "minimum": "at least",
    "maximum": "at most",
    "minLength": "characters at least",
    "maxLength": "characters at most",
    "minItems": "items at least",
    "maxItems": "items at most",
    "pattern": "like",
    "default": "default",
}


@dataclass(frozen=True, slots=True)
class Field:
    """A row of the table."""

    path: str
    kind: str
    is_required: bool
    schema: Json


def table(schema: Json, document: Json) -> Markup:
    """The fields of a schema; a line with its type if it has none."""
    rows = list(fields(schema, document))
    if not rows:
        return tag("p", kind_of(schema, document), class_="soft")
    head = tag("tr", tag("th", "field"), tag("th", "type"), tag("th", "meaning"))
    return tag("div", tag("table", head, joined(map(_row, rows))), class_="table")


def fields(schema: Json, document: Json, prefix: str = "", depth: int = 0) -> Iterator[Field]:
    """Every field, those of inner records behind the one that holds them."""
    found = resolved(schema, document)
    required = set(found.get("required", ()))
    for name, each in found.get("properties", {}).items():
        whole = _without_null(each, document)
        yield Field(f"{prefix}{name}", kind_of(each, document), name in required, {**whole, **_own(each)})
        inner, mark = (whole, ".") if "items" not in whole else (resolved(whole["items"], document), "[].")
        if depth < DEPTH_MAX:
            yield from fields(inner, document, f"{prefix}{name}{mark}", depth + 1)


def kind_of(schema: Json, document: Json) -> str:
    """The type in a few words."""
    found = resolved(schema, document)
    if "anyOf" in found or "oneOf" in found:
        branches = [*found.get("anyOf", ()), *found.get("oneOf", ())]
        return " or ".join(dict.fromkeys(kind_of(each, document) for each in branches))
    if "enum" in found or "const" in found:
        return "one of"
    if found.get("type") == "array":
        return f"list of {kind_of(found.get('items', {}), document)}"
    return str(found.get("format") or found.get("type") or "anything")


def resolved(schema: Json, document: Json) -> Json:
    """A schema, or what it refers to."""
    while "$ref" in schema:
        target: Any = document
        for name in schema["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        schema = target
    return schema


def _without_null(schema: Json, document: Json) -> Json:
    found = resolved(schema, document)
    branches = [resolved(each, document) for each in found.get("anyOf", ())]
    kept = [each for each in branches if each.get("type") != "null"]
    return kept[0] if len(kept) == 1 else found


def _own(schema: Json) -> Json:
    """What is said where the field is, which goes before what is said where its type is."""
    return {name: value for name, value in schema.items() if name in ("description", "default")}


def _row(field: Field) -> Markup:
    must = tag("span", " required", class_="must") if field.is_required else None
    values = field.schema.get("enum") or ([field.schema["const"]] if "const" in field.schema else [])
    chips = joined(tag("span", str(each), class_="chip") for each in values)
    words = tag("span", _bounds(field.schema), class_="soft")
    said = inline(" ".join(str(field.schema.get("description", "")).split()))
    return tag(
        "tr", tag("td", tag("code", field.path), must), tag("td", field.kind), tag("td", said, " ", chips, words)
    )


def _bounds(schema: Mapping[str, Any]) -> str:
    found = [
        f"{words} {json.dumps(schema[name], ensure_ascii=False)}"
        for name, words in BOUNDS.items()
        if name in schema and schema[name] not in (None, "") and not isinstance(schema[name], dict | list)
    ]
    return "; ".join(found)
