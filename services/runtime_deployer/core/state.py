"""The record of one runtime: what was heard, what was seen, and what has been told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from libs.common.desire import ENDS, generation_of, is_ended
from libs.common.events.caches import CachePlace
from libs.common.events.endpoint import Adapter, EndpointSpec, Placement
from libs.common.events.facts import Fact, Facts
from libs.common.events.runtime import Replica
from libs.common.ids import EndpointId
from services.runtime_deployer.core.observed import Kind, Observed
from services.runtime_deployer.core.pod import recipe_of, served_name
from services.runtime_deployer.core.templates import Template
from services.runtime_deployer.core.trouble import Trouble
from services.runtime_deployer.core.weights import Weights

RUNTIME: Final = "runtime"  # What its record is called in the store.


@dataclass(frozen=True, slots=True)
class Cluster:
    """A tenant cluster, as the Platform addresses it."""

    platform_project: str
    name: str


@dataclass(frozen=True, slots=True)
class Decided:
    """How many replicas the autoscaler wants, with its sequence: the highest wins.

    What was decided before a pause or failure says nothing of what is asked for after it.
    """

    replicas: int
    sequence: int
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why no waiting will help."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Told:
    """What we told of one run, named by the generation that it began with; another run begins empty."""

    generation: int = 0
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplicasTold:
    """The content of our last `runtime.replicas_changed`."""

    desired: int = 0
    replicas: tuple[Replica, ...] = ()
    warmed_generation: int = 0
    replacing: bool = False


@dataclass(frozen=True, slots=True)
class DownloadTold:
    """How much of its model the present run is said to have."""

    generation: int = 0
    bytes_done: int = -1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the requests that a router sent to a replica."""

    instance: str
    replica: str
    answered: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All that ended there."""
        return self.answered + self.failed

    @property
    def percent(self) -> int:
        """The share that failed, rounded down."""
        return self.failed * 100 // self.total if self.total else 0


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What routers told of one run, and when last."""

    run: int = 0
    at_ms: int = 0
    seen: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True)
class Runtime:
    """What runs, or should, for one endpoint.

    `begun` is the generation whose facts are told anew: a change of scaling or limits goes on with the run that there
    is, anything else begins one. `intended` is set before anything is first applied: without it there can be nothing to
    remove. `warmed` holds the starts of pods that answered a real request. `delay` is why the cluster was last not
    reached, for operators. `extras` are the kinds of object that any of its templates asked for beyond those that all
    have: they are looked for until the end. `sleeps` while no replica is wanted, and until one that is wanted again
    is ready. `no_room_for` is the recipe whose first pod found no free GPU beside the replicas that serve.
    `volume_told_bytes` is what its own volume was last told to have; `caches` are those that its pods have used.
    `adapters_in_effect` are those of the last spec that was warm; `adapters_since_ms`: since when others are wanted.
    `weights` is where its model is, if an operator's file says so; pinned as the template is.
    `draining` are nodes that take no more pods and are to be empty; `moved` is the one that pods left, or leave, last.
    """

    endpoint_id: EndpointId
    facts: Facts = field(default_factory=Facts)
    tenant_id: str = ""
    spec: EndpointSpec | None = None
    placement: Placement | None = None
    template: Template | None = None
    cluster: Cluster | None = None
    begun: int = 0
    decided: Decided | None = None
    intended: bool = False
    seen: Observed | None = None
    warmed: tuple[str, ...] = ()
    trouble: Trouble | None = None
    trouble_since_ms: int = 0
    failure: Failure | None = None
    delay: str = ""
    removing_since_ms: int = 0
    told: Told = Told()
    replicas_told: ReplicasTold = ReplicasTold()
    sleeps: bool = False
    no_room_for: str = ""
    extras: tuple[Kind, ...] = ()
    adapters_in_effect: tuple[Adapter, ...] = ()
    adapters_since_ms: int = 0
    volume_told_bytes: int = 0
    caches: tuple[CachePlace, ...] = ()
    weights: Weights | None = None
    download_told: DownloadTold = DownloadTold()
    outcomes: Outcomes = Outcomes()
    rollout_paused: bool = False
    draining: tuple[str, ...] = ()
    moved: str = ""
    is_moving: bool = False

    @property
    def model(self) -> str:
        """The id of the model that it serves; empty before the request was heard."""
        return self.spec.model if self.spec is not None else ""

    @property
    def generation(self) -> int:
        """The newest generation that the endpoint's owner spoke of."""
        return generation_of(self.facts)

    @property
    def is_wanted(self) -> bool:
        """Whether it should run: the newest order is a request. At the same generation an end beats a request.

        A deletion is for ever.
        """
        return self.requested_generation > 0 and not is_ended(self.facts)

    @property
    def is_unwanted(self) -> bool:
        """Whether it should be gone. Neither wanted nor unwanted: nobody has said."""
        return self.generation > 0 and not self.is_wanted

    @property
    def requested_generation(self) -> int:
        """The newest request that was heard; 0 before the first."""
        return self._generation_of(Fact.REQUESTED)

    @property
    def ended_generation(self) -> int:
        """The newest pause, failure or deletion that was heard; 0 before the first."""
        return max(self._generation_of(each) for each in ENDS)

    @property
    def is_placed(self) -> bool:
        """Whether there are GPUs for what is wanted: those from before an end were given back."""
        return self.cluster is not None and self._generation_of(Fact.GPU_READY) > self.ended_generation

    @property
    def recipe(self) -> str:
        """What the pods that are wanted are made of; empty while that is not known."""
        if self.placement is None or self.template is None:
            return ""
        return recipe_of(self.endpoint_id, self.placement, self.model, self.template, self.weights, self.moved)

    @property
    def served_name(self) -> str:
        """What its engines answer to; empty while that is not known."""
        if self.placement is None or self.template is None:
            return self.model
        return served_name(self.endpoint_id, self.placement, self.model, self.template)

    @property
    def is_withdrawn(self) -> bool:
        """Whether no request can reach it any more; a withdrawal from before the last request does not count."""
        heard = self.facts.of(Fact.ROUTE_WITHDRAWN)
        return heard is not None and heard.holds and heard.generation >= self.requested_generation

    @property
    def has_served(self) -> bool:
        """Whether this run was fit for traffic once; from then on trouble degrades it and never fails it."""
        return Fact.CACHE_WARMED in self.told_facts

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """What every replica should have loaded beside the model."""
        return self.spec.adapters if self.spec is not None else ()

    @property
    def adapters_needed(self) -> tuple[Adapter, ...]:
        """Those that a replica must have before it takes traffic: clients were told of them."""
        return tuple(each for each in self.adapters if each in self.adapters_in_effect)

    @property
    def asks_for_adapters(self) -> bool:
        """Whether engines have to be asked which they have loaded: some are wanted, or were there at the last look."""
        seen = self.seen.pods if self.seen is not None else ()
        return bool(self.adapters or self.adapters_in_effect or any(each.adapters for each in seen))

    @property
    def surges(self) -> bool:
        """Whether a new replica comes before an old one goes: until one found no room."""
        return not self.no_room_for or self.no_room_for != self.recipe

    @property
    def is_replacing(self) -> bool:
        """Whether something served in this life, and what is wanted since is not warm yet: a rollout is on its way."""
        served = self.replicas_told.warmed_generation > self.ended_generation
        return self.is_wanted and served and (self.is_moving or not self.has_served)

    @property
    def run(self) -> int:
        """The generation that what is told belongs to: that of the end, or the one that began what is wanted."""
        return self.begun if self.is_wanted else self.generation

    @property
    def told_facts(self) -> tuple[Fact, ...]:
        """What we told of the present run."""
        return self.told.facts if self.told.generation == self.run else ()

    @property
    def replicas_wanted(self) -> int:
        """How many replicas should run now."""
        if self.is_unwanted and self.is_withdrawn:
            return 0
        if not self.is_wanted or self.spec is None or not self.intended:
            return self.replicas_told.desired
        scaling = self.spec.scaling
        is_of_this_life = self.decided is not None and self.decided.generation > self.ended_generation
        wanted = self.decided.replicas if self.decided is not None and is_of_this_life else scaling.min
        if wanted == 0 and scaling.idle_to_zero_s is not None:
            return 0
        return min(scaling.max, max(scaling.min, wanted))

    def _generation_of(self, fact: Fact) -> int:
        heard = self.facts.of(fact)
        return heard.generation if heard is not None and heard.holds else 0
