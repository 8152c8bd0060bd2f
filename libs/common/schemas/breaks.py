"""What of a published schema an edited one breaks, field by field: the rule of compatibility, in one place.

Who reads what decides. A *told* schema (events, answers) is read by others: what was there must stay there, of the same
type, within the same bounds. A *sent* schema (commands, requests) is written by others: what was good must stay good.
A *kept* schema (events: streams keep them) is both: old messages are read by new code too. Text may always change; a
new optional field and a new value of a choice are always allowed, and readers are told to expect both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Any, Final

Schema = Mapping[str, Any]

ROOT: Final = "the value"
LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
EXACT: Final = ("pattern", "format", "multipleOf", "uniqueItems", "additionalProperties")


class Use(Flag):
    """How a schema is used by those outside."""

    TOLD = auto()
    SENT = auto()
    KEPT = TOLD | SENT


@dataclass(frozen=True, slots=True)
class Side:
    """A schema with the document that its references point into."""

    schema: Schema
    document: Schema

    def resolved(self) -> Side:
        """The same, with a reference replaced by what it points to."""
        side = self
        while "$ref" in side.schema:
            found: Any = side.document
            for name in side.schema["$ref"].removeprefix("#/").split("/"):
                found = found.get(name, {})
            beside = {name: value for name, value in side.schema.items() if name != "$ref"}
            side = Side({**found, **beside}, side.document)
        return side

    def at(self, schema: Schema) -> Side:
        """A part of it."""
        return Side(schema, self.document)


def breaks(
    published: Schema,
    new: Schema,
    *,
    use: Use = Use.KEPT,
    published_in: Schema | None = None,
    new_in: Schema | None = None,
) -> Iterator[str]:
    """Each break with the field's path, such as ``spec.scaling.min is gone``; nothing if the edit is compatible."""
    old, now = Side(published, published_in or published), Side(new, new_in or new)
    yield from _Comparison(use).compare(old, now, "")


@dataclass(slots=True)
class _Comparison:
    use: Use
    seen: set[tuple[str, str]] = field(default_factory=set)  # A schema may contain itself.

    def compare(self, old: Side, new: Side, at: str) -> Iterator[str]:
        pair = (str(old.schema.get("$ref", "")), str(new.schema.get("$ref", "")))
        if all(pair) and (pair in self.seen):
            return
        self.seen |= {pair} if all(pair) else set()
        old, new = old.resolved(), new.resolved()
        where = at or ROOT
        if _types(old) != _types(new):
            yield from self._types_differ(_types(old), _types(new), where)
            return
        yield from self._values(old.schema, new.schema, where)
        yield from self._bounds(old.schema, new.schema, where)
        yield from self._fields(old, new, at)
        for inner in ("items", "additionalProperties"):
            if isinstance(old.schema.get(inner), dict) and isinstance(new.schema.get(inner), dict):
                yield from self.compare(old.at(old.schema[inner]), new.at(new.schema[inner]), f"{at}[]")
        yield from self._choices(old, new, at)

    def _types_differ(self, old: frozenset[str], new: frozenset[str], where: str) -> Iterator[str]:
        gone, come = old - new, new - old
        if (gone and Use.SENT in self.use) or (come and Use.TOLD in self.use):
            yield f"{where} has another type: {_words(old)}, now {_words(new)}"

    def _values(self, old: Schema, new: Schema, where: str) -> Iterator[str]:
        before, now = _enum(old), _enum(new)
        if before is None and now is not None:
            yield f"{where} may now be only one of {len(now)} values"
        elif before is not None and now is None and Use.TOLD in self.use:
            yield f"{where} may now be any value"
        for value in sorted((before or set()) - (now if now is not None else before or set())):
            yield f"{where} lost the value {value}"
        if "default" in old and not _same_default(old["default"], new.get("default", old["default"]), old, new):
            yield f"{where} has another default: {old['default']}, now {new['default']}"

    def _bounds(self, old: Schema, new: Schema, where: str) -> Iterator[str]:
        for name in (*LOWER, *UPPER):
            before, now = old.get(name), new.get(name)
            if before == now:
                continue
            tighter = now is not None and (before is None or (now > before) == (name in LOWER))
            if (tighter and Use.SENT in self.use) or (not tighter and Use.TOLD in self.use):
                yield f"{where} has a {'tighter' if tighter else 'looser'} {name}: {before}, now {now}"
        for name in EXACT:
            before, now = old.get(name), new.get(name)
            if before != now and not (isinstance(before, dict) and isinstance(now, dict)):
                yield f"{where} has another {name}: {before}, now {now}"

    def _fields(self, old: Side, new: Side, at: str) -> Iterator[str]:
        before, now = old.schema.get("properties", {}), new.schema.get("properties", {})
        was, is_ = set(old.schema.get("required", ())), set(new.schema.get("required", ()))
        prefix = f"{at}." if at else ""
        for name, each in before.items():
            if name not in now:
                yield f"{prefix}{name} is gone"
                continue
            if name in is_ - was and Use.SENT in self.use:
                yield f"{prefix}{name} is newly required"
            if name in was - is_ and Use.TOLD in self.use:
                yield f"{prefix}{name} is no longer always there"
            yield from self.compare(old.at(each), new.at(now[name]), f"{prefix}{name}")
        for name in now:
            if name not in before and name in is_ and Use.SENT in self.use:
                yield f"{prefix}{name} is new and required"

    def _choices(self, old: Side, new: Side, at: str) -> Iterator[str]:
        before, now = _branches(old), _branches(new)
        for index, (mine, theirs) in enumerate(zip(before, now, strict=False)):
            yield from self.compare(mine, theirs, at if len(before) == 1 else f"{at}({index + 1})")


def _branches(side: Side) -> list[Side]:
    """The alternatives of a choice, without null, in the order of their types."""
    found = [side.at(each).resolved() for name in ("anyOf", "oneOf", "allOf") for each in side.schema.get(name, ())]
    return sorted((each for each in found if each.schema.get("type") != "null"), key=lambda each: sorted(_types(each)))


def _types(side: Side) -> frozenset[str]:
    """What JSON types a value may have."""
    schema = side.resolved().schema
    if "type" in schema:
        kinds = schema["type"]
        return frozenset(kinds if isinstance(kinds, list) else (kinds,))
    branches = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]
    if branches:
        return frozenset().union(*(_types(side.at(each)) for each in branches))
    return frozenset({"any"})


def _enum(schema: Schema) -> set[str] | None:
    if "const" in schema:
        return {str(schema["const"])}
    return set(map(str, schema["enum"])) if "enum" in schema else None


def _same_default(before: object, now: object, old: Schema, new: Schema) -> bool:
    """Whether a default means what it meant: a field that is new may be named in it, as what it is when left out."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return before == now
    known, fields = old.get("properties", {}), new.get("properties", {})
    added = {name: value for name, value in now.items() if name not in before}
    is_left_out = all(
        name not in known and "default" in fields.get(name, {}) and fields[name]["default"] == value
        for name, value in added.items()
    )
    return is_left_out and {name: now[name] for name in now if name in before} == before


def _words(types: frozenset[str]) -> str:
    return " or ".join(sorted(types))
