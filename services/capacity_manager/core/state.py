"""What capacity-manager knows of one endpoint's claim: all of it heard or seen; wishes are computed from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libs.common.events.endpoint import EndpointSpec, Placement
from libs.common.events.facts import Fact, Facts
from libs.common.ids import EndpointId, ProjectId, TenantId

NO_TENANT: Final = TenantId("")
NO_PROJECT: Final = ProjectId("")
NOTHING_HEARD: Final = Facts()
UNWANTED_BY: Final = (Fact.DELETION_REQUESTED, Fact.PAUSE_REQUESTED, Fact.ENDPOINT_FAILED)


@dataclass(frozen=True, slots=True)
class Sighting:
    """The first of two reads that say the same: when, in which look, and the most nodes that were seen since."""

    since_ms: int
    look: int
    nodes: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A NodeClaim of ours. Its time runs from `joined_at_ms` until it was first seen gone, once that is confirmed."""

    name: str
    joined_at_ms: int | None = None
    is_told: bool = False
    missing: Sighting | None = None
    released_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """A number of replicas as its owner last said it."""

    replicas: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """GPU quota that this claim holds in the tenant's counter."""

    node_type: str
    nodes: int
    gpus_per_node: int
    since_ms: int

    @property
    def gpus(self) -> int:
        """GPUs of the tenant's quota that are taken."""
        return self.nodes * self.gpus_per_node


@dataclass(frozen=True, slots=True)
class Claim:
    """One endpoint's claim on capacity.

    `look` numbers the looks at the Platform; the clock raises it when a second look is due. `told` are the facts told
    for this request; `waiting` is the reason told last; `released_for` is the generation for which all is given back.
    """

    id: EndpointId
    tenant_id: TenantId = NO_TENANT
    project_id: ProjectId = NO_PROJECT
    facts: Facts = NOTHING_HEARD
    spec: EndpointSpec | None = None
    placement: Placement | None = None
    planned: Count | None = None
    running: Count | None = None
    reservation: Reservation | None = None
    nodes: tuple[Node, ...] = ()
    told: tuple[Fact, ...] = ()
    waiting: str = ""
    look: int = 1
    shrunk: Sighting | None = None
    gone: Sighting | None = None
    quota_retry_at_ms: int | None = None
    released_for: int | None = None

    @property
    def generation(self) -> int:
        """The newest generation that endpoint-api spoke of."""
        return max((self._generation_of(fact) or 0 for fact in (Fact.REQUESTED, *UNWANTED_BY)), default=0)

    @property
    def is_unwanted(self) -> bool:
        """Whether a delete or a failure is at least as new as the request."""
        requested = self._generation_of(Fact.REQUESTED) or 0
        return any((self._generation_of(fact) or -1) >= requested for fact in UNWANTED_BY)

    @property
    def is_removable(self) -> bool:
        """Whether the tenant cluster may go: unwanted, and nothing of the endpoint runs in it any more."""
        requested = self._generation_of(Fact.REQUESTED) or 0
        removed = self._generation_of(Fact.RUNTIME_REMOVED)
        return self.is_unwanted and removed is not None and removed >= requested

    @property
    def is_released(self) -> bool:
        """Whether everything is confirmed gone and that was told for this generation."""
        return self.is_unwanted and self.released_for == self.generation

    @property
    def is_failed(self) -> bool:
        """Whether we said that no waiting will help."""
        return Fact.CAPACITY_FAILED in self.told

    @property
    def unwanted_since_ms(self) -> int | None:
        """When the first delete or failure was told; None while wanted."""
        requested = self._generation_of(Fact.REQUESTED) or 0
        said = (self.facts.of(fact) for fact in UNWANTED_BY)
        return min((each.at_ms for each in said if each and each.holds and each.generation >= requested), default=None)

    def _generation_of(self, fact: Fact) -> int | None:
        heard = self.facts.of(fact)
        return heard.generation if heard is not None and heard.holds else None
