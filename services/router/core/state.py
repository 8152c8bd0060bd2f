"""What the router's control half owns: one route per endpoint, and what it saw of it in the data plane."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

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


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Who asked for what: the part of a route entry that the request says."""

    tenant_id: str
    project_id: str
    name: str
    model: str
    tier: str
    region: str


@dataclass(frozen=True, slots=True)
class Route:
    """How one endpoint is reached, or that it is not.

    `entry` is what was last put into the `routes` bucket and not deleted since; `told_*` is the generation for which
    the fact was told. A generation is raised by a delete, so each delete is answered anew.
    """

    endpoint_id: str
    facts: Facts = field(default_factory=Facts)
    generation: int = 0
    endpoint: Endpoint | None = None
    replicas: tuple[Replica, ...] = ()
    replicas_sequence: int = 0
    entry: RouteEntry | None = None
    told_published: int = 0
    told_withdrawn: int = 0
    drain_ms: int = 0
    drain_deadline_ms: int | None = None

    @property
    def stage(self) -> RouteStage:
        """Where a walk through the table stops."""
        return ROUTE.stage_of(self._holding())

    def _holding(self) -> frozenset[Fact]:
        holding = self.facts.holding()
        requested = self.facts.of(Fact.REQUESTED)
        for fact in (Fact.ENDPOINT_FAILED, Fact.PAUSE_REQUESTED):
            ended = self.facts.of(fact)
            if requested and ended and ended.generation < requested.generation:
                holding -= {fact}  # Asked for anew since: an older end must not undo newer desire.
        if self.told_published and self.told_published == self.generation:
            holding |= {Fact.ROUTE_PUBLISHED}
        if self.told_withdrawn and self.told_withdrawn == self.generation:
            holding |= {Fact.ROUTE_WITHDRAWN}
        return holding
