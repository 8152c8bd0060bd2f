"""The deployment controller: as many pods of the newest template as wanted, changed a few at a time.

ReplicaSets are left out: pods belong to the Deployment itself, and carry the `pod-template-hash` all the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Final

from libs.twin import kinds
from libs.twin.answers import ApiError
from libs.twin.cluster_rules import ClusterRules
from libs.twin.controllers.due import Due
from libs.twin.objects import (
    NAME_ALPHABET,
    Json,
    clone,
    is_terminating,
    labels_of,
    name_of,
    namespace_of,
    owned_by,
    owner_reference,
    set_condition,
    suffix,
    uid_of,
)
from libs.twin.options import TwinOptions
from libs.twin.pods import is_over, is_ready, ready_since_ms
from libs.twin.store import Store

HASH_LABEL: Final = "pod-template-hash"
COST: Final = "controller.kubernetes.io/pod-deletion-cost"


class DeploymentController:
    """Makes and removes the pods of deployments, and writes their status."""

    def __init__(self, store: Store, rules: ClusterRules, options: TwinOptions) -> None:
        self._store = store
        self._rules = rules
        self._options = options
        self._progress: dict[str, tuple[tuple[int, ...], int]] = {}
        self._refused: dict[str, str] = {}  # Why a pod more may not be, by the Deployment's uid.
        self._tags: dict[str, tuple[int, str]] = {}  # Generation and template hash, by uid: a hash costs more.
        self._written: dict[str, tuple[object, ...]] = {}  # What a status was made of, by uid: the same makes no other.

    def step(self, now_ms: int, due: Due) -> None:
        """Look at every deployment once."""
        for each in self._store.all(kinds.DEPLOYMENTS):
            if is_terminating(each):
                continue
            self._sync_pods(each, now_ms)
            self._write_status(each, now_ms, due)

    def _pods(self, deployment: Json) -> list[Json]:
        return [
            each
            for each in owned_by(self._store.all(kinds.PODS, namespace_of(deployment)), deployment)
            if not is_over(each)
        ]

    def _available_at_ms(self, deployment: Json, pod: Json) -> int | None:
        """When it will have been ready for `minReadySeconds`; None while it is not ready."""
        since_ms = ready_since_ms(pod)
        if since_ms is None:
            return None
        return since_ms + self._options.scaled(1000 * int(deployment["spec"].get("minReadySeconds", 0)))

    def _available(self, deployment: Json, pods: list[Json], now_ms: int) -> list[Json]:
        ready = ((each, self._available_at_ms(deployment, each)) for each in pods)
        return [each for each, at_ms in ready if at_ms is not None and at_ms <= now_ms]

    def _tag(self, deployment: Json) -> str:
        generation = int(deployment["metadata"]["generation"])
        known = self._tags.get(uid_of(deployment))
        if known is None or known[0] != generation:
            known = self._tags[uid_of(deployment)] = (generation, template_hash(deployment))
        return known[1]

    def _sync_pods(self, deployment: Json, now_ms: int) -> None:
        wanted = int(deployment["spec"]["replicas"])
        tag = self._tag(deployment)
        alive = [each for each in self._pods(deployment) if not is_terminating(each)]
        new = [each for each in alive if labels_of(each).get(HASH_LABEL) == tag]
        old = [each for each in alive if labels_of(each).get(HASH_LABEL) != tag]
        if is_paused(deployment):
            self._keep_number(deployment, alive, wanted, now_ms)
            return
        surge, unavailable = _margins(deployment, wanted)
        if deployment["spec"]["strategy"]["type"] == "Recreate" and old:
            for each in old:
                self._rules.delete_pod(each)
            return
        for each in sorted(new, key=_first_to_go)[: max(0, len(new) - wanted)]:
            self._rules.delete_pod(each)
        try:
            for _ in range(min(wanted - len(new), wanted + surge - len(alive))):
                self._create_pod(deployment, tag, now_ms)
            self._refused.pop(uid_of(deployment), None)
        except ApiError as refused:  # The first refusal is kept: the next differs by the name of the pod alone.
            self._refused.setdefault(uid_of(deployment), refused.message)
        for each in self._old_to_go(deployment, new, old, wanted - unavailable, now_ms):
            self._rules.delete_pod(each)

    def _keep_number(self, deployment: Json, alive: list[Json], wanted: int, now_ms: int) -> None:
        """While it is paused, pods of any template count. Kubernetes makes a missing one of the template it was of."""
        for each in sorted(alive, key=_first_to_go)[: max(0, len(alive) - wanted)]:
            self._rules.delete_pod(each)
        for _ in range(wanted - len(alive)):
            self._create_pod(deployment, self._tag(deployment), now_ms)

    def _old_to_go(  # The two sides of a rollout, and the floor between them.
        self, deployment: Json, new: list[Json], old: list[Json], fewest: int, now_ms: int
    ) -> list[Json]:
        """As Kubernetes does it: what new pods still lack counts against the old ones; the unhealthy go first."""
        new_up = self._available(deployment, new, now_ms)
        old_up = [uid_of(each) for each in self._available(deployment, old, now_ms)]
        limit = len(new) + len(old) - fewest - (len(new) - len(new_up))
        spare = len(new_up) + len(old_up) - fewest
        ill = [each for each in sorted(old, key=_first_to_go) if uid_of(each) not in old_up]
        well = [each for each in sorted(old, key=_first_to_go) if uid_of(each) in old_up]
        return [*ill, *well[: max(0, spare)]][: max(0, limit)]

    def _create_pod(self, deployment: Json, tag: str, now_ms: int) -> None:
        template = clone(deployment["spec"]["template"])
        metadata = template.get("metadata") or {}
        prefix = f"{name_of(deployment)}-{tag}-"
        pod: Json = {
            "metadata": {
                "generateName": prefix,
                "name": prefix + suffix(uid_of(deployment), str(self._store.version)),
                "namespace": namespace_of(deployment),
                "labels": {**(metadata.get("labels") or {}), HASH_LABEL: tag},
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": template["spec"],
        }
        if metadata.get("annotations"):
            pod["metadata"]["annotations"] = metadata["annotations"]
        self._rules.default(kinds.PODS, pod)
        self._rules.quotas.admit(pod)
        self._store.create(kinds.PODS, pod, now_ms)

    def _write_status(self, deployment: Json, now_ms: int, due: Due) -> None:
        wanted = int(deployment["spec"]["replicas"])
        tag = self._tag(deployment)
        pods = [each for each in self._pods(deployment) if not is_terminating(each)]
        updated = [each for each in pods if labels_of(each).get(HASH_LABEL) == tag]
        ready = sum(is_ready(each) for each in pods)
        available = len(self._available(deployment, pods, now_ms))
        for each in pods:
            at_ms = self._available_at_ms(deployment, each)
            due.at(at_ms if at_ms is not None and at_ms > now_ms else None)
        _, unavailable = _margins(deployment, wanted)
        is_late = self._is_late(
            deployment, (len(pods), len(updated), available), now_ms, due, done=available >= wanted == len(updated)
        )

        refused = self._refused.get(uid_of(deployment), "")
        made_of = (len(pods), len(updated), ready, available, is_late, refused)
        if self._written.get(uid_of(deployment)) == (*made_of, deployment["metadata"]["resourceVersion"]):
            return

        def change(fresh: Json) -> None:
            status = fresh["status"] = {
                **fresh.get("status", {}),
                "observedGeneration": fresh["metadata"]["generation"],
            }
            _set_counts(status, len(pods), len(updated), ready, available, max(0, wanted - available))
            enough = available >= wanted - unavailable
            set_condition(
                fresh, "Available", enough, now_ms, reason=f"MinimumReplicas{'A' if enough else 'Una'}vailable"
            )
            reason = _progress(is_late=is_late, is_whole=available >= wanted)
            set_condition(fresh, "Progressing", not is_late, now_ms, reason=reason)
            _set_failure(fresh, refused, now_ms)

        left = self._store.edit(kinds.DEPLOYMENTS, deployment, change)
        self._written[uid_of(deployment)] = (*made_of, left["metadata"]["resourceVersion"])

    def _is_late(self, deployment: Json, counts: tuple[int, ...], now_ms: int, due: Due, *, done: bool) -> bool:
        counts = (*counts, int(deployment["metadata"]["generation"]))
        seen, since_ms = self._progress.get(uid_of(deployment), ((), now_ms))
        if seen != counts:
            since_ms = now_ms
        self._progress[uid_of(deployment)] = (counts, since_ms)
        deadline_ms = since_ms + 1000 * int(deployment["spec"]["progressDeadlineSeconds"])
        if done or is_paused(deployment):
            return False
        if now_ms < deadline_ms:
            due.at(deadline_ms)
            return False
        return True


def _set_counts(status: Json, *counts: int) -> None:
    """None is told of what there is none of."""
    for kind, count in zip(("", "updated", "ready", "available", "unavailable"), counts, strict=True):
        key = f"{kind}Replicas" if kind else "replicas"
        status.pop(key, None)
        if count:
            status[key] = count


def _set_failure(deployment: Json, refused: str, now_ms: int) -> None:
    """The condition that is there only while a pod is refused."""
    if refused:
        set_condition(deployment, "ReplicaFailure", True, now_ms, reason="FailedCreate", message=refused)
    else:
        conditions = deployment["status"]["conditions"]
        deployment["status"]["conditions"] = [each for each in conditions if each["type"] != "ReplicaFailure"]


def _progress(*, is_late: bool, is_whole: bool) -> str:
    if is_late:
        return "ProgressDeadlineExceeded"
    return "NewReplicaSetAvailable" if is_whole else "ReplicaSetUpdated"


def is_paused(deployment: Json) -> bool:
    """Whether nothing of a rollout is to happen now."""
    return bool(deployment["spec"].get("paused"))


def template_hash(deployment: Json) -> str:
    """The `pod-template-hash` of its template: ten characters that Kubernetes would allow in a name."""
    digest = hashlib.sha256(json.dumps(deployment["spec"]["template"], sort_keys=True).encode()).digest()
    return "".join(NAME_ALPHABET[byte % len(NAME_ALPHABET)] for byte in digest[:10])


def _margins(deployment: Json, wanted: int) -> tuple[int, int]:
    rolling = deployment["spec"]["strategy"].get("rollingUpdate") or {}
    surge = _share(rolling.get("maxSurge", 0), wanted, up=True)
    unavailable = _share(rolling.get("maxUnavailable", 0), wanted, up=False)
    return surge, 1 if surge == unavailable == 0 else unavailable


def _share(value: int | str, wanted: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    part = int(value.rstrip("%")) * wanted / 100
    return math.ceil(part) if up else math.floor(part)


def _first_to_go(pod: Json) -> tuple[bool, bool, int, int]:
    cost = int((pod["metadata"].get("annotations") or {}).get(COST, 0))
    return (bool(pod["spec"].get("nodeName")), is_ready(pod), cost, -int(pod["metadata"]["resourceVersion"]))
