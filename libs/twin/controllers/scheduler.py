"""The scheduler: a pod goes to a ready node that has its GPUs free, or says in Kubernetes' words why it can't."""

from __future__ import annotations

from collections import Counter
from typing import Final

from libs.twin import kinds
from libs.twin.events import Recorder
from libs.twin.objects import Json, is_terminating, is_true, labels_of, name_of, set_condition
from libs.twin.pods import GPU, gpus_of, is_over
from libs.twin.store import Store

NO_NODES: Final = "no nodes available to schedule pods"
HARD: Final = frozenset({"NoSchedule", "NoExecute"})


class Scheduler:
    """Binds pods to nodes, first the oldest."""

    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store = store
        self._recorder = recorder

    def step(self, now_ms: int) -> None:
        """Try every pod that has no node."""
        pods = self._store.all(kinds.PODS)
        waiting = [each for each in pods if not each["spec"].get("nodeName") and not is_terminating(each)]
        if not waiting:
            return
        taken: Counter[str] = Counter()
        for each in pods:
            if each["spec"].get("nodeName") and not is_over(each):
                taken[each["spec"]["nodeName"]] += gpus_of(each)
        nodes = self._store.all(kinds.NODES)
        classes = {name_of(each) for each in self._store.all(kinds.RUNTIME_CLASSES)}
        for pod in sorted(waiting, key=lambda each: (each["metadata"]["creationTimestamp"], name_of(each))):
            wanted = pod["spec"].get("runtimeClassName")
            if wanted and wanted not in classes:  # An API server would refuse the pod; its ReplicaSet would say so.
                self._refuse(pod, f'RuntimeClass "{wanted}" not found', now_ms)
            else:
                self._place(pod, nodes, taken, now_ms)

    def _place(self, pod: Json, nodes: list[Json], taken: Counter[str], now_ms: int) -> None:
        refusals: Counter[str] = Counter()
        fitting: list[Json] = []
        for node in nodes:
            why = _refusal(pod, node, taken[name_of(node)])
            if why:
                refusals[why] += 1
            else:
                fitting.append(node)
        if not fitting:
            self._refuse(pod, _explain(len(nodes), refusals), now_ms)
            return
        best = min(
            fitting, key=lambda node: (-_preference(pod, node), _free(node, taken[name_of(node)]), name_of(node))
        )
        taken[name_of(best)] += gpus_of(pod)

        def bind(fresh: Json) -> None:
            fresh["spec"]["nodeName"] = name_of(best)
            set_condition(fresh, "PodScheduled", True, now_ms)

        bound = self._store.edit(kinds.PODS, pod, bind)
        where = f"Successfully assigned {pod['metadata']['namespace']}/{name_of(pod)} to {name_of(best)}"
        self._recorder.record(kinds.PODS, bound, "Scheduled", where, now_ms)

    def _refuse(self, pod: Json, message: str, now_ms: int) -> None:
        def change(fresh: Json) -> None:
            set_condition(fresh, "PodScheduled", False, now_ms, reason="Unschedulable", message=message)

        before = pod["metadata"]["resourceVersion"]
        after = self._store.edit(kinds.PODS, pod, change)
        if after["metadata"]["resourceVersion"] != before:
            self._recorder.record(kinds.PODS, after, "FailedScheduling", message, now_ms, warning=True)


def _free(node: Json, taken: int) -> int:
    return int(node["status"]["allocatable"].get(GPU, 0)) - taken


def _refusal(pod: Json, node: Json, taken: int) -> str:
    spec = pod["spec"]
    if node["spec"].get("unschedulable"):
        return "node(s) were unschedulable"
    for taint in node["spec"].get("taints") or ():
        if taint["effect"] in HARD and not any(_tolerates(each, taint) for each in spec.get("tolerations") or ()):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    if not is_true(node, "Ready"):
        return "node(s) had untolerated taint {node.kubernetes.io/not-ready: }"
    wanted = spec.get("nodeSelector") or {}
    if any(labels_of(node).get(key) != value for key, value in wanted.items()):
        return "node(s) didn't match Pod's node affinity/selector"
    if gpus_of(pod) > _free(node, taken):
        return f"Insufficient {GPU}"
    return ""


def _preference(pod: Json, node: Json) -> int:
    """How much the pod would like that node: by labels that it has at all, as our pods ask."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    terms = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    have = labels_of(node)
    return sum(
        int(each["weight"])
        for each in terms
        if all(want["operator"] == "Exists" and want["key"] in have for want in each["preference"]["matchExpressions"])
    )


def _tolerates(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") not in {None, "", taint["effect"]}:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in {None, "", taint["key"]}
    return bool(toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""))


def _explain(nodes: int, refusals: Counter[str]) -> str:
    if not nodes:
        return NO_NODES
    reasons = ", ".join(f"{count} {why}" for why, count in sorted(refusals.items()))
    if any(why.startswith("Insufficient") for why in refusals):
        detail = f"{nodes} No preemption victims found for incoming pod."
    else:
        detail = f"{nodes} Preemption is not helpful for scheduling."
    return f"0/{nodes} nodes are available: {reasons}. preemption: 0/{nodes} nodes are available: {detail}"
