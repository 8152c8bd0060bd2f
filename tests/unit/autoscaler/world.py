"""Autoscaler on a store in memory and a clock by hand, and the events that it hears."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from libs.common.clock import ManualClock
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    EndpointRequested,
    EndpointSpec,
    EndpointStageChanged,
    Placement,
    Scaling,
    Stage,
)
from libs.common.events.envelope import Envelope, from_wire
from libs.common.events.event import Event
from libs.common.events.route import EndpointLoad, TrafficObserved
from libs.common.events.runtime import ReplicasChanged
from libs.common.events.scale import ScaleDecided
from libs.common.ids import event_id
from libs.common.service import Service
from libs.common.store.memory import MemoryStore
from libs.common.units import SECOND_MS
from services.autoscaler.core.policy import Policy
from services.autoscaler.core.state import Scaler
from services.autoscaler.service import build
from services.autoscaler.shell.ports import Ports

T0: Final = 1_800_000_000_000
ENDPOINT: Final = "ep-one"
REPORT_S: Final = 5


class World:
    """Autoscaler as its neighbours see it. Replicas follow each decision after `cold_start_s`."""

    def __init__(self, scaling: Scaling | None = None, *, live: bool = True, cold_start_s: int = 0) -> None:
        self.clock = ManualClock(T0)
        self.moment: Callable[[str], None] = lambda _moment: None
        self.store = MemoryStore(on_commit=lambda moment: self.moment(moment))
        self.service: Service = self.start()
        self.cold_start_s = cold_start_s
        self._sequence = 0
        self._due: list[tuple[int, int]] = []
        self._followed = 0
        self.scaling = scaling or Scaling(min=1, max=8, target_concurrency=8)
        if live:
            self.hear(requested(self.scaling), staged(Stage.READY, sequence=1), self.replicas(self.scaling.min))

    def start(self) -> Service:
        """A fresh process over what is stored."""
        self.service = build(Ports(self.store, self.clock, Policy()))
        return self.service

    def hear(self, *envelopes: Envelope) -> None:
        """Deliver events."""
        for each in envelopes:
            self.service.handle(each)

    def replicas(self, ready: int) -> Envelope:
        """The deployer says how many replicas are ready."""
        self._sequence += 1
        data = ReplicasChanged(desired=ready, ready=ready, replicas=())
        return envelope(data, sequence=self._sequence, at_ms=self.clock.now_ms())

    def report(self, concurrency: int | Mapping[str, int], *, instance: str = "r1", peak: int | None = None) -> None:
        """A router's report on the last five seconds, in thousandths of requests in flight."""
        loads = {ENDPOINT: concurrency} if isinstance(concurrency, int) else concurrency
        self.hear(traffic(loads, to_ms=self.clock.now_ms(), instance=instance, peak=peak))

    def pass_time(self, seconds: int, *, milli: int | None = None, instances: tuple[str, ...] = ("r1",)) -> None:
        """Let time pass; with ``milli``, routers share that much concurrency and report every five seconds."""
        for second in range(1, seconds + 1):
            self.clock.advance(SECOND_MS)
            if milli is not None and second % REPORT_S == 0:
                for instance in instances:
                    self.report(milli // len(instances), instance=instance)
            self.service.tick()
            self._follow()

    def _follow(self) -> None:
        decided = self.decided()
        for each in decided[self._followed :]:
            self._due.append((self.clock.now_ms() + self.cold_start_s * SECOND_MS, each.replicas))
        self._followed = len(decided)
        for due_ms, ready in list(self._due):
            if due_ms <= self.clock.now_ms():
                self._due.remove((due_ms, ready))
                self.hear(self.replicas(ready))

    def decided(self) -> list[ScaleDecided]:
        """Everything decided, in order."""
        told = [from_wire(each.headers, each.body).data for each in self.store.outbox.values()]
        return [each for each in told if isinstance(each, ScaleDecided)]

    def numbers(self) -> list[int]:
        """The replicas decided, in order."""
        return [each.replicas for each in self.decided()]

    def scaler(self, endpoint: str = ENDPOINT) -> Scaler:
        """What is remembered."""
        found = self.service.runners[0].state(endpoint)
        assert isinstance(found, Scaler)
        return found


def envelope(
    data: Event, *, subject: str = ENDPOINT, sequence: int = 1, at_ms: int = T0, generation: int = 1
) -> Envelope:
    """An event as its owner told it."""
    cause = f"{subject}|{sequence}|{at_ms}|{generation}|{data.model_dump_json()}"
    return Envelope(event_id(cause, data.kind, 0), data, subject, at_ms, generation=generation, sequence=sequence)


def requested(
    scaling: Scaling, *, sequence: int = 1, endpoint: str = ENDPOINT, generation: int = 1, at_ms: int = T0
) -> Envelope:
    """An endpoint was asked for, or its limits changed."""
    placement = Placement(
        tenancy="tenant_cluster",
        node_type="metal3.gpu-h100",
        gpus_per_node=8,
        gpus_per_replica=4,
        cluster_template="inference-h100@1.0.0",
        runtime_template="vllm@1",
        model_digest="sha256:0",
        model_size_bytes=1,
        price_class="h100",
    )
    spec = EndpointSpec(model="millrace/ngram-1", tier="h100-dedicated", region="eu-1", scaling=scaling)
    data = EndpointRequested(tenant_id="acme", project_id="main", name="chat", spec=spec, placement=placement)
    return envelope(data, sequence=sequence, subject=endpoint, generation=generation, at_ms=at_ms)


def staged(stage: Stage, *, sequence: int, generation: int = 1) -> Envelope:
    """The endpoint's stage changed."""
    data = EndpointStageChanged(
        tenant_id="acme", project_id="main", name="chat", stage=stage, previous=Stage.REQUESTED, since_ms=T0
    )
    return envelope(data, sequence=sequence, generation=generation)


def paused(*, sequence: int, generation: int) -> Envelope:
    """The tenant wants the endpoint kept, but not running."""
    data = EndpointPauseRequested(tenant_id="acme", project_id="main", drain_deadline_ms=0)
    return envelope(data, sequence=sequence, generation=generation)


def failed(*, sequence: int, generation: int) -> Envelope:
    """The endpoint can't become ready."""
    data = EndpointFailed(tenant_id="acme", project_id="main", reason="Deadline", message="too late")
    return envelope(data, sequence=sequence, generation=generation)


def deleted() -> Envelope:
    """The tenant wants the endpoint gone."""
    return envelope(EndpointDeletionRequested(tenant_id="acme", project_id="main", drain_deadline_ms=0), sequence=9)


def traffic(
    loads: Mapping[str, int], *, to_ms: int, instance: str = "r1", from_ms: int | None = None, peak: int | None = None
) -> Envelope:
    """A router's report, in thousandths of requests in flight."""
    endpoints = tuple(
        EndpointLoad(
            endpoint_id=endpoint,
            requests=milli // 1000,
            concurrency_max=-(-milli // 1000) if peak is None else peak,
            concurrency_avg_milli=milli,
        )
        for endpoint, milli in sorted(loads.items())
    )
    begin_ms = to_ms - REPORT_S * SECOND_MS if from_ms is None else from_ms
    data = TrafficObserved(instance=instance, from_ms=begin_ms, to_ms=to_ms, endpoints=endpoints)
    return envelope(data, subject=instance, at_ms=to_ms)
