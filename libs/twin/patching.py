"""The three patches of an API server that need no owner: JSON patch, merge patch and strategic merge patch."""

from __future__ import annotations

from typing import Any, Final

from libs.twin.answers import ApiError, bad_request
from libs.twin.objects import Json, clone

LIST_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "port"),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
}
"""Lists of objects that are merged by a key of their items; every other list is replaced whole."""


def list_key(field: str, items: list[Any]) -> str | None:
    """The key by which items of the list ``field`` are told apart; None if the list is one value."""
    for key in LIST_KEYS.get(field, ()):
        if items and all(isinstance(each, dict) and key in each for each in items):
            return key
    return None


def merge_patch(target: Any, patch: Any) -> Any:  # noqa: ANN401  # RFC 7386 is defined over any JSON.
    """RFC 7386: objects merge, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return clone(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def strategic_merge(target: Any, patch: Any, field: str = "") -> Any:  # noqa: ANN401  # Any JSON.
    """Merge patch that also merges lists whose items have a key, as Kubernetes does for its own kinds."""
    if isinstance(patch, dict):
        merged = dict(target) if isinstance(target, dict) else {}
        for key, value in patch.items():
            if key.startswith("$"):
                continue
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = strategic_merge(merged.get(key), value, key)
        return merged
    if isinstance(patch, list) and isinstance(target, list):
        key_name = list_key(field, [*target, *patch])
        if key_name is not None:
            return _merge_list(target, patch, key_name)
    return clone(patch)


def json_patch(target: Json, operations: list[Json]) -> Json:
    """RFC 6902. Raises 422 for a path that is not there or a test that fails."""
    document: Any = clone(target)
    for each in operations:
        try:
            document = _operate(document, each)
        except (KeyError, IndexError, ValueError, TypeError) as wrong:
            raise ApiError(
                422, "Invalid", f"the server rejected our request due to an error in our request: {wrong!r}"
            ) from wrong
    if not isinstance(document, dict):
        raise bad_request("the patched document is not an object")
    return document


def _merge_list(target: list[Json], patch: list[Json], key: str) -> list[Json]:
    merged = {each[key]: each for each in target}
    for each in patch:
        if each.get("$patch") == "delete":
            merged.pop(each[key], None)
        else:
            merged[each[key]] = strategic_merge(merged.get(each[key]), each)
    return list(merged.values())


def _operate(document: Any, operation: Json) -> Any:  # noqa: ANN401  # Any JSON.
    verb, steps = operation["op"], _steps(operation["path"])
    if verb in {"move", "copy"}:
        origin = _steps(operation["from"])
        value = clone(_read(document, origin))
        if verb == "move":
            document = _remove(document, origin)
        return _add(document, steps, value)
    if verb == "test":
        if _read(document, steps) != operation["value"]:
            raise ValueError(f"test failed at {operation['path']}")
        return document
    if verb == "remove":
        return _remove(document, steps)
    if verb == "replace":
        _read(document, steps)
        return _add(_remove(document, steps), steps, clone(operation["value"]))
    if verb == "add":
        return _add(document, steps, clone(operation["value"]))
    raise ValueError(f"unknown operation {verb!r}")


def _steps(path: str) -> list[str]:
    return [each.replace("~1", "/").replace("~0", "~") for each in path.split("/")[1:]]


def _read(document: Any, steps: list[str]) -> Any:  # noqa: ANN401  # Any JSON.
    for step in steps:
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


def _add(document: Any, steps: list[str], value: Any) -> Any:  # noqa: ANN401  # Any JSON.
    if not steps:
        return value
    parent = _read(document, steps[:-1])
    if isinstance(parent, list):
        parent.insert(len(parent) if steps[-1] == "-" else int(steps[-1]), value)
    else:
        parent[steps[-1]] = value
    return document


def _remove(document: Any, steps: list[str]) -> Any:  # noqa: ANN401  # Any JSON.
    parent = _read(document, steps[:-1])
    del parent[int(steps[-1]) if isinstance(parent, list) else steps[-1]]
    return document
