"""What the router may hear of an endpoint, as envelopes."""

from __future__ import annotations

from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    EndpointRequested,
    EndpointSpec,
    Limits,
    Placement,
)
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.events.runtime import CacheWarmed, Replica, ReplicasChanged
from libs.common.ids import EventId
from services.router.core.state import Route, RouteSeen
from tests.unit.router.scene import ENDPOINT, NAME, PROJECT, TENANT

NOW = 1_800_000_000_000
DRAIN_MS = 20_000


def envelope(data: Event, *, generation: int = 1, sequence: int = 1, mark: str = "") -> Envelope:
    told_id = EventId(f"{data.kind}-{generation}-{sequence}{mark}")
    return Envelope(told_id, data, subject=ENDPOINT, time_ms=NOW, generation=generation, sequence=sequence)


def requested(
    *,
    generation: int = 1,
    sequence: int = 1,
    model: str = "millrace/ngram-1",
    limits: Limits | None = None,
    interrupted: str = "delivered",
    hostname: str = "",
) -> Envelope:
    placement = Placement(
        tenancy="private_nodes",
        node_type="terraform.gpu-l40s",
        gpus_per_node=1,
        gpus_per_replica=1,
        cluster_template="inference-l40s@1.0.0",
        runtime_template="vllm@1",
        model_digest="sha256:0",
        model_size_bytes=1,
        price_class="l40s",
        interrupted=interrupted,
    )
    spec = EndpointSpec(model=model, tier="l40s-dedicated", region="eu-1", limits=limits or Limits(), hostname=hostname)
    data = EndpointRequested(tenant_id=TENANT, project_id=PROJECT, name=NAME, spec=spec, placement=placement)
    return envelope(data, generation=generation, sequence=sequence)


def deletion_requested(*, generation: int = 2, sequence: int = 9, drain_ms: int = DRAIN_MS) -> Envelope:
    data = EndpointDeletionRequested(tenant_id=TENANT, project_id=PROJECT, drain_deadline_ms=drain_ms)
    return envelope(data, generation=generation, sequence=sequence)


def paused(*, generation: int = 2, sequence: int = 8, drain_ms: int = DRAIN_MS) -> Envelope:
    data = EndpointPauseRequested(tenant_id=TENANT, project_id=PROJECT, drain_deadline_ms=drain_ms)
    return envelope(data, generation=generation, sequence=sequence)


def failed(*, generation: int = 1, sequence: int = 5) -> Envelope:
    data = EndpointFailed(tenant_id=TENANT, project_id=PROJECT, reason="Deadline", message="too late")
    return envelope(data, generation=generation, sequence=sequence)


def replicas(*urls: str, model: str = "") -> tuple[Replica, ...]:
    return tuple(Replica(name=f"pod-{index}", url=url, model=model) for index, url in enumerate(urls))


def cache_warmed(*urls: str, generation: int = 1, sequence: int = 4) -> Envelope:
    return envelope(CacheWarmed(replicas=replicas(*urls)), generation=generation, sequence=sequence)


def replicas_changed(
    *urls: str, generation: int = 1, sequence: int = 5, warmed: int = 0, model: str = "", replacing: bool = False
) -> Envelope:
    data = ReplicasChanged(
        desired=len(urls),
        ready=len(urls),
        replicas=replicas(*urls, model=model),
        warmed_generation=warmed,
        replacing=replacing,
    )
    return envelope(data, generation=generation, sequence=sequence)


def seen(
    route: Route,
    *,
    held: bool = True,
    is_met_outside: bool = True,
    is_idle: bool = False,
    streams_cut: int = 0,
    mark: str = "",
) -> Envelope:
    """A look at a table that has what the route last put there, or nothing."""
    data = RouteSeen(
        stage=route.stage,
        generation=route.generation,
        held=route.entry if held else None,
        is_met_outside=held and is_met_outside,
        is_idle=is_idle,
        streams_cut=streams_cut,
    )
    return envelope(data, sequence=0, mark=mark)
