"""A twin with a tenant cluster, and a deployer on it that can die at any moment and start again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from libs.common.clock import ManualClock
from libs.common.events.envelope import Envelope
from libs.common.ids import EndpointId
from libs.common.service import Service
from libs.common.store.memory import MemoryStore
from libs.common.store.port import Attention
from libs.common.units import MINUTE_MS
from libs.twin.fake_engines import FakeEngines
from libs.twin.inprocess import WorldRest
from libs.twin.options import DEFAULT_KEY, TwinOptions
from libs.twin.world import World
from services.runtime_deployer.core.lifecycle import Stage, attention_of
from services.runtime_deployer.core.templates import Template
from services.runtime_deployer.core.weights import Weights
from services.runtime_deployer.service import build
from services.runtime_deployer.shell.caches import CacheWorld
from services.runtime_deployer.shell.connections import Connections
from services.runtime_deployer.shell.kubernetes import KubernetesClusters
from services.runtime_deployer.shell.ports import Ports
from tests.integration.one_runtime import OneRuntime
from tests.unit.runtime_deployer.a_runtime import ENDPOINT, PROJECT, TEMPLATES

STEP_MS = 1_000  # A few rounds in each of the shortest times that the twin takes for anything.
STEPS = ("runtime.image_pulled", "runtime.model_downloaded", "runtime.model_loaded", "runtime.cache_warmed")
MANAGEMENT = "/kubernetes/management/apis/management.loft.sh/v1"
INSTANCES = f"{MANAGEMENT}/namespaces/p-{PROJECT}/virtualclusterinstances"
TENANT = f"/kubernetes/project/{PROJECT}/virtualcluster/{ENDPOINT}"
INFERENCE = f"{TENANT}/api/v1/namespaces/inference"
DEPLOYMENT = f"{TENANT}/apis/apps/v1/namespaces/inference/deployments/{ENDPOINT}"


class Crash(BaseException):
    """The process dies here; nothing may catch it."""


@dataclass(slots=True)
class CrashAt:
    """Dies at the n-th moment that it is told of: before or after a write to the cluster, or to the store."""

    place: int
    count: int = 0

    def before(self, method: str, path: str) -> None:
        self.pass_by()

    def after(self, method: str, path: str, status: int) -> None:
        self.pass_by()

    def pass_by(self, _moment: str = "") -> None:
        self.count += 1
        if self.count == self.place:
            raise Crash


@dataclass(slots=True)
class Bench(OneRuntime):
    """A twin with one tenant cluster that has its GPUs, and a deployer that can be killed and started again."""

    crash: CrashAt = field(default_factory=lambda: CrashAt(0))
    options: TwinOptions = field(default_factory=TwinOptions)
    clock: ManualClock = field(default_factory=ManualClock)
    engines: FakeEngines = field(default_factory=FakeEngines)
    world: World = field(init=False)
    store: MemoryStore = field(init=False)
    service: Service = field(init=False)
    told: list[Envelope] = field(default_factory=list)
    endpoint: EndpointId = ENDPOINT
    crashes: int = 0
    step_ms: int = STEP_MS
    templates: Mapping[str, Template] = field(default_factory=lambda: TEMPLATES)
    weights: Mapping[str, Weights] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world = World(self.clock, self.options, self.engines)
        self.store = MemoryStore(on_commit=lambda moment: self.crash.pass_by(moment))
        self._make_cluster()
        self.start()

    def start(self) -> None:
        """Start a deployer on the same store; whatever the last one held in memory is gone."""
        connections = Connections(
            "https://twin", lambda: DEFAULT_KEY, rest=lambda _configuration: WorldRest(self.world, self.crash)
        )
        self.service = build(
            Ports(
                self.store,
                self.clock,
                KubernetesClusters(connections),
                CacheWorld(connections),
                self.templates,
                self.weights,
            )
        )

    def ask(self, method: str, path: str, body: object = None, **query: str) -> Any:
        """Ask the twin as an operator would."""
        headers = {"authorization": f"Bearer {DEFAULT_KEY}", "content-type": query.pop("content", "application/json")}
        answer = self.world.request(method, path, query, headers, json.dumps(body).encode() if body else b"")
        return {"code": answer.status, **json.loads(answer.body or b"{}")}

    def hear(self, *envelopes: Envelope) -> None:
        """Deliver events, again if the process dies on them, as the bus does."""
        for envelope in envelopes:
            self._survive(partial(self._handle, envelope))

    def step(self) -> None:
        """One round of the deployer, and a moment of the world."""
        self._survive(self.service.tick)
        self._survive(self.service.reconcile)
        self._survive(self._relay)
        self.clock.advance(self.step_ms)

    def until(self, done: Callable[[], bool], *, within_ms: int = 20 * MINUTE_MS) -> None:
        """Go on until something holds."""
        deadline_ms = self.clock.now_ms() + within_ms
        while not done():
            assert self.clock.now_ms() < deadline_ms, f"still {self.stage}; told {self.kinds}; {self.runtime.delay}"
            self.step()
        self._survive(self._relay)

    def until_stage(self, stage: Stage) -> None:
        """Go on until the runtime stands there."""
        self.until(lambda: self.stage is stage)

    @property
    def pods(self) -> list[Any]:
        items: list[Any] = self.ask("GET", f"{INFERENCE}/pods")["items"]
        return items

    @property
    def replicas(self) -> int:
        return len(self.runtime.replicas_told.replicas)

    @property
    def is_at_rest(self) -> bool:
        """Whether only now and then a look is due."""
        return attention_of(self.runtime) is Attention.WATCH

    def objects(self) -> set[str]:
        """Everything in the tenant cluster's namespace that carries our label, as `<plural>/<name>`."""
        paths = ("api/v1", "apis/apps/v1", "apis/policy/v1", "apis/networking.k8s.io/v1")
        plurals = (
            ("pods", "services", "serviceaccounts"),
            ("deployments", "replicasets"),
            ("poddisruptionbudgets",),
            ("networkpolicies",),
        )
        return {
            f"{plural}/{each['metadata']['name']}"
            for path, group in zip(paths, plurals, strict=True)
            for plural in group
            for each in self.ask(
                "GET",
                f"{TENANT}/{path}/namespaces/inference/{plural}",
                labelSelector=f"millrace.dev/endpoint={ENDPOINT}",
            )["items"]
        }

    def _relay(self) -> int:
        return self.service.relay(self._publish).run()

    def _handle(self, envelope: Envelope) -> None:
        self.service.handle(envelope)

    def _survive(self, work: Callable[[], object]) -> None:
        while True:
            try:
                work()
                return
            except Crash:
                self.crashes += 1
                self.start()

    def _make_cluster(self) -> None:
        for path, body in tenant_cluster():
            made = self.ask("POST", path, body)
            assert made["code"] == 201, made
            self.clock.advance(15 * MINUTE_MS)
        (node,) = self.ask("GET", f"{TENANT}/api/v1/nodes")["items"]
        assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"


def tenant_cluster() -> tuple[tuple[str, dict[str, Any]], ...]:
    """What to create, and where, for a tenant cluster with one node of eight GPUs."""
    project = {"metadata": {"name": PROJECT}, "spec": {"displayName": PROJECT}}
    spec = {
        "templateRef": {"name": "inference-h100", "version": "1.0.0"},
        "parameters": "nodeQuantity: 1\n",
        "clusterRef": {"cluster": "loft-cluster"},
    }
    instance = {"metadata": {"name": ENDPOINT, "namespace": f"p-{PROJECT}"}, "spec": spec}
    api = {"apiVersion": "management.loft.sh/v1"}
    return (
        (f"{MANAGEMENT}/projects", {**api, "kind": "Project", **project}),
        (INSTANCES, {**api, "kind": "VirtualClusterInstance", **instance}),
    )
