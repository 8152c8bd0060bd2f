"""The runtime-deployer on a real Kubernetes: its reconciler, its adapter and its rules; the clock alone is ours."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Final

from libs.common.clock import ManualClock
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.ids import EndpointId
from libs.common.service import Service
from libs.common.store.memory import MemoryStore
from services.runtime_deployer.core.lifecycle import Stage
from services.runtime_deployer.core.manifests import ENDPOINT, NAMESPACE
from services.runtime_deployer.core.state import Cluster
from services.runtime_deployer.core.templates import Template
from services.runtime_deployer.service import build
from services.runtime_deployer.shell.caches import CacheWorld
from services.runtime_deployer.shell.connections import JSON, Connections, Reply
from services.runtime_deployer.shell.kubernetes import KubernetesClusters
from services.runtime_deployer.shell.ports import Ports
from tests.integration.kube.running import Kube
from tests.integration.one_runtime import OneRuntime
from tests.unit.runtime_deployer.a_runtime import TEMPLATES

STEP_MS: Final = 500
STEP_S: Final = 0.1
WAIT_S: Final = 120.0  # Two cores that others use as well.
REQUEST_S: Final = 30.0
ANY: Final = Cluster("any", "any")  # A kubeconfig names one cluster, whatever a placement says.
RECORDS: Final = frozenset(
    {"events"}
)  # What is told of an object, by the API server's own clock, is none of its parts.

_numbers = count(1)


@dataclass(slots=True)
class Deployer(OneRuntime):
    """One endpoint's life on a real cluster."""

    kube: Kube
    templates: dict[str, Template] = field(default_factory=lambda: dict(TEMPLATES))
    clock: ManualClock = field(default_factory=ManualClock)
    store: MemoryStore = field(default_factory=MemoryStore)
    told: list[Envelope] = field(default_factory=list)
    endpoint: EndpointId = field(default_factory=lambda: EndpointId(f"ep-kube{next(_numbers):06d}"))
    connections: Connections = field(init=False)
    service: Service = field(init=False)

    def __post_init__(self) -> None:
        self.connections = Connections("", lambda: "", kubeconfig=self.kube.kubeconfig)
        self.start()

    def start(self) -> None:
        """Start a deployer on the same store; whatever the last one held in memory is gone."""
        self.service = build(
            Ports(
                self.store,
                self.clock,
                KubernetesClusters(self.connections),
                CacheWorld(self.connections),
                self.templates,
            )
        )

    def hear(self, *envelopes: Envelope) -> None:
        """Deliver events of this endpoint."""
        for each in envelopes:
            self.service.handle(replace(each, subject=self.endpoint))

    def step(self) -> None:
        """One round of the deployer, and a moment of the world."""
        self.service.tick()
        self.service.reconcile()
        self.service.relay(self._publish).run()
        self.clock.advance(STEP_MS)
        time.sleep(STEP_S)

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Go on until something holds."""
        deadline_s = time.monotonic() + WAIT_S
        while not done():
            assert time.monotonic() < deadline_s, f"not {what}: {self.stage}, told {self.kinds}; {self.runtime.delay}"
            self.step()

    def until_stage(self, stage: Stage) -> None:
        """Go on until the runtime stands there, and the others have heard."""
        self.until(lambda: self.stage is stage, stage)
        self.step()

    def last(self, kind: type[Event]) -> Any:
        """The last event of a kind that was told."""
        return next(each.data for each in reversed(self.told) if type(each.data) is kind)

    def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, content: str = JSON, **query: str
    ) -> Reply:
        """Ask the cluster as an operator would."""
        return self.connections.ask(
            ANY, method, path, query=query, body=body, content_type=content, timeout_s=REQUEST_S
        )

    def objects(self) -> dict[str, dict[str, Any]]:
        """Every object of any kind in the namespace that carries the endpoint's label, as `<plural>/<name>`."""
        found: dict[str, dict[str, Any]] = {}
        for path, plural in self._listable():
            listed = self.ask(
                "GET", f"{path}/namespaces/{NAMESPACE}/{plural}", labelSelector=f"{ENDPOINT}={self.endpoint}"
            )
            for each in listed.body.get("items") or ():
                found[f"{plural}/{each['metadata']['name']}"] = each
        return found

    def _listable(self) -> list[tuple[str, str]]:
        groups = self.ask("GET", "/apis").body["groups"]
        paths = ["/api/v1", *(f"/apis/{each['preferredVersion']['groupVersion']}" for each in groups)]
        return [
            (path, each["name"])
            for path in paths
            for each in self.ask("GET", path).body["resources"]
            if each["namespaced"] and "list" in each["verbs"] and each["name"] not in RECORDS
        ]
