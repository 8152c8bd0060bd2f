"""Kubernetes objects as plain JSON: copies, times, conditions and owners."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec

Json = dict[str, Any]
T = TypeVar("T")

NAME_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"  # Kubernetes' own: no vowels, no look-alikes.


def clone(value: T) -> T:
    """A deep copy of JSON."""
    copy: T = msgspec.json.decode(msgspec.json.encode(value))  # Five times as fast as code.
    return copy


def timestamp(now_ms: int) -> str:
    """RFC 3339 with whole seconds, as Kubernetes writes `metav1.Time`."""
    return _second(now_ms // 1000)


@functools.lru_cache(maxsize=64)
def _second(now_s: int) -> str:
    return datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def suffix(*parts: str, length: int = 5) -> str:
    """Characters of a generated name, computed from ``parts``: the same again for the same world."""
    number = int.from_bytes(hashlib.sha256("|".join(parts).encode()).digest()[:16], "big")
    letters = []
    for _ in range(length):
        number, letter = divmod(number, len(NAME_ALPHABET))
        letters.append(NAME_ALPHABET[letter])
    return "".join(letters)


def name_of(thing: Json) -> str:
    """`metadata.name`."""
    return str(thing["metadata"]["name"])


def namespace_of(thing: Json) -> str:
    """`metadata.namespace`, empty for what belongs to the whole cluster."""
    return str(thing["metadata"].get("namespace", ""))


def uid_of(thing: Json) -> str:
    """`metadata.uid`."""
    return str(thing["metadata"]["uid"])


def is_terminating(thing: Json) -> bool:
    """Whether it was deleted and still waits for its finalizers or its grace."""
    return "deletionTimestamp" in thing["metadata"]


def labels_of(thing: Json) -> dict[str, str]:
    """`metadata.labels`, empty if there are none."""
    return thing["metadata"].get("labels") or {}


def condition(thing: Json, kind: str) -> Json | None:
    """The condition of that type in `status.conditions`."""
    for each in thing.get("status", {}).get("conditions", ()):
        if each["type"] == kind:
            return dict(each)
    return None


def is_true(thing: Json, kind: str) -> bool:
    """Whether the condition of that type holds."""
    found = condition(thing, kind)
    return found is not None and found["status"] == "True"


def set_condition(  # A condition has this many fields.
    thing: Json, kind: str, status: bool, now_ms: int, *, reason: str = "", message: str = "", severity: bool = False
) -> None:
    """Write a condition in place; its transition time moves only when its status does."""
    conditions: list[Json] = thing.setdefault("status", {}).setdefault("conditions", [])
    fresh: Json = {"type": kind, "status": "True" if status else "False", "lastTransitionTime": timestamp(now_ms)}
    if severity and not status:
        fresh["severity"] = "Error"
    if reason:
        fresh["reason"] = reason
    if message:
        fresh["message"] = message
    for place, each in enumerate(conditions):
        if each["type"] == kind:
            if each["status"] == fresh["status"]:
                fresh["lastTransitionTime"] = each["lastTransitionTime"]
            conditions[place] = fresh
            return
    conditions.append(fresh)


def owner_reference(owner: Json, *, controller: bool = True) -> Json:
    """The reference that a dependent carries."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": controller,
        "blockOwnerDeletion": True,
    }


def owned_by(things: Iterable[Json], owner: Json) -> list[Json]:
    """Those whose controller is ``owner``."""
    uid = uid_of(owner)
    return [
        each
        for each in things
        if any(ref["uid"] == uid and ref.get("controller") for ref in each["metadata"].get("ownerReferences") or ())
    ]
