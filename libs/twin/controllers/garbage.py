"""The garbage collector: dependents go after their owners, or before them if the delete was in the foreground."""

from __future__ import annotations

from libs.twin import kinds
from libs.twin.cluster_rules import FOREGROUND, ORPHAN, ClusterRules
from libs.twin.kinds import Kind
from libs.twin.objects import Json, is_terminating, uid_of
from libs.twin.store import Store


class GarbageCollector:
    """Follows `ownerReferences`."""

    def __init__(self, store: Store, rules: ClusterRules) -> None:
        self._store = store
        self._rules = rules
        self._seen_version = 0  # Of the store: nothing becomes garbage by itself.

    def step(self) -> None:
        """Look at everything that has an owner or a finalizer of ours, if anything changed."""
        if self._seen_version == self._store.version:
            return
        self._seen_version = self._store.version
        everything = [(kind, each) for kind in kinds.CLUSTER_KINDS for each in self._store.all(kind)]
        alive = {uid_of(each): each for _, each in everything}
        for kind, each in everything:
            if not is_terminating(each) and self._is_garbage(each, alive):
                self._rules.delete(kind, each, {})
        for kind, each in everything:
            if is_terminating(each) and each["metadata"].get("finalizers"):
                self._finish(kind, each, everything)

    def _is_garbage(self, thing: Json, alive: dict[str, Json]) -> bool:
        owners = thing["metadata"].get("ownerReferences") or ()
        if not owners:
            return False
        living = [alive[ref["uid"]] for ref in owners if ref["uid"] in alive]
        return all(FOREGROUND in (each["metadata"].get("finalizers") or ()) and is_terminating(each) for each in living)

    def _finish(self, kind: Kind, owner: Json, everything: list[tuple[Kind, Json]]) -> None:
        finalizers = owner["metadata"]["finalizers"]
        uid = uid_of(owner)
        dependents = [
            (other, each)
            for other, each in everything
            if any(ref["uid"] == uid for ref in each["metadata"].get("ownerReferences") or ())
            and self._store.find(other, each["metadata"].get("namespace", ""), each["metadata"]["name"]) is not None
        ]
        if ORPHAN in finalizers:
            for other, each in dependents:
                self._store.edit(other, each, lambda fresh: _disown(fresh, uid))
            self._release(kind, owner, ORPHAN)
        elif FOREGROUND in finalizers and not dependents:
            self._release(kind, owner, FOREGROUND)

    def _release(self, kind: Kind, owner: Json, finalizer: str) -> None:
        def change(fresh: Json) -> None:
            fresh["metadata"]["finalizers"] = [each for each in fresh["metadata"]["finalizers"] if each != finalizer]

        left = self._store.edit(kind, owner, change)
        if not left["metadata"]["finalizers"]:
            self._store.remove(kind, left)


def _disown(thing: Json, uid: str) -> None:
    owners = thing["metadata"]["ownerReferences"]
    thing["metadata"]["ownerReferences"] = [ref for ref in owners if ref["uid"] != uid]
