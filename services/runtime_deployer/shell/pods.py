"""Kubernetes JSON as observations: only what lasts is kept, so that two looks at the same thing are equal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from services.runtime_deployer.core.manifests import DIGEST, ENDPOINT, GENERATION, MANAGED_BY, MANAGER, MODEL, RECIPE
from services.runtime_deployer.core.observed import (
    ENGINE,
    FETCH,
    KSERVE_ENGINE,
    WORKLOADS,
    AdapterSeen,
    ContainerSeen,
    ContainerState,
    Kind,
    ObjectSeen,
    PodSeen,
)
from services.runtime_deployer.core.trouble import PULLS, UNAUTHORIZED

# The kubelet goes to and fro between these two while an image can't be pulled; it is one condition.
SAME_WAITING: Final = {"ErrImagePull": "ImagePullBackOff"}
NO_ENTRY: Final = re.compile(r"\b40[13]\b|unauthorized|authorization failed|authentication required|denied", re.I)
QUANTITY: Final = re.compile(r"([0-9]{1,18})([KMGTP]i|[kMGTP]|)")
UNITS: Final = {
    **{f"{letter}i": 1 << 10 * power for power, letter in enumerate("KMGTP", 1)},
    **{letter: 1000**power for power, letter in enumerate("kMGTP", 1)},
    "": 1,
}
LISTED_MAX: Final = 4096  # All that Kubernetes keeps of one: a fetch lists what is in its cache.
MESSAGE_MAX: Final = 500  # Enough for a cause; a termination message may be a page of logs.

Json = Mapping[str, Any]


def object_seen(kind: Kind, body: Json) -> ObjectSeen:
    """One of our objects."""
    metadata = body.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    return ObjectSeen(
        kind=kind,
        generation=number(annotations.get(GENERATION)),
        digest=annotations.get(DIGEST, ""),
        replicas=_replicas(kind, body.get("spec") or {}),
        deleting="deletionTimestamp" in metadata,
        refused=_refused(body.get("status") or {}) if kind in WORKLOADS else "",
        storage_bytes=_storage_bytes(body) if kind is Kind.VOLUME_CLAIM else None,
    )


def _storage_bytes(body: Json) -> int:
    """The size of a volume: what it got, or what it asked for while it has none."""
    got = (body.get("status") or {}).get("capacity") or {}
    asked = ((body.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return bytes_of(str(got.get("storage") or asked.get("storage") or "0"))


def bytes_of(quantity: str) -> int:
    """A size as Kubernetes writes it, like 100Gi; 0 for what is none."""
    found = QUANTITY.fullmatch(quantity)
    return int(found[1]) * UNITS[found[2]] if found else 0


def is_foreign(kind: Kind, name: str, body: Json) -> bool:
    """Whether an object by the name of one of ours is somebody else's: it doesn't carry the marks that ours have."""
    labels = (body.get("metadata") or {}).get("labels") or {}
    return kind is not Kind.NAMESPACE and (labels.get(MANAGED_BY), labels.get(ENDPOINT)) != (MANAGER, name)


def _replicas(kind: Kind, spec: Json) -> int | None:
    if kind is Kind.INFERENCE_SERVICE:
        return (spec.get("predictor") or {}).get("minReplicas")
    return spec.get("replicas") if kind is Kind.DEPLOYMENT else None


def _refused(status: Json) -> str:
    """Why no pod more may be: without the name of the pod, which is another one for each try."""
    conditions = {each.get("type"): each for each in status.get("conditions") or ()}
    failure = conditions.get("ReplicaFailure") or {}
    said = str(failure.get("message") or "") if failure.get("status") == "True" else ""
    return said.rpartition(" is forbidden: ")[2][:MESSAGE_MAX]


def pod_seen(body: Json) -> PodSeen:
    """One pod; whether it is warmed is not Kubernetes' to say."""
    metadata, spec, status = body.get("metadata") or {}, body.get("spec") or {}, body.get("status") or {}
    conditions = {each.get("type"): each for each in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled") or {}
    return PodSeen(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        recipe=(metadata.get("labels") or {}).get(RECIPE, ""),
        model=(metadata.get("annotations") or {}).get(MODEL, ""),
        port=_port(spec),
        ip=status.get("podIP", ""),
        node=spec.get("nodeName") or "",
        ready=(conditions.get("Ready") or {}).get("status") == "True",
        terminating="deletionTimestamp" in metadata or status.get("phase") in ("Failed", "Succeeded"),
        unschedulable=scheduled.get("reason", "") if scheduled.get("status") == "False" else "",
        init=_containers(spec.get("initContainers") or (), status.get("initContainerStatuses") or ()),
        containers=_containers(spec.get("containers") or (), status.get("containerStatuses") or ()),
        **_models(spec),
    )


def _models(spec: Json) -> dict[str, str]:
    """Where its models are, if that outlives the pod."""
    volume: Json = next((each for each in spec.get("volumes") or () if each.get("name") == "models"), {})
    found = {
        "claim": (volume.get("persistentVolumeClaim") or {}).get("claimName"),
        "node_path": (volume.get("hostPath") or {}).get("path"),
    }
    return {name: value for name, value in found.items() if value}


def adapters_seen(body: Json) -> tuple[AdapterSeen, ...]:
    """The adapters in an engine's list of models: those that have a parent; `root` is where each came from."""
    cards = [each for each in body.get("data") or () if each.get("parent")]
    found = (AdapterSeen(name=str(each.get("id", "")), source=str(each.get("root", ""))) for each in cards)
    return tuple(sorted(found, key=lambda each: each.name))


def number(text: str | None) -> int:
    """The generation in a label or annotation; 0 where there is none."""
    return int(text) if text is not None and text.isdecimal() else 0


def _port(spec: Json) -> int:
    engine: Json = next(
        (each for each in spec.get("containers") or () if each.get("name") in (ENGINE, KSERVE_ENGINE)), {}
    )
    return next((int(each["containerPort"]) for each in engine.get("ports") or ()), 0)


def _containers(specs: Sequence[Json], statuses: Sequence[Json]) -> tuple[ContainerSeen, ...]:
    by_name = {each.get("name"): each for each in statuses}
    return tuple(_container(each, by_name.get(each["name"]) or {}) for each in specs)


def _container(spec: Json, status: Json) -> ContainerSeen:
    state = status.get("state") or {}
    waiting = _waiting(state.get("waiting") or {})
    ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
    return ContainerSeen(
        name=spec["name"],
        image=spec.get("image", ""),
        state=next((each for each in ContainerState if each in state), ContainerState.WAITING),
        waiting=waiting,
        restarts=status.get("restartCount", 0),
        exit_code=ended.get("exitCode"),
        reason=ended.get("reason") or "",
        message=(ended.get("message") or "").strip()[: LISTED_MAX if spec["name"] == FETCH else MESSAGE_MAX],
    )


def _waiting(said: Json) -> str:
    """Why it waits. A registry that does not know us is not one that does not know the image."""
    reason = str(said.get("reason", ""))
    reason = SAME_WAITING.get(reason, reason)
    return UNAUTHORIZED if reason in PULLS and NO_ENTRY.search(str(said.get("message", ""))) else reason
