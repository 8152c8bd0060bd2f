"""Changes of a spec: what a merge patch makes of it, what may change, and what that means for what runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue, TypeAdapter, ValidationError

from libs.common.events.endpoint import Adapter, EndpointSpec, Limits, Placement, Scaling
from services.endpoint_api.core.forgetting import Change
from services.endpoint_api.core.refusal import FieldRefused

IMMUTABLE: Final = ("tier", "region")
NESTED: Final[Mapping[str, frozenset[str]]] = {
    "scaling": frozenset(Scaling.model_fields),
    "limits": frozenset(Limits.model_fields),
}
ADAPTER: Final = frozenset(Adapter.model_fields)
SPEC: Final = TypeAdapter(EndpointSpec)
OBJECT: Final = TypeAdapter(dict[str, JsonValue])


def patched(spec: EndpointSpec, changes: Mapping[str, JsonValue]) -> EndpointSpec:
    """The spec after an RFC 7396 merge patch; null sets a field to its default.

    Raises FieldRefused naming `spec.<field>` for a field that is unknown, never changes or has a wrong value.
    """
    _check_names(changes)
    document = OBJECT.validate_python(spec.model_dump(mode="json"))
    try:
        return SPEC.validate_json(
            OBJECT.dump_json(OBJECT.validate_python(merge(document, changes))), strict=True
        )  # Of JSON: it has lists.
    except ValidationError as wrong:
        first = wrong.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(each) for each in first["loc"])
        raise FieldRefused(f"spec.{where}", first["msg"]) from None


def merge(document: JsonValue, patch: JsonValue | Mapping[str, JsonValue]) -> JsonValue:
    """RFC 7396: objects are merged, null removes, everything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def kind_of_change(spec: EndpointSpec, wanted: EndpointSpec) -> Change:
    """What going from ``spec`` to ``wanted`` means for what runs."""
    if spec == wanted:
        return Change.NONE
    if (spec.model, spec.template) != (wanted.model, wanted.template):
        return Change.ROLL
    if spec.adapters != wanted.adapters:
        return Change.RELOAD
    return Change.READDRESS if spec.hostname != wanted.hostname else Change.IN_PLACE


def repinned(pinned: Placement, resolved: Placement, change: Change) -> Placement:
    """The placement after a change: where it runs stays pinned for ever, what runs only if it was changed.

    So a scale never rolls out a newer template that the catalogue has got since.
    """
    if change is Change.RELOAD and resolved.adapters_max > pinned.adapters_max:
        # Its engines were started with less room than the adapters may need now: they are started anew for it.
        room = {"adapters_max": resolved.adapters_max, "adapter_rank_max": resolved.adapter_rank_max}
        return pinned.model_copy(update=room)
    if change is not Change.ROLL:
        return pinned
    return pinned.model_copy(
        update={
            "runtime_template": resolved.runtime_template,
            "model_digest": resolved.model_digest,
            "model_size_bytes": resolved.model_size_bytes,
            "command": resolved.command,
            "surfaces": resolved.surfaces,
            "adapters_max": resolved.adapters_max,
            "adapter_rank_max": resolved.adapter_rank_max,
        }
    )


def _check_names(changes: Mapping[str, JsonValue]) -> None:
    for name, value in changes.items():
        if name in IMMUTABLE:
            raise FieldRefused(f"spec.{name}", "never changes; create another endpoint and delete this one")
        if name not in EndpointSpec.model_fields:
            known = ", ".join(each for each in EndpointSpec.model_fields if each not in IMMUTABLE)
            raise FieldRefused("spec", f"has a field that is not known; these may change: {known}")
        if name == "model" and value is None:
            raise FieldRefused("spec.model", "must not be empty; name a model of the catalogue")
        if name == "adapters" and isinstance(value, list):
            _check_adapters(value)
        for inner in value if isinstance(value, Mapping) and name in NESTED else ():
            if inner not in NESTED[name]:
                raise FieldRefused(f"spec.{name}", f"has only the fields {', '.join(sorted(NESTED[name]))}")


def _check_adapters(adapters: Sequence[JsonValue]) -> None:
    for place, each in enumerate(adapters):
        if isinstance(each, Mapping) and not ADAPTER.issuperset(each):
            raise FieldRefused(f"spec.adapters.{place}", f"has only the fields {', '.join(sorted(ADAPTER))}")
