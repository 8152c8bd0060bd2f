"""Which states of pods are trouble, and how long we wait before calling it permanent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from libs.common.units import MINUTE_MS, SECOND_MS
from services.runtime_deployer.core.observed import FETCH, ContainerSeen, Observed, PodSeen

CRASHES_MAX: Final = 3  # One crash may be the node's; Kubernetes' back-off makes three about a minute.
NAMED: Final = re.compile(r"([A-Z][A-Za-z0-9]{2,63}): ")  # A container that says why begins so: "DigestMismatch: …".

UNAUTHORIZED: Final = "ImageUnauthorized"
PULLS: Final = frozenset({"ImagePullBackOff", UNAUTHORIZED})  # One trouble: some kubelets give the cause only at times.

# How long each reason may last before it is a failure. Registries and secrets come back; a wrong name does not.
PATIENCE_MS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "ImagePullBackOff": 3 * MINUTE_MS,
        "ImageUnauthorized": 3 * MINUTE_MS,
        "CreateContainerConfigError": 2 * MINUTE_MS,
        "CreateContainerError": 2 * MINUTE_MS,
        "RunContainerError": 2 * MINUTE_MS,
        "InvalidImageName": 0,
        "ErrImageNeverPull": 0,
    }
)
UPDATE_PATIENCE_MS: Final = 30 * SECOND_MS  # There is something to go back to, and clients may be held until then.
REFUSED_PATIENCE_MS: Final = 5 * MINUTE_MS  # What another endpoint gives back, or an operator raises, may let it in.
SAID: Final = {"digest does not match": "DigestMismatch"}  # The same, from a container that only says it in words.
# What a model fetch may report that no second try can change.
FINAL_FETCH: Final = frozenset(
    {
        "DigestMismatch",
        "ModelNotFound",
        "ModelGated",
        "SizeMismatch",
        "DiskTooSmall",
        "SourceForbidden",
        "SourceInvalid",
    }
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with the replicas, and for how long that may last."""

    reason: str
    message: str
    patience_ms: int

    def is_like(self, other: Trouble | None) -> bool:
        """Whether it is the same trouble, perhaps better understood: it began when that one did."""
        return other is not None and (self.reason == other.reason or {self.reason, other.reason} <= PULLS)


def trouble_of(pods: Iterable[PodSeen], *, patience_max_ms: int | None = None) -> Trouble | None:
    """What is wrong, if something is wrong with every pod; one that is well may still bring the endpoint up."""
    found = [_pod_trouble(each) for each in pods if not each.terminating]
    troubles = [each for each in found if each is not None]
    if not troubles or len(troubles) < len(found):
        return None
    worst = min(troubles, key=lambda each: (each.patience_ms, each.reason))
    if patience_max_ms is None or worst.patience_ms <= patience_max_ms:
        return worst
    return replace(worst, patience_ms=patience_max_ms)


def refusal_of(observed: Observed, *, has_pods: bool) -> Trouble | None:
    """What is wrong if the cluster lets there be no pod at all: a quota, or an admission rule."""
    refused = next((each.refused for each in observed.objects if each.refused), "")
    if not refused or has_pods:
        return None
    return Trouble("QuotaExceeded" if "exceeded quota" in refused else "PodRefused", refused, REFUSED_PATIENCE_MS)


def _pod_trouble(pod: PodSeen) -> Trouble | None:
    if pod.ready:
        return None
    for container in (*pod.init, *pod.containers):
        trouble = _stuck(container) or _crashing(container)
        if trouble is not None:
            return trouble
    return None


def _stuck(container: ContainerSeen) -> Trouble | None:
    patience_ms = PATIENCE_MS.get(container.waiting)
    if patience_ms is None:
        return None
    message = f"{container.name} can't start from image {container.image}: {container.waiting}"
    return Trouble(container.waiting, message, patience_ms)


def _crashing(container: ContainerSeen) -> Trouble | None:
    if not container.exit_code and container.waiting != "CrashLoopBackOff":
        return None
    reason = _reason(container)
    if container.restarts < CRASHES_MAX and reason not in FINAL_FETCH:
        return None
    named = NAMED.match(container.message)
    if named is not None:
        return Trouble(reason, container.message[named.end() :], 0)
    ended = f"{container.name} ended with exit code {container.exit_code} after {container.restarts} restarts"
    return Trouble(reason, f"{ended}: {container.message or container.reason or 'it said nothing'}", 0)


def _reason(container: ContainerSeen) -> str:
    named = NAMED.match(container.message)
    if named is not None:
        return named.group(1)
    for words, reason in SAID.items():
        if words in container.message:
            return reason
    if container.reason == "OOMKilled":
        return container.reason
    return "ModelFetchFailed" if container.name == FETCH else "CrashLoopBackOff"
