"""Where the weights of a model come from, and what a pod has for it: the fetch, its volumes, the engine's view."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from libs.common.units import GIB
from libs.model_fetch.sources import Scheme, parse_source
from services.runtime_deployer.core.templates import CachePolicy, Template

Json = dict[str, JsonValue]

FETCH_COMMAND: Final = ("python", "-m", "libs.model_fetch")
HOLD_COMMAND: Final = ("python", "-m", "libs.model_fetch.hold")
HELD: Final = "/tmp/held"  # noqa: S108  # On the pod's own disk: the holder writes it, the fetch waits for it.
MANIFEST: Final = "MILLRACE_MODEL_MANIFEST"  # Read by libs/model_fetch.
LABELS: Final = "models.millrace.dev/"
LABEL_CHARS: Final = 40  # A label's name may have 63.
MOUNTED: Final = "/source"  # As libs/model_fetch has it.


@dataclass(frozen=True, slots=True)
class Weights:
    """A revision of a model, pinned like the text of a template: where it is, by which Secret, its manifest."""

    source: str
    manifest: str
    endpoint: str = ""
    region: str = ""
    secret: str = ""


def fetch_args(weights: Weights) -> list[JsonValue]:
    """What the fetch is told beyond what its template says."""
    named = (("--source", weights.source), ("--endpoint", weights.endpoint), ("--region", weights.region))
    return [text for name, value in named if value for text in (name, value)]


def cache_args(policy: CachePolicy | None) -> list[JsonValue]:
    """What the fetch is told of the cache that it brings a model to."""
    if policy is None:
        return []
    kept = [text for digest in policy.keep for text in ("--keep", digest)]
    return ["--capacity-bytes", str(policy.capacity_gib * GIB), *kept, "--held", HELD]


def label_of(digest: str) -> str:
    """The label of a node that has a model in its cache."""
    return f"{LABELS}{digest.removeprefix('sha256:')[:LABEL_CHARS]}"


def node_preference(policy: CachePolicy | None, digest: str) -> Json:
    """A pod would rather be on a node that has its model, and goes to another one if there is none with room."""
    if policy is None or not policy.node_path:
        return {}
    has_it: Json = {"matchExpressions": [{"key": label_of(digest), "operator": "Exists"}]}
    preferred: list[JsonValue] = [{"weight": 100, "preference": has_it}]
    return {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}}


def models_volume(claim: str, size_bytes: int, template: Template) -> Json:
    """Where a pod's models are: on its claim, in a directory of its node, or on a disk of its own."""
    if template.claim is not None:
        return {"persistentVolumeClaim": {"claimName": claim}}
    if template.cache is not None:
        return {"hostPath": {"path": template.cache.node_path, "type": "DirectoryOrCreate"}}
    return {"emptyDir": {"sizeLimit": f"{template.disk_gib(size_bytes)}Gi"}}


def fetch_secrets(names: Sequence[str]) -> Json:
    """Credentials as environment; what is named twice counts once."""
    references: list[JsonValue] = [{"secretRef": {"name": each}} for each in dict.fromkeys(filter(None, names))]
    return {"envFrom": references} if references else {}


def egress_port(weights: Weights | None) -> int | None:
    """The port of a source that an operator's file names; None where it is the usual one."""
    if weights is None or not weights.endpoint:
        return None
    parts = urllib.parse.urlsplit(weights.endpoint)
    return parts.port or (80 if parts.scheme == "http" else 443)


def source_volumes(weights: Weights | None) -> list[JsonValue]:
    """The volume that weights are read from, where that is one."""
    source = parse_source(weights.source) if weights is not None else None
    if source is not None and source.scheme is Scheme.CLAIM:
        return [{"name": "source", "persistentVolumeClaim": {"claimName": source.place, "readOnly": True}}]
    if source is not None and source.scheme is Scheme.DIRECTORY:
        return [{"name": "source", "hostPath": {"path": source.path, "type": "Directory"}}]
    return []


def source_mounts(weights: Weights | None) -> list[JsonValue]:
    """Where the fetch sees it."""
    source = parse_source(weights.source) if weights is not None else None
    if source is not None and source.scheme is Scheme.CLAIM:
        return [{"name": "source", "mountPath": MOUNTED, "readOnly": True}]
    if source is not None and source.scheme is Scheme.DIRECTORY:
        return [{"name": "source", "mountPath": source.path, "readOnly": True}]
    return []


def model_path(weights: Weights | None, digest: str) -> Json:
    """The part of the models' volume that an engine sees: its model alone, which is there only when it is whole."""
    is_fetched = weights is not None and parse_source(weights.source).scheme is not Scheme.BAKED
    return {"subPath": digest.replace(":", "-")} if is_fetched else {}
