"""The objects of one API server, with versions and a bounded history: what etcd is to Kubernetes.

Objects are JSON that nobody changes in place: a writer takes a `clone`, changes it and puts it back. Every real change
takes the next `resourceVersion`; a write that changes nothing takes none.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from libs.common.ids import NAMESPACE
from libs.twin.answers import already_exists, not_found
from libs.twin.kinds import Kind
from libs.twin.objects import Json, clone, name_of, namespace_of, timestamp


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the history; `old` is None for a create, `new` holds the last state for a delete."""

    version: int
    verb: str
    kind: Kind
    new: Json
    old: Json | None


class Store:
    """Objects by kind, namespace and name. Not for threads: its world holds one lock.

    Uids are computed from ``name``: no two stores that somebody could take for one another may share it.
    """

    def __init__(self, name: str, *, history_max: int) -> None:
        self.name = name
        self.version = 1
        self.on_change: Callable[[Change], None] = lambda _change: None
        self._things: dict[Kind, dict[str, dict[str, Json]]] = {}  # By kind, namespace and name.
        self._history: deque[Change] = deque(maxlen=history_max)
        self._forgotten = 0

    def find(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """The object, or None."""
        return self._things.get(kind, {}).get(namespace, {}).get(name)

    def get(self, kind: Kind, namespace: str, name: str) -> Json:
        """The object. Raises 404."""
        found = self.find(kind, namespace, name)
        if found is None:
            raise not_found(kind.plural, name, kind.group)
        return found

    def all(self, kind: Kind, namespace: str = "") -> list[Json]:
        """Every object of a kind, in a namespace or in all, in the order of namespace and name."""
        by_namespace = self._things.get(kind)
        if not by_namespace:
            return []
        chosen = [namespace] if namespace else sorted(by_namespace)
        found: list[Json] = []
        for each in chosen:
            things = by_namespace.get(each, {})
            found += [things[name] for name in sorted(things)]
        return found

    def count_of(self, kind: Kind, namespace: str) -> int:
        """How many objects of a kind are in a namespace."""
        return len(self._things.get(kind, {}).get(namespace, {}))

    def create(self, kind: Kind, thing: Json, now_ms: int) -> Json:
        """Add an object. Raises 409 AlreadyExists."""
        name = name_of(thing)
        things = self._things.setdefault(kind, {}).setdefault(namespace_of(thing), {})
        if name in things:
            raise already_exists(kind.plural, name, kind.group)
        self.version += 1
        fresh = {"apiVersion": kind.api_version, "kind": kind.kind, **thing}
        metadata = {**fresh["metadata"]}
        metadata["uid"] = str(uuid.uuid5(NAMESPACE, f"{self.name}|{self.version}"))
        metadata["resourceVersion"] = str(self.version)
        metadata["creationTimestamp"] = timestamp(now_ms)
        if "spec" in fresh:
            metadata["generation"] = 1
        fresh["metadata"] = metadata
        things[name] = fresh
        self._record("ADDED", kind, fresh, None)
        return fresh

    def put(self, kind: Kind, thing: Json) -> Json:
        """Replace an object with a changed clone; if nothing is left to wait for, this completes its deletion."""
        namespace, name = namespace_of(thing), name_of(thing)
        old = self.get(kind, namespace, name)
        metadata = thing["metadata"]
        metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
        if "generation" in old["metadata"]:
            metadata["generation"] = old["metadata"]["generation"] + (thing.get("spec") != old.get("spec"))
        if thing == old:
            return old
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        self._things[kind][namespace][name] = thing
        self._record("MODIFIED", kind, thing, old)
        return thing

    def edit(self, kind: Kind, thing: Json, change: Callable[[Json], None]) -> Json:
        """Put back a clone that ``change`` has worked on."""
        fresh = clone(self.get(kind, namespace_of(thing), name_of(thing)))
        change(fresh)
        return self.put(kind, fresh)

    def remove(self, kind: Kind, thing: Json) -> None:
        """Take an object out for good."""
        old = self._things[kind][namespace_of(thing)].pop(name_of(thing))
        self.version += 1
        last = clone(old)
        last["metadata"]["resourceVersion"] = str(self.version)
        self._record("DELETED", kind, last, old)

    def delete(self, kind: Kind, thing: Json, now_ms: int, *, grace_s: int | None = None) -> Json | None:
        """Delete as an API server does: at once, or marked if finalizers or a grace hold it (then the marked one)."""
        if not thing["metadata"].get("finalizers") and not grace_s:
            self.remove(kind, thing)
            return None

        def mark(fresh: Json) -> None:
            metadata = fresh["metadata"]
            metadata.setdefault("deletionTimestamp", timestamp(now_ms + 1000 * (grace_s or 0)))
            metadata.setdefault("deletionGracePeriodSeconds", grace_s or 0)

        return self.edit(kind, thing, mark)

    def changes_after(self, version: int) -> list[Change] | None:
        """What happened after ``version``; None if history does not reach back so far."""
        if version < self._forgotten:
            return None
        return [each for each in self._history if each.version > version]

    @property
    def oldest_version(self) -> int:
        """The oldest version from which a watch may start."""
        return self._forgotten

    def count(self) -> int:
        """How many objects there are."""
        return sum(len(things) for each in self._things.values() for things in each.values())

    def _record(self, verb: str, kind: Kind, new: Json, old: Json | None) -> None:
        if len(self._history) == self._history.maxlen:
            self._forgotten = self._history[0].version
        change = Change(self.version, verb, kind, new, old)
        self._history.append(change)
        self.on_change(change)
