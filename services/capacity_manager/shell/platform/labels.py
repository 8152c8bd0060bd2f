"""Whose an object is, and what a project must allow: labels that we write, and allow-lists that we only widen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from libs.common.events.endpoint import NodeChoice
from services.capacity_manager.core.plan import template_of

Json = dict[str, Any]
Labels = Mapping[str, str]

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MILLRACE: Final = "millrace"
TENANT: Final = "millrace.dev/tenant"
PROJECT: Final = "millrace.dev/project"
ENDPOINT: Final = "millrace.dev/endpoint"
TIER: Final = "millrace.dev/tier"
REGION: Final = "millrace.dev/region"
INSTALLATION: Final = "millrace.dev/installation"  # Which Millrace made it: two may share a Platform.
GENERATION: Final = "millrace.dev/generation"
POOL: Final = "millrace.dev/pool"
SHARED: Final = "shared"


@dataclass(frozen=True, slots=True)
class Allowed:
    """What one claim needs its project to allow. Other claims of the project need other things: nothing is removed."""

    node_types: tuple[str, ...]
    templates: tuple[str, ...]
    regions: tuple[str, ...]


def allowed_for(classes: Sequence[NodeChoice], region: str) -> Allowed:
    """What classes of nodes need their project to allow, for an endpoint that was asked for in a region."""
    return Allowed(
        node_types=tuple(dict.fromkeys(each.node_type for each in classes)),
        templates=tuple(dict.fromkeys(template_of(each.cluster_template)[0] for each in classes)),
        regions=tuple(dict.fromkeys(each.region or region for each in classes)),
    )


def of_project(*, tenant_id: str, project_id: str) -> Labels:
    """The labels by which a project is ours, and this tenant's; without a tenant, the one of clusters for all."""
    if not tenant_id:
        return {MANAGED_BY: MILLRACE, POOL: SHARED}
    return {MANAGED_BY: MILLRACE, TENANT: tenant_id, PROJECT: project_id}


def of_cluster(*, tenant_id: str, project_id: str, endpoint_id: str) -> Labels:
    """The labels by which a tenant cluster is ours, and this endpoint's; without an endpoint, a shared one."""
    whose = {ENDPOINT: endpoint_id} if endpoint_id else {POOL: SHARED}
    return {**of_project(tenant_id=tenant_id, project_id=project_id), **whose}


def are_in(wanted: Labels, thing: Json) -> bool:
    """Whether the object has all of these labels."""
    theirs = of(thing)
    return all(theirs.get(key) == value for key, value in wanted.items())


def of(thing: Json) -> Labels:
    """The labels of an object; none and null are the same."""
    return thing["metadata"].get("labels") or {}


def widened(project: Json, allowed: Allowed) -> Json:
    """The part of the spec that must change so that the project allows this too; empty if nothing must.

    A missing or null list allows everything, which is more than we want; an empty one allows nothing.
    """
    spec = project.get("spec") or {}
    changed: Json = {}
    for key, entry in spec_of(allowed).items():
        listed = spec.get(key)
        if listed is None:
            changed[key] = entry
        elif missing := [one for one in entry if not any(_covers(each, one) for each in listed)]:
            changed[key] = [*listed, *missing]
    return changed


def spec_of(allowed: Allowed) -> dict[str, list[Json]]:
    """The allow-lists of a project that serves this one claim."""
    template = {"kind": "VirtualClusterTemplate", "group": "storage.loft.sh"}
    return {
        "allowedClusters": [{"name": each} for each in allowed.regions],
        "allowedTemplates": [{**template, "name": each} for each in allowed.templates],
        "allowedNodeTypes": [{"name": each} for each in allowed.node_types],
    }


def _covers(entry: Json, wanted: Json) -> bool:
    """Exact, ``*``, or for node types ``<provider>.*``; case matters."""
    name, needed = str(entry.get("name", "")), str(wanted["name"])
    if entry.get("kind", wanted.get("kind")) != wanted.get("kind"):
        return False
    return name in ("*", needed) or (name.endswith(".*") and needed.startswith(name.removesuffix("*")))
