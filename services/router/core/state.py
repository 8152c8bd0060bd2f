"""What the router's control half owns: one route per endpoint, and what it saw of it in the data plane."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from libs.common.desire import ENDS, ends_of, generation_of, is_ended
from libs.common.events.endpoint import Limits
from libs.common.events.event import Internal, Owner
from libs.common.events.facts import Fact, Facts
from libs.common.events.runtime import Replica
from libs.common.events.tables import RouteEntry
from services.router.core.lifecycle import ROUTE, RouteStage


class RouteSeen(Internal):
    """What the data plane's own table says of an endpoint, and whether requests of it still run.

    It names the stage and generation that it was made for: after these change, the same sight is news again.
    `is_idle` and `streams_cut` are looked at only while draining: a route in service is not written about at every
    request.
    """

    kind: ClassVar[str] = "internal.route_seen"
    owner: ClassVar[Owner] = Owner.ROUTER

    stage: RouteStage
    generation: int
    held: RouteEntry | None
    is_idle: bool = False
    streams_cut: int = 0
    is_met_outside: bool = False  # Seen from outside: a stranger is refused there, and a good key let in.
    is_lost: bool = False  # The table has it still; the bucket that fills it lost it.

    @property
    def lets_in(self) -> bool:
        """Whether a new request would be served."""
        return self.held is not None and not self.held.paused


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Who asked for what: the part of a route entry that the request says."""

    tenant_id: str
    project_id: str
    name: str
    model: str
    tier: str
    region: str
    limits: Limits = field(default_factory=Limits)
    surfaces: tuple[str, ...] = ()
    wakes: bool = False
    interrupted: str = "delivered"
    adapters: tuple[str, ...] = ()
    tenancy: str = ""
    hostname: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """How one endpoint is reached, or that it is not.

    `asked` is the newest request; `endpoint`, of `endpoint_generation`, is the newest one that the runtime was said to
    be warm for: what is served meanwhile. `replacing`: its replicas are being replaced. `entry` is what was last put
    into the `routes` bucket and not deleted since; `told_*` is the generation for which the fact was told, so each
    newer one is answered anew. `hindered` is what was last told of why it is not published, with its generation.
    """

    endpoint_id: str
    facts: Facts = field(default_factory=Facts)
    asked: Endpoint | None = None
    endpoint: Endpoint | None = None
    endpoint_generation: int = 0
    warmed_generation: int = 0
    replicas: tuple[Replica, ...] = ()
    replicas_sequence: int = 0
    replacing: bool = False
    entry: RouteEntry | None = None
    told_published: int = 0
    told_withdrawn: int = 0
    hindered: str = ""
    drain_ms: int = 0
    drain_generation: int = 0
    drain_deadline_ms: int | None = None

    @property
    def stage(self) -> RouteStage:
        """Where a walk through the table stops."""
        return ROUTE.stage_of(self._holding())

    @property
    def asked_generation(self) -> int:
        """The newest request that was heard; 0 before the first."""
        return self._generation_of(Fact.REQUESTED)

    @property
    def ended_generation(self) -> int:
        """The newest pause, failure or deletion that was heard; 0 before the first."""
        return max(self._generation_of(each) for each in ENDS)

    @property
    def is_ended(self) -> bool:
        """Whether there is to be no route: of what was asked the newest is an end, or any of it a deletion."""
        return is_ended(self.facts)

    @property
    def is_paused(self) -> bool:
        """Whether it ended by a pause, and by nothing that came with or after it."""
        others = max(self._generation_of(each) for each in ENDS if each is not Fact.PAUSE_REQUESTED)
        return self.is_ended and self._generation_of(Fact.PAUSE_REQUESTED) > others

    @property
    def is_in_effect(self) -> bool:
        """Whether the runtime was warm for a request since the last end."""
        return self.endpoint_generation > self.ended_generation

    @property
    def generation(self) -> int:
        """The generation that the stage speaks of."""
        if self.is_ended:
            return generation_of(self.facts)
        return self.endpoint_generation if self.is_in_effect else self.asked_generation

    def _holding(self) -> frozenset[Fact]:
        """The facts as they count now: an end that was overtaken by newer desire, and what was before it, do not."""
        holds = {
            Fact.REQUESTED: self.asked_generation > 0,
            Fact.CACHE_WARMED: self.is_in_effect,
            Fact.ROUTE_PUBLISHED: 0 < self.told_published == self.generation,
            Fact.ROUTE_WITHDRAWN: 0 < self.told_withdrawn == self.generation,
        }
        ends = {each.fact for each in ends_of(self.facts)}
        return frozenset(each for each, true in holds.items() if true) | ends

    def _generation_of(self, fact: Fact) -> int:
        heard = self.facts.of(fact)
        return heard.generation if heard is not None and heard.holds else 0
