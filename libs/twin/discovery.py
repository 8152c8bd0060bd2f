"""API discovery: the documents from which clients learn what a server serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from libs.twin.kinds import Kind
from libs.twin.objects import Json

STEPS_MAX: Final = 3  # Of such a path; almost every request has more.
VERBS: Final = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def discover(path: str, kinds: Sequence[Kind], version: str) -> Json | None:
    """The document at ``path``; None if it is no discovery path."""
    steps = [each for each in path.split("/") if each]
    if len(steps) > STEPS_MAX:
        return None
    groups = sorted({each.group for each in kinds if each.group})
    match steps:
        case []:
            return {"paths": ["/api", "/api/v1", "/apis", "/healthz", "/version"]}
        case ["version"]:
            return _version(version)
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(each, kinds) for each in groups]}
        case ["apis", group] if group in groups:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, kinds)}
        case ["api", "v1"]:
            return _resources("", "v1", kinds)
        case ["apis", group, name] if any((each.group, each.version) == (group, name) for each in kinds):
            return _resources(group, name, kinds)
    return None


def _version(version: str) -> Json:
    major, minor, _ = version.removeprefix("v").split(".")
    return {
        "major": major,
        "minor": minor,
        "gitVersion": version,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2026-08-01T00:00:00Z",
        "goVersion": "go1.25",
        "compiler": "gc",
        "platform": "linux/amd64",
    }


def _group(name: str, kinds: Sequence[Kind]) -> Json:
    versions = sorted({each.version for each in kinds if each.group == name})
    listed = [{"groupVersion": f"{name}/{each}", "version": each} for each in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[-1]}


def _resources(group: str, version: str, kinds: Sequence[Kind]) -> Json:
    resources: list[Json] = []
    for each in kinds:
        if (each.group, each.version) != (group, version):
            continue
        head: Json = {"singularName": each.kind.lower(), "namespaced": each.namespaced, "kind": each.kind}
        resources.append({"name": each.plural, **head, "verbs": VERBS})
        resources.extend(
            {"name": f"{each.plural}/{part}", **head, "verbs": ["get", "patch", "update"]} for part in each.subresources
        )
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}
