"""The management API: its objects, and what is computed on request: selves, features, what a project may use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

from libs.twin import kinds, snapshots
from libs.twin.answers import ApiError, Response, answer, no_such_path
from libs.twin.discovery import discover
from libs.twin.entitlements import Entitlements
from libs.twin.joining import join_script
from libs.twin.objects import Json, is_true, name_of
from libs.twin.options import TwinOptions
from libs.twin.platform_rules import PREFIX, allows_node_type
from libs.twin.rest import Rest

ROOT: Final = f"/apis/{kinds.LOFT}/v1"


class PlatformFacade:
    """The Platform as its clients see it."""

    def __init__(self, rest: Rest, options: TwinOptions, entitlements: Entitlements, now_ms: Callable[[], int]) -> None:
        self._rest = rest
        self._now_ms = now_ms
        self._options = options
        self._entitlements = entitlements

    def request(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Response:
        """Answer one request below `/kubernetes/management`. Raises ApiError."""
        steps = path.removeprefix(ROOT).strip("/").split("/")
        self._entitlements.check(method, steps)
        told = self._entitlements.answer(method, steps, body)
        if told is not None:
            return told
        match method, steps:
            case "POST", ["selves"]:
                return answer(self._self(), 201)
            case "GET", ["projects", project, "nodetypes"]:
                return answer(self._node_types(project))
            case "GET", ["projects", project, "templates"]:
                return answer(self._templates(project))
            case _, ["namespaces", namespace, "virtualclusterinstances", name, computed]:
                told = self._of_instance(method, namespace, name, computed, body)
                if told is not None:
                    return told
        found = discover(path, kinds.PLATFORM_KINDS, self._options.kubernetes_version)
        if found is not None:
            return answer(found)
        if not path.startswith(ROOT):
            raise no_such_path()
        if method == "POST" and len(steps) == 1 and steps[0] in {"nodetypes"}:
            raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        return self._rest.request(method, path, query, headers, body)

    def _of_instance(self, method: str, namespace: str, name: str, computed: str, body: bytes) -> Response | None:
        """What is computed of an instance when it is asked for; None for what is not."""
        match method, computed:
            case "GET", "resourceusage":
                return answer(self._usage(namespace, name))
            case "GET", "snapshot":
                instance = self._rest.store.get(kinds.INSTANCES, namespace, name)
                return answer(snapshots.told_of(instance, self._now_ms()))
            case "POST", "joinscript":
                instance = self._rest.store.get(kinds.INSTANCES, namespace, name)
                asked = json.loads(body or b"{}").get("spec") or {}
                return answer(join_script(instance, self._options.loft_host, asked), 201)
        return None

    def _self(self) -> Json:
        user = self._options.user
        return {
            "kind": "Self",
            "apiVersion": f"{kinds.LOFT}/v1",
            "metadata": {},
            "spec": {},
            "status": {
                "user": {"name": user, "displayName": user, "teams": []},
                "accessKey": "twin",
                "accessKeyType": "User",
                "subject": user,
                "uid": f"twin-{user}",
                "groups": ["system:authenticated", f"loft:user:{user}"],
                "instanceID": "twin",
                "loftHost": self._options.loft_host,
                "projectNamespacePrefix": PREFIX,
            },
        }

    def _node_types(self, project: str) -> Json:
        found = self._rest.store.get(kinds.PROJECTS, "", project)
        types = [each for each in self._rest.store.all(kinds.NODE_TYPES) if allows_node_type(found, name_of(each))]
        providers = {each["spec"]["providerRef"] for each in types}
        return {
            "kind": "ProjectNodeTypes",
            "apiVersion": f"{kinds.LOFT}/v1",
            "metadata": {"name": project},
            "nodeProviders": [
                each for each in self._rest.store.all(kinds.NODE_PROVIDERS) if name_of(each) in providers
            ],
            "nodeTypes": types,
            "nodeProfiles": [],
            "osImages": [],
        }

    def _templates(self, project: str) -> Json:
        found = self._rest.store.get(kinds.PROJECTS, "", project)
        allowed = found["spec"].get("allowedTemplates")
        names = {each["name"] for each in allowed} if allowed else {"*"}
        chosen = [each for each in self._rest.store.all(kinds.TEMPLATES) if "*" in names or name_of(each) in names]
        default = next((each["name"] for each in allowed or () if each.get("isDefault")), "")
        return {
            "kind": "ProjectTemplates",
            "apiVersion": f"{kinds.LOFT}/v1",
            "metadata": {"name": project},
            "defaultVirtualClusterTemplate": default,
            "virtualClusterTemplates": chosen,
        }

    def _usage(self, namespace: str, name: str) -> Json:
        self._rest.store.get(kinds.INSTANCES, namespace, name)
        claims = [
            each
            for each in self._rest.store.all(kinds.NODE_CLAIMS, namespace)
            if each["spec"].get("vClusterRef") == name and is_true(each, "Joined")
        ]
        gpus = sum(
            int(
                self._rest.store.get(kinds.NODE_TYPES, "", each["spec"]["typeRef"])["spec"]["resources"][
                    "nvidia.com/gpu"
                ]
            )
            for each in claims
        )
        usage: Json = {"nodes": len(claims), "capacity": {"nvidia.com/gpu": gpus}}
        return {
            "kind": "VirtualClusterResourceUsage",
            "apiVersion": f"{kinds.LOFT}/v1",
            "metadata": {"name": name},
            "status": {"resourceUsage": usage},
        }
