"""Namespaces get their default objects, and take everything in them along when they go."""

from __future__ import annotations

from typing import Final

from libs.twin import kinds
from libs.twin.cluster_rules import ClusterRules
from libs.twin.controllers.due import Due
from libs.twin.objects import Json, is_terminating, name_of, uid_of
from libs.twin.options import TwinOptions
from libs.twin.store import Store

CONTENT: Final = tuple(each for each in kinds.CLUSTER_KINDS if each.namespaced)


class NamespaceController:
    """Makes `default` service accounts, and empties namespaces that terminate."""

    def __init__(self, store: Store, rules: ClusterRules, options: TwinOptions) -> None:
        self._store = store
        self._rules = rules
        self._options = options
        self._emptied_ms: dict[str, int] = {}

    def step(self, now_ms: int, due: Due) -> None:
        """Look at every namespace once."""
        for each in self._store.all(kinds.NAMESPACES):
            if is_terminating(each):
                self._empty(each, now_ms, due)
            elif self._store.find(kinds.SERVICE_ACCOUNTS, name_of(each), "default") is None:
                metadata = {"name": "default", "namespace": name_of(each)}
                self._store.create(kinds.SERVICE_ACCOUNTS, {"metadata": metadata}, now_ms)

    def _empty(self, namespace: Json, now_ms: int, due: Due) -> None:
        left = 0
        for kind in CONTENT:
            for each in self._store.all(kind, name_of(namespace)):
                if not is_terminating(each):
                    self._rules.delete(kind, each, {})
                left += self._store.find(kind, name_of(namespace), name_of(each)) is not None
        if left:
            return
        since_ms = self._emptied_ms.setdefault(uid_of(namespace), now_ms)
        gone_ms = since_ms + self._options.scaled(self._options.namespace_delete_ms)
        if now_ms < gone_ms:
            due.at(gone_ms)
        else:
            del self._emptied_ms[uid_of(namespace)]
            self._store.remove(kinds.NAMESPACES, namespace)
