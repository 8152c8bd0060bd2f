"""Builders and a scene: one runtime, what it hears and sees, and what it tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

from libs.common.events.capacity import ClusterReady, GpuReady
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointRequested,
    EndpointSpec,
    Placement,
    Scaling,
)
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.events.route import RouteWithdrawn
from libs.common.events.scale import ScaleDecided, ScaleInputs
from libs.common.ids import EndpointId, EventId
from libs.common.runner import Woke
from libs.common.units import GIB
from services.runtime_deployer.core.decide import decider
from services.runtime_deployer.core.lifecycle import Stage, stage_of
from services.runtime_deployer.core.manifests import render
from services.runtime_deployer.core.observed import ENGINE, FETCH, ContainerSeen, ContainerState, Observed, PodSeen
from services.runtime_deployer.core.observed import ObjectSeen as ObjectSeen
from services.runtime_deployer.core.pod import recipe_of
from services.runtime_deployer.core.state import Runtime
from services.runtime_deployer.core.templates import Template
from services.runtime_deployer.core.weights import Weights
from services.runtime_deployer.shell.settings import TEMPLATES_DIR
from services.runtime_deployer.shell.templates import load_templates

ENDPOINT: Final = EndpointId("ep-4k2jw6abcd")
NOW_MS: Final = 1_800_000_000_000
TEMPLATES: Final = load_templates(TEMPLATES_DIR)
VLLM: Final[Template] = TEMPLATES["vllm@1"]
PROJECT: Final = "mr-acme-default"
ENGINE_IMAGE: Final = "millrace/model-server:1"
FETCH_IMAGE: Final = "millrace/model-fetch:1"
GOLDEN: Final = Path(__file__).parent / "golden"

RUNNING: Final = ContainerState.RUNNING
TERMINATED: Final = ContainerState.TERMINATED

MODEL: Final = "millrace/ngram-1"
PORT: Final = 8000

_ids = count()


def a_placement(*, gpus_per_replica: int = 4, template: str = "vllm@1", command: tuple[str, ...] = ()) -> Placement:
    return Placement(
        tenancy="tenant_cluster",
        node_type="metal3.gpu-h100",
        gpus_per_node=8,
        gpus_per_replica=gpus_per_replica,
        cluster_template="inference-h100@1.0.0",
        runtime_template=template,
        model_digest="sha256:" + "a" * 64,
        model_size_bytes=40 * GIB,
        price_class="h100",
        command=command,
    )


def a_spec(*, low: int = 1, high: int = 3, model: str = MODEL, template: str = "") -> EndpointSpec:
    return EndpointSpec(
        model=model, tier="h100-dedicated", region="eu-1", scaling=Scaling(min=low, max=high), template=template
    )


def a_recipe(*, model: str = MODEL, placement: Placement | None = None) -> str:
    """What pods are made of when this is asked for."""
    placement = placement or a_placement()
    return recipe_of(ENDPOINT, placement, model, TEMPLATES[placement.runtime_template])


def told(data: Event, *, generation: int = 1, sequence: int = 1, id: str = "") -> Envelope:
    return Envelope(
        EventId(id or f"event-{next(_ids)}"), data, ENDPOINT, NOW_MS, generation=generation, sequence=sequence
    )


def requested(
    *,
    generation: int = 1,
    sequence: int = 1,
    spec: EndpointSpec | None = None,
    placement: Placement | None = None,
    rollout_paused: bool = False,
) -> Envelope:
    data = EndpointRequested(
        tenant_id="acme",
        project_id="default",
        name="chat",
        spec=spec or a_spec(),
        placement=placement or a_placement(),
        rollout_paused=rollout_paused,
    )
    return told(data, generation=generation, sequence=sequence)


def deletion_requested(*, generation: int = 2, sequence: int = 9) -> Envelope:
    data = EndpointDeletionRequested(tenant_id="acme", project_id="default", drain_deadline_ms=1000)
    return told(data, generation=generation, sequence=sequence)


def failed(*, generation: int = 1, sequence: int = 8) -> Envelope:
    data = EndpointFailed(tenant_id="acme", project_id="default", reason="DeadlinePassed", message="too late")
    return told(data, generation=generation, sequence=sequence)


def withdrawn(*, generation: int = 2, sequence: int = 5) -> Envelope:
    return told(RouteWithdrawn(), generation=generation, sequence=sequence)


def cluster_ready() -> Envelope:
    return told(ClusterReady(platform_project=PROJECT, cluster=ENDPOINT), sequence=3)


def gpu_ready(*, generation: int = 1, sequence: int = 5) -> Envelope:
    return told(GpuReady(platform_project=PROJECT, cluster=ENDPOINT, gpus=8), generation=generation, sequence=sequence)


def scale_decided(replicas: int, *, sequence: int = 1, generation: int = 1) -> Envelope:
    inputs = ScaleInputs(
        current=1, min=1, max=3, target_concurrency=8, concurrency_milli=9000, window_ms=60_000, samples=6
    )
    return told(ScaleDecided(replicas=replicas, reason="load", inputs=inputs), sequence=sequence, generation=generation)


def a_pod(
    name: str = "p1",
    *,
    recipe: str | None = None,
    model: str = MODEL,
    init: Sequence[ContainerSeen] | None = None,
    engine: ContainerSeen | None = None,
    ready: bool = False,
    warmed: bool = False,
    terminating: bool = False,
    ip: str = "127.64.0.9",
) -> PodSeen:
    """A pod that waits for its node, unless told otherwise."""
    return PodSeen(
        name=name,
        uid=f"uid-{name}",
        recipe=a_recipe(model=model) if recipe is None else recipe,
        model=model,
        port=PORT,
        ip=ip,
        ready=ready,
        warmed=warmed,
        terminating=terminating,
        init=tuple(init) if init is not None else (an_image(), a_fetch()),
        containers=(engine or an_engine(),),
    )


def an_image(state: ContainerState = ContainerState.WAITING, exit_code: int | None = None) -> ContainerSeen:
    return ContainerSeen(name="engine-image", image=ENGINE_IMAGE, state=state, exit_code=exit_code)


def a_fetch(
    state: ContainerState = ContainerState.WAITING,
    exit_code: int | None = None,
    *,
    message: str = "",
    waiting: str = "",
    restarts: int = 0,
) -> ContainerSeen:
    return ContainerSeen(
        name=FETCH,
        image=FETCH_IMAGE,
        state=state,
        exit_code=exit_code,
        message=message,
        waiting=waiting,
        restarts=restarts,
    )


def an_engine(
    state: ContainerState = ContainerState.WAITING,
    *,
    restarts: int = 0,
    exit_code: int | None = None,
    reason: str = "",
    waiting: str = "",
) -> ContainerSeen:
    return ContainerSeen(
        name=ENGINE,
        image=ENGINE_IMAGE,
        state=state,
        restarts=restarts,
        exit_code=exit_code,
        reason=reason,
        waiting=waiting,
    )


FETCHED: Final = (an_image(TERMINATED, 0), a_fetch(TERMINATED, 0))


def pulling(name: str = "p1") -> PodSeen:
    return a_pod(name, init=(an_image(), a_fetch()))


def downloading(name: str = "p1") -> PodSeen:
    return a_pod(name, init=(an_image(TERMINATED, 0), a_fetch(RUNNING)))


def loading(name: str = "p1") -> PodSeen:
    return a_pod(name, init=FETCHED, engine=an_engine(RUNNING))


def loaded(name: str = "p1") -> PodSeen:
    return a_pod(name, init=FETCHED, engine=an_engine(RUNNING), ready=True)


def warm(name: str = "p1", *, restarts: int = 0, ip: str = "127.64.0.9") -> PodSeen:
    engine = an_engine(RUNNING, restarts=restarts)
    return a_pod(name, init=FETCHED, engine=engine, ready=True, warmed=True, ip=ip)


@dataclass(slots=True)
class Scene:
    """One runtime and everything that it told."""

    runtime: Runtime = field(default_factory=lambda: Runtime(ENDPOINT))
    events: list[Event] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    wake_at_ms: int | None = None
    now_ms: int = NOW_MS
    templates: dict[str, Template] = field(default_factory=lambda: dict(TEMPLATES))
    weights: dict[str, Weights] = field(default_factory=dict)

    def hear(self, *envelopes: Envelope) -> Scene:
        """Decide on each in turn."""
        for envelope in envelopes:
            decision = decider(self.templates, self.weights)(self.runtime, envelope, self.now_ms)
            self.runtime, self.wake_at_ms = decision.state, decision.wake_at_ms
            self.events += decision.events
            self.generations += [decision.generation] * len(decision.events)
        return self

    def see(self, *pods: PodSeen) -> Scene:
        """Take in a look that finds everything applied, and these pods."""
        return self.hear(told(self.look(*pods)))

    def see_nothing(self) -> Scene:
        """Take in a look that finds nothing."""
        return self.hear(told(Observed(removing=self.stage is Stage.REMOVING)))

    def look(self, *pods: PodSeen) -> Observed:
        """What a look shows when everything was applied for the present generation."""
        manifests = render(self.runtime, VLLM)[1:] if self.runtime.placement is not None else ()
        objects = tuple(
            ObjectSeen(kind=each.kind, generation=each.generation, digest=each.digest) for each in manifests
        )
        return Observed(removing=self.stage is Stage.REMOVING, objects=objects, pods=pods)

    def wake(self) -> Scene:
        """Let the clock reach the wake-up."""
        assert self.wake_at_ms is not None
        self.now_ms = max(self.now_ms, self.wake_at_ms)
        return self.hear(told(Woke(due_ms=self.wake_at_ms)))

    @property
    def stage(self) -> Stage:
        """Where the runtime stands."""
        return stage_of(self.runtime)

    @property
    def kinds(self) -> list[str]:
        """What was told, in order."""
        return [each.kind for each in self.events]

    def last(self, kind: type[Event]) -> Event:
        """The last event of a kind."""
        return next(each for each in reversed(self.events) if type(each) is kind)


def a_serving_scene(*pods: PodSeen) -> Scene:
    """A scene whose runtime serves with these pods."""
    scene = Scene().hear(requested(), gpu_ready()).see(*(pods or (warm(),)))
    assert scene.stage is Stage.SERVING
    return scene
