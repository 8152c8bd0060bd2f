"""One tenant cluster: an API server, its controllers, and the nodes that joined it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from libs.twin import kinds
from libs.twin.cluster_rules import ClusterRules
from libs.twin.controllers.deployments import DeploymentController
from libs.twin.controllers.due import Due
from libs.twin.controllers.garbage import GarbageCollector
from libs.twin.controllers.kubelet import Kubelet
from libs.twin.controllers.namespaces import NamespaceController
from libs.twin.controllers.scheduler import Scheduler
from libs.twin.engines_port import Engines
from libs.twin.events import Recorder
from libs.twin.objects import Json, labels_of, name_of, namespace_of
from libs.twin.options import Faults, TwinOptions
from libs.twin.pods import is_ready
from libs.twin.rest import Rest
from libs.twin.selectors import selector_matches
from libs.twin.store import Store

ROUNDS_MAX = 1_000  # Of all controllers at one time; more means that two of them undo one another.
SYSTEM_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


class Cluster:
    """A tenant cluster that its owner reaches through the Platform's proxy."""

    def __init__(  # What a cluster stands on.
        self,
        name: str,
        options: TwinOptions,
        faults: Callable[[], Faults],
        engines: Engines,
        now_ms: Callable[[], int],
        address_of: Callable[[str, int], str],
    ) -> None:
        self.name = name
        self._now_ms = now_ms
        self.store = Store(f"{options.seed}/{name}", history_max=options.history_max)
        self.rules = ClusterRules(self.store, now_ms)
        self.rest = Rest(self.store, kinds.CLUSTER_KINDS, self.rules, now_ms)
        self.kubelet = Kubelet(name, self.store, engines, options, faults, address_of)
        self._namespaces = NamespaceController(self.store, self.rules, options)
        self._garbage = GarbageCollector(self.store, self.rules)
        self._deployments = DeploymentController(self.store, self.rules, options)
        self._scheduler = Scheduler(self.store, Recorder(self.store, "default-scheduler"))
        self._rest_version = 0
        self._due_ms: int | None = None
        for each in SYSTEM_NAMESPACES:
            namespace: Json = {"metadata": {"name": each}}
            self.rules.default(kinds.NAMESPACES, namespace)
            self.store.create(kinds.NAMESPACES, namespace, now_ms())

    def log(self, namespace: str, name: str, container: str, lines: str) -> str:
        """What a container of a pod wrote. Raises ApiError if there is no such pod."""
        pod = self.store.get(kinds.PODS, namespace, name)
        return self.kubelet.log_of(pod, container, lines, self._now_ms())

    def step(self, now_ms: int) -> int | None:
        """Run the controllers until none has anything to do; gives the time of their next work."""
        at_rest = self.store.version == self._rest_version
        if at_rest and (self._due_ms is None or now_ms < self._due_ms):
            return self._due_ms
        for _ in range(ROUNDS_MAX):
            before, due = self.store.version, Due()
            self._namespaces.step(now_ms, due)
            self._garbage.step()
            self.rules.quotas.step()
            self._deployments.step(now_ms, due)
            self._scheduler.step(now_ms)
            self.kubelet.step(now_ms, due)
            if self.store.version == before:
                self._rest_version, self._due_ms = before, due.at_ms
                return due.at_ms
        raise AssertionError(f"the controllers of {self.name} never come to rest")

    def make(self, things: Iterable[Json]) -> None:
        """Create objects that the cluster's template brings; of kinds that are not served here, there are none."""
        served = {(each.api_version, each.kind): each for each in kinds.CLUSTER_KINDS}
        for thing in things:
            kind = served.get((thing["apiVersion"], thing["kind"]))
            if kind is not None:
                self.rules.default(kind, thing)
                self.store.create(kind, thing, self._now_ms())

    def poke(self) -> None:
        """Something outside the store changed: look at everything in the next step."""
        self._rest_version = 0

    def pods_on(self, node: str) -> list[Json]:
        """The pods bound to a node."""
        return [each for each in self.store.all(kinds.PODS) if each["spec"].get("nodeName") == node]

    def cordon(self, node: Json) -> None:
        """Let no new pod come to the node."""
        taint = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}

        def change(fresh: Json) -> None:
            if not fresh["spec"].get("unschedulable"):
                fresh["spec"]["unschedulable"] = True
                fresh["spec"]["taints"] = [*(fresh["spec"].get("taints") or ()), taint]

        self.store.edit(kinds.NODES, node, change)

    def may_evict(self, pod: Json) -> bool:
        """Whether every disruption budget over the pod leaves room for one less."""
        peers = self.store.all(kinds.PODS, namespace_of(pod))
        for budget in self.store.all(kinds.BUDGETS, namespace_of(pod)):
            selector = budget["spec"].get("selector") or {}
            if not selector_matches(selector, labels_of(pod)):
                continue
            chosen = [each for each in peers if selector_matches(selector, labels_of(each))]
            healthy = sum(is_ready(each) for each in chosen)
            if is_ready(pod) and healthy - 1 < _fewest_healthy(budget["spec"], len(chosen)):
                return False
        return True

    def remove_node(self, node: Json) -> None:
        """The machine is gone, and with it, at once, whatever still ran there."""
        for each in self.pods_on(name_of(node)):
            self.store.remove(kinds.PODS, each)
        self.store.remove(kinds.NODES, node)
        self.kubelet.fetches.forget_node(node)


def _fewest_healthy(spec: Json, count: int) -> int:
    for key in ("minAvailable", "maxUnavailable"):
        value = spec.get(key)
        if value is None:
            continue
        number = value if isinstance(value, int) else math.ceil(int(value.rstrip("%")) * count / 100)
        return number if key == "minAvailable" else count - number
    return 0
