"""What customers want of their endpoints, drawn from a seed, and the other services' part of it, played straight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

from libs.common.events.capacity import CapacityReleased, GpuReady
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointPauseRequested,
    EndpointRequested,
    EndpointSpec,
    EndpointStageChanged,
    Placement,
    Scaling,
    Stage,
)
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.events.runtime import ReplicasChanged, RuntimeRemoved
from libs.common.events.scale import ScaleDecided, ScaleInputs
from libs.common.ids import EventId
from libs.common.units import SECOND_MS

TENANTS: Final = 12
BIRTH_EVERY_MS: Final = 1_500  # So many at once that types and quotas run out now and then.
REPLICAS_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Tier:
    """What is sold: where its nodes are, which they are, and how many GPUs of them a replica takes."""

    name: str
    node_type: str
    gpus_per_node: int
    template: str
    tenancy: str = "private_nodes"
    gpus_per_replica: int = 0

    @property
    def gpus_each(self) -> int:
        """GPUs of a replica; all of a node's unless it says so."""
        return self.gpus_per_replica or self.gpus_per_node

    @property
    def is_shared(self) -> bool:
        """Whether endpoints share its clusters."""
        return self.tenancy != "private_nodes"


H100: Final = Tier("h100-dedicated", "metal3.gpu-h100", 8, "inference-h100@1.0.0")
L40S: Final = Tier("l40s-dedicated", "terraform.gpu-l40s", 1, "inference-l40s@1.0.0")
OF_TENANT: Final = Tier("l40s-tenant", "terraform.gpu-l40s", 1, "inference-l40s@1.0.0", "tenant_cluster")
OF_ALL: Final = Tier("h100-shared", "metal3.gpu-h100", 8, "inference-h100@1.0.0", "shared_pool", 4)
SANDBOXED: Final = Tier("l40s-sandboxed", "terraform.gpu-l40s", 1, "inference-l40s@1.0.0", "vnode")
TIERS: Final = (H100, L40S, H100, L40S, OF_TENANT, OF_ALL, SANDBOXED)  # Two that are private for each that is shared.


@dataclass(frozen=True, slots=True)
class Act:
    """Something that somebody does at a time."""

    at_ms: int
    what: str
    replicas: int = 0


@dataclass
class Life:
    """One endpoint: its acts to come, and what is true of it, which nobody but the test knows."""

    id: str
    tenant_id: str
    project_id: str
    tier: Tier
    acts: list[Act]
    wanted: int = 0
    running: int = 0
    generation: int = 0
    sequence: int = 0
    stage: Stage = Stage.REQUESTED
    heard: list[Envelope] = field(default_factory=list)
    is_ended: bool = False
    is_deleted: bool = False

    @property
    def needed(self) -> int:
        """Nodes (of shared ones: replicas) that must not be taken from it now."""
        return max(self.wanted, self.running)

    @property
    def home(self) -> str:
        """Its tenant cluster, behind the Platform's project."""
        if not self.tier.is_shared:
            return f"mr-{self.tenant_id}-{self.project_id}/{self.id}"
        project = f"mr-{self.tenant_id}-{self.project_id}" if self.tier is OF_TENANT else "mr-pool"
        return f"{project}/sc-{self.tier.name}-eu-1"

    def due(self, now_ms: int) -> Iterator[Act]:
        """What is to be done by now, in order; each once."""
        while self.acts and self.acts[0].at_ms <= now_ms:
            yield self.acts.pop(0)

    def then(self, act: Act) -> None:
        """Do this as well, when its time comes."""
        self.acts = sorted([*self.acts, act], key=lambda each: each.at_ms)

    def do(self, act: Act, now_ms: int) -> list[Envelope]:
        """What the services tell because of an act."""
        match act.what:
            case "request":
                self.generation += 1
                self.wanted, self.is_ended = act.replicas, False
                return [self._tell(self._request(), now_ms), self._stage(Stage.LOADING_MODEL, now_ms)]
            case "scale":
                return self._scale(act.replicas, now_ms)
            case "run":
                self.running = 0 if self.is_ended else act.replicas
                return [self._tell(_running(self.running), now_ms)]
            case "end" | "pause":
                return self._end(act, now_ms)
            case _:
                self.running = 0
                return [self._tell(RuntimeRemoved(), now_ms), self._stage(Stage.DELETING, now_ms)]

    def hear(self, envelope: Envelope) -> list[Envelope]:
        """What endpoint-api makes of what capacity-manager tells, and when that was."""
        if isinstance(envelope.data, GpuReady) and not self.is_ended:
            return [self._stage(Stage.READY, envelope.time_ms)]
        if isinstance(envelope.data, CapacityReleased):
            return [self._stage(Stage.DELETED if self.is_deleted else Stage.PAUSED, envelope.time_ms)]
        return []

    def _end(self, act: Act, now_ms: int) -> list[Envelope]:
        self.generation += 1
        self.wanted, self.is_ended = 0, True
        self.is_deleted = act.what == "end"
        kind = EndpointDeletionRequested if self.is_deleted else EndpointPauseRequested
        ended: Event = kind(tenant_id=self.tenant_id, project_id=self.project_id, drain_deadline_ms=0)
        self.then(Act(now_ms + 2 * SECOND_MS, "remove"))
        return [self._tell(ended, now_ms), self._stage(Stage.DRAINING, now_ms)]

    def _scale(self, replicas: int, now_ms: int) -> list[Envelope]:
        if self.is_ended:
            return []
        self.wanted = replicas
        self.then(Act(now_ms + 3 * SECOND_MS, "run", replicas))
        inputs = ScaleInputs(
            current=1, min=1, max=8, target_concurrency=8, concurrency_milli=0, window_ms=1, samples=1
        )  # fmt: skip
        return [self._tell(ScaleDecided(replicas=replicas, reason="load", inputs=inputs), now_ms)]

    def _request(self) -> EndpointRequested:
        tier = self.tier
        placement = Placement(
            tenancy=tier.tenancy,
            node_type=tier.node_type,
            gpus_per_node=tier.gpus_per_node,
            gpus_per_replica=tier.gpus_each,
            cluster_template=tier.template,
            runtime_template="vllm@1",
            model_digest="sha256:0",
            model_size_bytes=1,
            price_class=tier.name,
        )
        scaling = Scaling(min=self.wanted, max=REPLICAS_MAX)
        spec = EndpointSpec(model="millrace/ngram-1", tier=tier.name, region="eu-1", scaling=scaling)
        return EndpointRequested(
            tenant_id=self.tenant_id, project_id=self.project_id, name=self.id, spec=spec, placement=placement
        )

    def _stage(self, stage: Stage, now_ms: int) -> Envelope:
        told = EndpointStageChanged(
            tenant_id=self.tenant_id,
            project_id=self.project_id,
            name=self.id,
            stage=stage,
            previous=self.stage,
            since_ms=now_ms,
        )
        self.stage = stage
        return self._tell(told, now_ms)

    def _tell(self, data: Event, now_ms: int) -> Envelope:
        self.sequence += 1
        told = Envelope(
            EventId(f"{self.id}|{self.sequence}"),
            data,
            subject=self.id,
            time_ms=now_ms,
            generation=self.generation,
            sequence=self.sequence,
        )
        self.heard.append(told)
        return told


def one_life(*, from_ms: int) -> Life:
    """Created, scaled up and down, paused, brought back and deleted."""
    acts = [
        ("request", 5, 1),
        ("scale", 40, 3),
        ("scale", 80, 1),
        ("pause", 120, 0),
        ("request", 150, 1),
        ("end", 190, 0),
    ]
    return Life("ep-one", "t0", "p0", H100, [Act(from_ms + at_s * SECOND_MS, what, n) for what, at_s, n in acts])


def lives(rng: Random, count: int, *, from_ms: int) -> list[Life]:
    """So many endpoints, each born after the last, that scale, pause, come back and are deleted as it happens."""
    return [_life(rng, number, from_ms + number * BIRTH_EVERY_MS) for number in range(count)]


def _life(rng: Random, number: int, at_ms: int) -> Life:
    acts = [Act(at_ms, "request", rng.randint(1, 2))]
    for _ in range(rng.randint(0, 3)):
        at_ms += rng.randint(5, 40) * SECOND_MS
        acts.append(Act(at_ms, "scale", rng.randint(1, REPLICAS_MAX)))
    if rng.random() < 0.2:
        at_ms += rng.randint(3, 30) * SECOND_MS
        acts.append(Act(at_ms, "pause"))
        at_ms += rng.randint(4, 20) * SECOND_MS
        acts.append(Act(at_ms, "request", 1))
    at_ms += rng.randint(1, 40) * SECOND_MS  # Now and then before it ever was ready.
    acts.append(Act(at_ms, "end"))
    tenant = f"t{rng.randrange(TENANTS)}"
    return Life(f"ep-{number}", tenant, f"p{rng.randrange(2)}", rng.choice(TIERS), acts)


def _running(replicas: int) -> ReplicasChanged:
    return ReplicasChanged(desired=replicas, ready=replicas, replicas=())
