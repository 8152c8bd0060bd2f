"""Deployer and router together, on any life of an endpoint, heard in any order: in the end, what was asked for last.

What the customer's status needs is asserted: after a generation that makes endpoint-api forget facts, they come again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import count

import pytest

from libs.common.events.capacity import GpuReady
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    EndpointRequested,
    EndpointSpec,
    Limits,
)
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.events.runtime import CacheWarmed, ReplicasChanged
from libs.common.ids import EventId
from services.router.core.decide import decide as decide_route
from services.router.core.state import Route, RouteSeen
from services.runtime_deployer.core.lifecycle import Stage
from tests.unit.runtime_deployer.a_runtime import ENDPOINT, NOW_MS, Scene, a_placement, a_spec, told, warm

STEPS = {"runtime.image_pulled", "runtime.model_downloaded", "runtime.model_loaded", "runtime.cache_warmed"}
MODELS = ("millrace/ngram-1", "millrace/ngram-2")
ROUNDS_MAX = 50


@dataclass
class Life:
    """What endpoint-api and capacity-manager say of one endpoint, and what must come of it."""

    chance: random.Random
    generation: int = 0
    sequence: int = 0
    spec: EndpointSpec = field(default_factory=a_spec)
    forgotten_before: int = 0  # Runtime facts of older generations count no longer.
    is_up: bool = False
    said: list[Envelope] = field(default_factory=list)

    def live(self) -> Life:
        """A request, then up to six changes, each possible where the endpoint stands."""
        self._request(begins=True)
        for _ in range(self.chance.randint(0, 6)):
            change = self.chance.choice(
                (self._model, self._limits, self._pause, self._fail) if self.is_up else (self._resume,)
            )
            change()
        if self.chance.random() < 0.3:
            self.generation += 1
            self._end(EndpointDeletionRequested(tenant_id="acme", project_id="default", drain_deadline_ms=10))
        return self

    def _model(self) -> None:
        self.spec = self.spec.model_copy(update={"model": self.chance.choice(MODELS)})
        self._request(begins=True)

    def _limits(self) -> None:
        self.spec = self.spec.model_copy(update={"limits": Limits(requests_per_minute=self.generation)})
        self._request(begins=False)

    def _resume(self) -> None:
        if self.chance.random() < 0.5:
            self.spec = self.spec.model_copy(update={"limits": Limits(requests_per_minute=self.generation)})
        self._request(begins=True)
        self._say(GpuReady(platform_project="p", cluster=ENDPOINT, gpus=8))

    def _pause(self) -> None:
        self.generation += 1
        self._end(EndpointPauseRequested(tenant_id="acme", project_id="default", drain_deadline_ms=10))

    def _fail(self) -> None:
        self._end(EndpointFailed(tenant_id="acme", project_id="default", reason="DeadlinePassed", message="late"))

    def _request(self, *, begins: bool) -> None:
        self.generation += 1
        self.forgotten_before = self.generation if begins else self.forgotten_before
        is_first, self.is_up = not self.said, True
        self._say(
            EndpointRequested(
                tenant_id="acme", project_id="default", name="chat", spec=self.spec, placement=a_placement()
            )
        )
        if is_first:
            self._say(GpuReady(platform_project="p", cluster=ENDPOINT, gpus=8))

    def _end(self, event: Event) -> None:
        self.is_up = False
        self._say(event)

    def _say(self, event: Event) -> None:
        self.sequence += 1
        self.said.append(told(event, generation=self.generation, sequence=self.sequence))


class Pair:
    """Both owners in a world where every pod comes up, and a bus that reorders and repeats."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.scene = Scene()
        self.route = Route(ENDPOINT)
        self.route_told: list[tuple[str, int]] = []
        self.to_deployer: list[Envelope] = []
        self.to_router: list[Envelope] = []
        self._told = 0
        self._sequence = count(1)

    def hear(self, said: list[Envelope]) -> None:
        """Put what was said on the bus, for both."""
        self.to_deployer += [*said, self.chance.choice(said)]
        self.to_router += [each for each in said if not isinstance(each.data, GpuReady)]

    def step(self) -> None:
        """One of the things that can happen next, by chance."""
        self.chance.choice((self._deliver_to_deployer, self._deliver_to_router, self._look, self._see))()

    def settle(self) -> None:
        """Everything arrives, and everything is looked at until nothing is news."""
        for _ in range(ROUNDS_MAX):
            while self.to_deployer or self.to_router:
                self._deliver_to_deployer()
                self._deliver_to_router()
            self._look()
            self._see()

    def _deliver_to_deployer(self) -> None:
        if self.to_deployer:
            self.scene.hear(self.to_deployer.pop(self.chance.randrange(len(self.to_deployer))))
            self._collect()

    def _deliver_to_router(self) -> None:
        if self.to_router:
            self._decide(self.to_router.pop(self.chance.randrange(len(self.to_router))))

    def _look(self) -> None:
        """The deployer looks: what it wants is there, or gone."""
        if self.scene.stage is Stage.REMOVING:
            self.scene.see_nothing()
        elif self.scene.runtime.is_wanted and self.scene.runtime.intended:
            runtime = self.scene.runtime
            self.scene.see(
                warm(f"p-{runtime.recipe}").model_copy(update={"recipe": runtime.recipe, "model": runtime.model})
            )
        self._collect()

    def _see(self) -> None:
        """The router looks into a table that holds what it put there."""
        route = self.route
        seen = RouteSeen(
            stage=route.stage,
            generation=route.generation,
            held=route.entry,
            is_met_outside=route.entry is not None,
            is_idle=True,
        )
        self._decide(told(seen, sequence=0))

    def _collect(self) -> None:
        new = list(zip(self.scene.events, self.scene.generations, strict=True))[self._told :]
        self._told += len(new)
        for event, generation in new:
            if isinstance(event, CacheWarmed | ReplicasChanged):
                self.to_router.append(told(event, generation=generation, sequence=next(self._sequence)))

    def _decide(self, envelope: Envelope) -> None:
        decision = decide_route(self.route, envelope, NOW_MS, url="http://router/v1")
        self.route = decision.state
        for event in decision.events:
            self.route_told.append((event.kind, decision.generation))
            if event.kind == "route.published":
                assert self.scene.runtime.replicas_told.warmed_generation >= decision.generation, "published too early"
            if event.kind == "route.withdrawn":
                sequence = len(self.route_told)
                self.to_deployer.append(
                    Envelope(
                        EventId(f"w-{sequence}"),
                        event,
                        ENDPOINT,
                        NOW_MS,
                        generation=decision.generation,
                        sequence=sequence,
                    )
                )


@pytest.mark.parametrize("seed", range(120))
def test_any_life_in_any_order_comes_to_what_was_asked_for_last(seed: int) -> None:
    chance = random.Random(seed)
    life, pair = Life(chance).live(), Pair(chance)

    pair.hear(life.said)
    for _ in range(chance.randint(0, 60)):
        pair.step()
    pair.settle()

    runtime_told = list(zip(pair.scene.kinds, pair.scene.generations, strict=True))
    if life.is_up:
        counted = {kind for kind, generation in runtime_told if generation >= life.forgotten_before}
        assert counted >= STEPS, "facts that were forgotten come again"
        assert ("route.published", life.generation) in pair.route_told
        entry = pair.route.entry
        assert entry is not None
        assert (entry.generation, entry.model, entry.limits) == (life.generation, life.spec.model, life.spec.limits)
        assert [each.model for each in entry.replicas] == [life.spec.model]
        assert not entry.paused
    else:
        assert ("runtime.removed", life.generation) in runtime_told
        assert ("route.withdrawn", life.generation) in pair.route_told
        assert pair.route.entry is None or (pair.route.entry.paused and not pair.route.entry.replicas)
    assert len(runtime_told) == len(pair.scene.events)
