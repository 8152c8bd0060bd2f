"""Projects: their namespace comes a moment after them, and they go when nothing is left in it."""

from __future__ import annotations

from libs.twin import kinds
from libs.twin.controllers.worklist import Key, Worklist
from libs.twin.objects import Json, is_terminating, name_of, set_condition, uid_of
from libs.twin.options import TwinOptions
from libs.twin.platform_rules import PREFIX
from libs.twin.store import Store

COUNTED = (kinds.INSTANCES, kinds.NODE_CLAIMS)


class ProjectController:
    """Opens and closes projects, and counts what they use."""

    def __init__(self, store: Store, options: TwinOptions) -> None:
        self.work = Worklist()
        self._store = store
        self._options = options
        self._born_ms: dict[str, int] = {}

    def step(self, now_ms: int) -> bool:
        """Look at the projects that something changed for; whether there were any."""
        taken = self.work.take(now_ms)
        for key in taken:
            project = self._store.find(kinds.PROJECTS, *key)
            if project is not None:
                self._look(key, project, now_ms)
        return bool(taken)

    def _look(self, key: Key, project: Json, now_ms: int) -> None:
        if is_terminating(project):
            if not any(self._store.count_of(kind, PREFIX + name_of(project)) for kind in COUNTED):
                self._born_ms.pop(uid_of(project), None)
                self._store.remove(kinds.PROJECTS, project)
            return
        open_ms = self._born_ms.setdefault(uid_of(project), now_ms) + self._options.scaled(self._options.project_ms)
        if now_ms < open_ms:
            self.work.at(key, open_ms)
        else:
            self._store.edit(kinds.PROJECTS, project, lambda fresh: self._report(fresh, now_ms))

    def _report(self, project: Json, now_ms: int) -> None:
        set_condition(project, "NamespaceTemplateSynced", True, now_ms)
        used = {kind.plural: str(self._store.count_of(kind, PREFIX + name_of(project))) for kind in COUNTED}
        limit = (project["spec"].get("quotas") or {}).get("project") or {}
        project["status"]["quotas"] = {"project": {"limit": limit, "used": used}}
