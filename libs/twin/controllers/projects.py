"""Projects: their namespace comes a moment after them, and they go when nothing is left in it."""

from __future__ import annotations

from libs.twin import kinds
from libs.twin.controllers.due import Due
from libs.twin.objects import Json, is_terminating, name_of, set_condition, uid_of
from libs.twin.options import TwinOptions
from libs.twin.platform_rules import PREFIX
from libs.twin.store import Store

COUNTED = (kinds.INSTANCES, kinds.NODE_CLAIMS)


class ProjectController:
    """Opens and closes projects, and counts what they use."""

    def __init__(self, store: Store, options: TwinOptions) -> None:
        self._store = store
        self._options = options
        self._born_ms: dict[str, int] = {}

    def step(self, now_ms: int, due: Due) -> None:
        """Look at every project once."""
        for each in self._store.all(kinds.PROJECTS):
            if is_terminating(each):
                if not any(self._store.all(kind, PREFIX + name_of(each)) for kind in COUNTED):
                    self._born_ms.pop(uid_of(each), None)
                    self._store.remove(kinds.PROJECTS, each)
                continue
            open_ms = self._born_ms.setdefault(uid_of(each), now_ms) + self._options.scaled(self._options.project_ms)
            if now_ms < open_ms:
                due.at(open_ms)
            else:
                self._store.edit(kinds.PROJECTS, each, lambda fresh: self._report(fresh, now_ms))

    def _report(self, project: Json, now_ms: int) -> None:
        set_condition(project, "NamespaceTemplateSynced", True, now_ms)
        used = {kind.plural: str(len(self._store.all(kind, PREFIX + name_of(project)))) for kind in COUNTED}
        limit = (project["spec"].get("quotas") or {}).get("project") or {}
        project["status"]["quotas"] = {"project": {"limit": limit, "used": used}}
