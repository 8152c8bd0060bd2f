"""What the Platform refuses: quotas, templates and node types that a project does not allow, wrong shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from libs.twin import kinds
from libs.twin.answers import ApiError, forbidden, invalid, not_found
from libs.twin.kinds import Kind
from libs.twin.objects import Json, is_terminating, name_of, namespace_of
from libs.twin.options import Faults, TwinOptions
from libs.twin.store import Store

PREFIX: Final = "p-"
FINALIZER: Final = "loft.sh/cleanup"
PROJECT_NAME_MAX: Final = 63 - len(PREFIX)
HOST_NAME_MAX: Final = 63  # `loft-<project>-v-<instance>` is a namespace name.


class PlatformRules:
    """The rules of the management API."""

    def __init__(
        self, store: Store, options: TwinOptions, faults: Callable[[], Faults], now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._options = options
        self._faults = faults
        self._now_ms = now_ms

    def default(self, kind: Kind, thing: Json) -> None:
        """Fill in, in place, what a writer may leave out."""
        thing.setdefault("spec", {})
        if kind is kinds.PROJECTS:
            thing.setdefault("status", {"quotas": {"project": {"limit": {}, "used": {}}}, "conditions": []})
        if kind is kinds.INSTANCES:
            thing.setdefault("status", {"phase": "", "conditions": []})
        if kind is kinds.NODE_CLAIMS:
            thing.setdefault("status", {"phase": "Pending", "conditions": []})
        if kind in HELD and not is_terminating(thing) and "uid" not in thing["metadata"]:
            thing["metadata"]["finalizers"] = sorted({*(thing["metadata"].get("finalizers") or ()), FINALIZER})

    def admit(self, kind: Kind, old: Json | None, new: Json) -> None:
        """Raise ApiError for a create (`old` is None) or a change that is not allowed."""
        if kind is kinds.PROJECTS:
            _check_project(new)
        if kind is kinds.INSTANCES:
            _check_instance(old, new)
        if kind.namespaced and old is None:
            project = self._project_of(kind, new)
            if kind is kinds.INSTANCES:
                _check_template(project, new)
            if kind is kinds.NODE_CLAIMS:
                _check_node_type(project, new)
            self.check_quota(kind, project, new)

    def delete(self, kind: Kind, thing: Json, options: Json) -> Json | None:
        """Delete; gives the object if it lingers, also if that was a lie and it stays."""
        del options
        if self._faults().ignored_deletes and kind in HELD:
            self._faults().ignored_deletes -= 1
            return thing
        return self._store.delete(kind, thing, self._now_ms())

    def check_quota(self, kind: Kind, project: Json, new: Json) -> None:
        """Raise if one more would pass a limit of the project, in the Platform's words."""
        limits = (project["spec"].get("quotas") or {}).get("project") or {}
        if not limits:
            return  # Counting all there is at each create would cost a large project the square of it.
        for key, used in self._counted(kind, project, new).items():
            limit = limits.get(key)
            if limit is not None and used + 1 > int(limit):
                singular = kind.plural.removesuffix("s")
                why = f"cannot create {singular}, because project {key} limit of {limit} would be exceeded"
                denial = invalid(
                    kind.kind, name_of(new), [("metadata.name", "FieldValueForbidden", f"Forbidden: {why}")], kind.group
                )
                if self._options.quota_denial_code == 403:
                    raise forbidden(denial.message, denial.details)
                raise denial

    def _counted(self, kind: Kind, project: Json, new: Json) -> dict[str, int]:
        present = self._store.all(kind, PREFIX + name_of(project))
        counts = {kind.plural: len(present)}
        if kind is kinds.NODE_CLAIMS:
            provider = new["spec"].get("providerRef")
            counts[f"{kind.plural}.provider={provider}"] = sum(
                each["spec"].get("providerRef") == provider for each in present
            )
        if kind is kinds.INSTANCES:
            template = (new["spec"].get("templateRef") or {}).get("name")
            alike = sum((each["spec"].get("templateRef") or {}).get("name") == template for each in present)
            counts[f"{kind.plural}.active"] = len(present)
            counts[f"{kind.plural}.template={template}"] = alike
        return counts

    def _project_of(self, kind: Kind, thing: Json) -> Json:
        namespace = namespace_of(thing)
        project = self._store.find(kinds.PROJECTS, "", namespace.removeprefix(PREFIX))
        is_there = project is not None and project["status"].get("conditions")
        if project is None or not namespace.startswith(PREFIX) or not is_there:
            raise not_found("namespaces", namespace)
        if is_terminating(project):
            raise _refused(kind, thing, f"project {name_of(project)} is being deleted")
        return project


HELD: Final = frozenset({kinds.PROJECTS, kinds.INSTANCES, kinds.NODE_CLAIMS})


def allows_node_type(project: Json, node_type: str) -> bool:
    """Whether the project's `allowedNodeTypes` let it have nodes of this type; null allows all."""
    allowed = project["spec"].get("allowedNodeTypes")
    if allowed is None:
        return True
    provider = node_type.split(".")[0]
    return any(each["name"] in {node_type, f"{provider}.*"} for each in allowed)


def _check_project(new: Json) -> None:
    name = name_of(new)
    if len(name) > PROJECT_NAME_MAX:
        why = f"Invalid value: {name!r}: must be no more than {PROJECT_NAME_MAX} characters"
        raise invalid("Project", name, [("metadata.name", "FieldValueInvalid", why)], kinds.LOFT)
    for key, value in ((new["spec"].get("quotas") or {}).get("project") or {}).items():
        if not isinstance(value, str) or not value.isdigit():
            why = f"Invalid value: {value!r}: must be a quantity as a string"
            raise invalid("Project", name, [(f"spec.quotas.project.{key}", "FieldValueInvalid", why)], kinds.LOFT)


def _check_instance(old: Json | None, new: Json) -> None:
    spec, name = new["spec"], name_of(new)
    causes: list[tuple[str, str, str]] = []
    if bool(spec.get("templateRef")) == bool(spec.get("template")):
        causes.append(
            (
                "spec.templateRef",
                "FieldValueInvalid",
                "Invalid value: exactly one of templateRef and template is needed",
            )
        )
    if not isinstance(spec.get("parameters", ""), str):
        causes.append(("spec.parameters", "FieldValueTypeInvalid", "Invalid value: must be of type string (YAML)"))
    project = namespace_of(new).removeprefix(PREFIX)
    if len(f"loft-{project}-v-{name}") > HOST_NAME_MAX:
        causes.append(
            (
                "metadata.name",
                "FieldValueInvalid",
                f"Invalid value: loft-{project}-v-{name} is longer than {HOST_NAME_MAX}",
            )
        )
    before = ((old or {}).get("spec") or {}).get("clusterRef") or {}
    for key, value in before.items():
        if value and (spec.get("clusterRef") or {}).get(key) != value:
            causes.append((f"spec.clusterRef.{key}", "FieldValueInvalid", "Invalid value: field is immutable"))
    if causes:
        raise invalid("VirtualClusterInstance", name, causes, kinds.LOFT)


def _check_template(project: Json, new: Json) -> None:
    allowed = project["spec"].get("allowedTemplates")
    wanted = (new["spec"].get("templateRef") or {}).get("name")
    if not allowed or any(each.get("name") in {"*", wanted} for each in allowed):
        return
    raise _refused(kinds.INSTANCES, new, f"template {wanted} is not allowed in project {name_of(project)}")


def _check_node_type(project: Json, new: Json) -> None:
    wanted = new["spec"].get("typeRef")
    if wanted and not allows_node_type(project, wanted):
        raise _refused(kinds.NODE_CLAIMS, new, f"node type {wanted} is not allowed in project {name_of(project)}")


def _refused(kind: Kind, thing: Json, why: str) -> ApiError:
    return forbidden(f'{kind.plural}.{kind.group} "{name_of(thing)}" is forbidden: {why}')
