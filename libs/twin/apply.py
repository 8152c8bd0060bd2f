"""Server-side apply: who owns which field, and what a second apply by the same manager takes back."""

from __future__ import annotations

import json
from typing import Any, Final

from libs.twin.answers import ApiError
from libs.twin.objects import Json, clone, timestamp
from libs.twin.patching import list_key, strategic_merge

Path = tuple[str, ...]

NOT_OWNED: Final = frozenset(
    {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"}
)


def apply(live: Json | None, wanted: Json, *, manager: str, force: bool, now_ms: int) -> Json:
    """The object after ``manager`` applied ``wanted``. Raises 409 if another manager holds a field it would change."""
    mine = _owned(wanted)
    entries: list[Json] = clone(live["metadata"].get("managedFields", [])) if live else []
    before = next((each for each in entries if each["manager"] == manager and each["operation"] == "Apply"), None)
    others = [each for each in entries if each is not before]
    if live is not None:
        _settle_conflicts(live, wanted, mine, others, force=force)
    merged: Json = strategic_merge(live, wanted) if live else clone(wanted)
    taken = set().union(*(_paths_of(each["fieldsV1"]) for each in others))
    for path in sorted((_paths_of(before["fieldsV1"]) if before else set()) - mine - taken):
        _drop(merged, path)
    fields = _nest(mine)
    if before is not None and before["fieldsV1"] == fields:
        entry = before
    else:
        entry = _entry(manager, "Apply", wanted["apiVersion"], mine, now_ms)
    merged["metadata"] = {
        **merged["metadata"],
        "managedFields": [entry, *(each for each in others if each["fieldsV1"])],
    }
    return merged


def written(live: Json, fresh: Json, *, manager: str, now_ms: int) -> list[Json]:
    """The `managedFields` after ``manager`` wrote ``fresh`` over ``live`` by no apply: what changed is its own now."""
    before, after = _owned(live), _owned(fresh)
    changed = {path for path in after if _value(live, path) != _value(fresh, path)}
    gone = before - after
    entries = [
        {**each, "fieldsV1": _nest(_paths_of(each["fieldsV1"]) - changed - gone)}
        for each in live["metadata"].get("managedFields", [])
    ]
    if changed:
        mine = next((each for each in entries if (each["manager"], each["operation"]) == (manager, "Update")), None)
        entries = [each for each in entries if each is not mine]
        held = _paths_of(mine["fieldsV1"]) if mine else set()
        entries.append(_entry(manager, "Update", live["apiVersion"], changed | held, now_ms))
    return [each for each in entries if each["fieldsV1"]]


def _entry(manager: str, operation: str, api_version: str, paths: set[Path], now_ms: int) -> Json:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": api_version,
        "time": timestamp(now_ms),
        "fieldsType": "FieldsV1",
        "fieldsV1": _nest(paths),
    }


def _settle_conflicts(live: Json, wanted: Json, mine: set[Path], others: list[Json], *, force: bool) -> None:
    for other in others:
        clashes = {path for path in mine & _paths_of(other["fieldsV1"]) if _value(live, path) != _value(wanted, path)}
        if not clashes:
            continue
        if not force:
            where = ", ".join(sorted("." + ".".join(_plain(step) for step in path) for path in clashes))
            raise ApiError(
                409,
                "Conflict",
                f"Apply failed with {len(clashes)} conflict{'s' if len(clashes) > 1 else ''}: "
                f'conflict with "{other["manager"]}": {where}',
                {
                    "causes": [
                        {
                            "reason": "FieldManagerConflict",
                            "message": f'conflict with "{other["manager"]}"',
                            "field": where,
                        }
                    ]
                },
            )
        other["fieldsV1"] = _nest(_paths_of(other["fieldsV1"]) - clashes)


def _owned(wanted: Json) -> set[Path]:
    body = {key: value for key, value in wanted.items() if key not in {"apiVersion", "kind", "status"}}
    metadata = {key: value for key, value in wanted["metadata"].items() if key not in NOT_OWNED}
    body = {**body, "metadata": metadata} if metadata else {key: body[key] for key in body if key != "metadata"}
    return _leaves(body, ())


def _leaves(value: Any, path: Path, field: str = "") -> set[Path]:  # noqa: ANN401  # Any JSON.
    if isinstance(value, dict) and value:
        return set().union(*(_leaves(each, (*path, f"f:{key}"), key) for key, each in value.items()))
    if isinstance(value, list):
        key_name = list_key(field, value)
        if key_name is not None:
            return set().union(
                *(_leaves(each, (*path, f"k:{json.dumps({key_name: each[key_name]})}")) for each in value)
            )
    return {path} if path else set()


def _nest(paths: set[Path]) -> Json:
    tree: Json = {}
    for path in sorted(paths):
        branch = tree
        for step in path:
            branch = branch.setdefault(step, {})
    return tree


def _paths_of(tree: Json, path: Path = ()) -> set[Path]:
    if not tree:
        return {path} if path else set()
    return set().union(*(_paths_of(branch, (*path, step)) for step, branch in tree.items()))


def _plain(step: str) -> str:
    return step[2:] if step.startswith("f:") else f"[{step[2:]}]"


def _child(value: Any, step: str) -> Any:  # noqa: ANN401  # Any JSON.
    if step.startswith("f:"):
        return value.get(step[2:]) if isinstance(value, dict) else None
    wanted = json.loads(step[2:])
    items = value if isinstance(value, list) else []
    return next((each for each in items if isinstance(each, dict) and wanted.items() <= each.items()), None)


def _value(thing: Json, path: Path) -> Any:  # noqa: ANN401  # Any JSON.
    value: Any = thing
    for step in path:
        value = _child(value, step)
    return value


def _drop(thing: Json, path: Path) -> None:
    parents: list[Any] = [thing]
    for step in path[:-1]:
        parents.append(_child(parents[-1], step))
        if parents[-1] is None:
            return
    last = path[-1]
    if last.startswith("f:"):
        if len(path) > 1 and path[-2].startswith("k:") and last[2:] in json.loads(path[-2][2:]):
            _drop_item(parents[-2], parents[-1])
        elif isinstance(parents[-1], dict):
            parents[-1].pop(last[2:], None)
    else:
        _drop_item(parents[-1], _child(parents[-1], last))


def _drop_item(items: Any, item: Any) -> None:  # noqa: ANN401  # Any JSON.
    if isinstance(items, list) and item in items:
        items.remove(item)
