"""The book of node claims: whose they are and of which type, kept as they change, so that nobody counts them anew."""

from __future__ import annotations

from collections import Counter, defaultdict

from libs.twin import kinds
from libs.twin.controllers.worklist import Key
from libs.twin.objects import Json, name_of, namespace_of
from libs.twin.platform_rules import PREFIX
from libs.twin.store import Change, Store


def tenant_key(claim: Json) -> Key:
    """The tenant cluster that a claim is for."""
    return namespace_of(claim).removeprefix(PREFIX), claim["spec"].get("vClusterRef") or ""


class ClaimBook:
    """Node claims by tenant cluster, and how many there are of each type."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._names: defaultdict[Key, set[str]] = defaultdict(set)
        self._claimed: Counter[str] = Counter()

    def note(self, change: Change) -> None:
        """Take in a change of a node claim."""
        if change.old is not None:
            self._names[tenant_key(change.old)].discard(name_of(change.old))
            self._claimed[change.old["spec"].get("typeRef") or ""] -= 1
        if change.verb != "DELETED":
            self._names[tenant_key(change.new)].add(name_of(change.new))
            self._claimed[change.new["spec"].get("typeRef") or ""] += 1
        if change.old is not None and not self._names[tenant_key(change.old)]:
            del self._names[tenant_key(change.old)]

    def of(self, tenant: Key) -> list[Json]:
        """The claims of a tenant cluster, by name."""
        namespace = PREFIX + tenant[0]
        names = sorted(self._names[tenant]) if tenant in self._names else ()
        return [self._store.get(kinds.NODE_CLAIMS, namespace, each) for each in names]

    def claimed(self, node_type: str) -> int:
        """How many claims have this type."""
        return self._claimed[node_type]
