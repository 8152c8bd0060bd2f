"""Claims, events and observations for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from libs.common.decision import Decision, Give, Take
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    EndpointRequested,
    EndpointSpec,
    Placement,
    Scaling,
)
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.events.runtime import ReplicasChanged, RuntimeRemoved
from libs.common.events.scale import ScaleDecided, ScaleInputs
from libs.common.ids import EndpointId, EventId, ProjectId, TenantId
from libs.common.reconciler import Delayed
from libs.common.runner import Woke
from services.capacity_manager.core.decide import Rules, decider
from services.capacity_manager.core.observed import (
    ClusterSeen,
    GpuNode,
    MachineSeen,
    NodeSeen,
    NodeTypeSeen,
    Observed,
    ProjectSeen,
)
from services.capacity_manager.core.question import question_of
from services.capacity_manager.core.state import Claim

NOW: Final = 1_800_000_000_000
ENDPOINT: Final = EndpointId("ep-abc")
TENANT: Final = TenantId("acme")
PROJECT: Final = ProjectId("prod")
NODE_TYPE: Final = "metal3.gpu-h100"
PLACEMENT: Final = Placement(
    tenancy="private_nodes",
    node_type=NODE_TYPE,
    gpus_per_node=8,
    gpus_per_replica=8,
    cluster_template="inference-h100@1.0.0",
    runtime_template="vllm@1",
    model_digest="sha256:0",
    model_size_bytes=1,
    price_class="h100",
)
RULES: Final = Rules(gpus_per_tenant_max=64, confirm_gone_ms=30_000, quota_retry_ms=5_000)
READY_PROJECT: Final = ProjectSeen(is_ours=True, is_as_wanted=True)
ROOMY: Final = NodeTypeSeen(is_known=True, free=100)


def a_spec(*, fewest: int = 1, most: int = 8) -> EndpointSpec:
    return EndpointSpec(
        model="millrace/ngram-1", tier="h100-dedicated", region="eu-1", scaling=Scaling(min=fewest, max=most)
    )


def requested(*, fewest: int = 1, most: int = 8, tenant: str = TENANT) -> EndpointRequested:
    return EndpointRequested(
        tenant_id=tenant, project_id=PROJECT, name="chat", spec=a_spec(fewest=fewest, most=most), placement=PLACEMENT
    )


def deletion(tenant: str = TENANT) -> EndpointDeletionRequested:
    return EndpointDeletionRequested(tenant_id=tenant, project_id=PROJECT, drain_deadline_ms=0)


def failure() -> EndpointFailed:
    return EndpointFailed(tenant_id=TENANT, project_id=PROJECT, reason="Deadline", message="too late")


def pause(deadline_ms: int = 0) -> EndpointPauseRequested:
    return EndpointPauseRequested(tenant_id=TENANT, project_id=PROJECT, drain_deadline_ms=deadline_ms)


def scaled(replicas: int) -> ScaleDecided:
    inputs = ScaleInputs(
        current=1, min=1, max=8, target_concurrency=8, concurrency_milli=0, window_ms=1, samples=1
    )  # fmt: skip
    return ScaleDecided(replicas=replicas, reason="load", inputs=inputs)


def runs(replicas: int) -> ReplicasChanged:
    return ReplicasChanged(desired=replicas, ready=replicas, replicas=())


def an_envelope(data: Event, *, generation: int = 1, sequence: int = 1, subject: str = ENDPOINT) -> Envelope:
    name = f"{data.kind}|{generation}|{sequence}|{subject}"
    return Envelope(EventId(name), data, subject=subject, time_ms=NOW, generation=generation, sequence=sequence)


REMOVED: Final = RuntimeRemoved()


@dataclass
class Bench:
    """One claim, stepped by hand: what was told, what the counter holds, when it wants to be woken."""

    rules: Rules = RULES
    now_ms: int = NOW
    claim: Claim = field(default_factory=lambda: Claim(ENDPOINT))
    told: list[Event] = field(default_factory=list)
    wake_at_ms: int | None = None
    gpus: int = 0
    last_seen: Observed = field(init=False)

    def hear(self, data: Event, *, generation: int = 1, sequence: int = 1) -> Decision[Claim]:
        return self.take(an_envelope(data, generation=generation, sequence=sequence))

    def see(
        self,
        *,
        project: ProjectSeen | None = READY_PROJECT,
        cluster: ClusterSeen | None = None,
        nodes: Sequence[NodeSeen] = (),
        node_type: NodeTypeSeen | None = ROOMY,
        gpu_nodes: tuple[GpuNode, ...] | None = None,
        machines: tuple[MachineSeen, ...] | None = None,
    ) -> Decision[Claim]:
        self.last_seen = Observed(
            question=question_of(self.claim),
            project=project,
            cluster=cluster,
            nodes=tuple(nodes),
            node_type=node_type,
            gpu_nodes=gpu_nodes,
            machines=machines,
        )
        return self.take(an_envelope(self.last_seen))

    def wake(self) -> None:
        """Let the clock reach the wake-up that was asked for."""
        assert self.wake_at_ms is not None, "nothing is to be woken"
        self.now_ms = max(self.now_ms, self.wake_at_ms)
        self.take(an_envelope(Woke(due_ms=self.wake_at_ms)))

    def trouble(self, code: str) -> None:
        self.take(an_envelope(Delayed(code=code, message="as it is")))

    def take(self, envelope: Envelope) -> Decision[Claim]:
        decision = decider(self.rules)(self.claim, envelope, self.now_ms)
        if not self._fits(decision):
            assert decision.otherwise is not None
            decision = decision.otherwise
            assert self._fits(decision)
        for change in decision.counters:
            self.gpus += change.amount if isinstance(change, Take) else -change.amount
            assert self.gpus >= 0
        self.claim, self.wake_at_ms = decision.state, decision.wake_at_ms
        self.told += decision.events
        return decision

    def kinds(self) -> list[str]:
        return [each.kind for each in self.told]

    def of(self, kind: type[Event]) -> list[Event]:
        return [each for each in self.told if isinstance(each, kind)]

    def _fits(self, decision: Decision[Claim]) -> bool:
        return all(isinstance(each, Give) or self.gpus + each.amount <= each.limit for each in decision.counters)


def a_cluster(
    quantity: int = 1,
    *,
    phase: str = "Ready",
    deleting: bool = False,
    ours: bool = True,
    refusal: str = "",
    generation: int = 1,
) -> ClusterSeen:
    return ClusterSeen(
        is_ours=ours,
        uid="uid-1",
        generation=generation,
        is_deleting=deleting,
        phase=phase,
        message="",
        quantity=quantity,
        refusal=refusal,
    )


def a_node(name: str, *, joined: bool = True, joined_at_ms: int | None = None, phase: str = "Available") -> NodeSeen:
    return NodeSeen(
        name=name, phase=phase, message="", is_scheduled=True, is_joined=joined, joined_at_ms=joined_at_ms
    )  # fmt: skip


def a_machine(name: str, *, ready: bool = True, since_ms: int | None = None, cordoned: bool = False) -> MachineSeen:
    return MachineSeen(
        name=name, claim=name, uid=f"uid-{name}", is_ready=ready, since_ms=since_ms, is_cordoned=cordoned
    )  # fmt: skip


def held(bench: Bench, *, fewest: int = 1) -> Bench:
    """The bench with a claim that has everything it wants."""
    bench.hear(requested(fewest=fewest))
    bench.see()
    nodes = [a_node(f"n{each}") for each in range(fewest)]
    bench.see(cluster=a_cluster(fewest), nodes=nodes)
    gpus = tuple(GpuNode(name=node.name, gpus=8) for node in nodes)
    bench.see(cluster=a_cluster(fewest), nodes=nodes, gpu_nodes=gpus)
    return bench
