"""Puts our cluster templates on the Platform: made if absent, given the versions that it lacks, never changed."""

from __future__ import annotations

from typing import Any, Final

from libs.common.errors import Rejected, Unavailable
from services.capacity_manager.core.reasons import Reason
from services.capacity_manager.shell.platform import labels
from services.capacity_manager.shell.platform.client import PlatformClient
from services.capacity_manager.shell.platform.refusals import is_already_there
from services.capacity_manager.shell.templates import Template, Templates

Json = dict[str, Any]

API: Final = "management.loft.sh/v1"
TEMPLATES: Final = f"/kubernetes/management/apis/{API}/virtualclustertemplates"
DIGEST: Final = "millrace.dev/digest-"  # With the version behind it: what was published under it, for ever.


class Publisher:
    """Knows our templates. One that is not ours is the operator's, and is taken to be there."""

    def __init__(self, client: PlatformClient, templates: Templates) -> None:
        self._client = client
        self._templates = templates

    def publish(self, name: str, version: str) -> None:
        """Have this version be there.

        Raises Rejected where it is there with another content: what clusters run by must not change under its name.
        """
        template = self._templates.get((name, version))
        if template is None:
            return
        found = self._client.get(TEMPLATES, name)
        if found is None:
            found = self._create(template)
        if found is None or labels.of(found).get(labels.MANAGED_BY) != labels.MILLRACE:
            return  # Made by an operator, under our name: theirs to keep.
        versions = (found.get("spec") or {}).get("versions") or []
        if not any(each.get("version") == version for each in versions):
            self._add(found, versions, template)
        elif _digest_of(found, version) != template.digest:
            raise Rejected(
                f"template {name}@{version} was published with another content; give what changed a new version",
                code=Reason.TEMPLATE_INVALID,
            )

    def _create(self, template: Template) -> Json | None:
        body: Json = {
            "apiVersion": API,
            "kind": "VirtualClusterTemplate",
            "metadata": {
                "name": template.name,
                "labels": {labels.MANAGED_BY: labels.MILLRACE},
                "annotations": {DIGEST + template.version: template.digest},
            },
            "spec": {"displayName": template.name, "versions": [template.body]},
        }
        try:
            return self._client.create(TEMPLATES, body)
        except Unavailable as failure:
            if not is_already_there(failure):
                raise
            return self._client.get(TEMPLATES, template.name)

    def _add(self, found: Json, versions: list[Json], template: Template) -> None:
        metadata = {
            "resourceVersion": found["metadata"]["resourceVersion"],
            "annotations": {DIGEST + template.version: template.digest},
        }
        spec = {"versions": [*versions, template.body]}
        self._client.merge(TEMPLATES, template.name, {"metadata": metadata, "spec": spec})


def _digest_of(found: Json, version: str) -> str:
    return str((found["metadata"].get("annotations") or {}).get(DIGEST + version, ""))
