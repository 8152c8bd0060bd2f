"""What metering owns: a producer per router process, a meter per endpoint, a window per meter, account and interval."""

from __future__ import annotations

from dataclasses import dataclass, field

from libs.common.events.facts import Facts
from libs.common.events.usage import Meter as MeterName
from libs.common.store.port import Attention
from services.metering.core.accounts import root_of
from services.metering.core.boots import Boots
from services.metering.core.parts import Parts
from services.metering.core.things import Things
from services.metering.core.timeline import Happening, Span, StageSince, UseSince


@dataclass(frozen=True, slots=True)
class Producer:
    """A router process as a source of usage. What it reported is in the ledger; here is only whether all of it came."""

    instance: str
    boots: Boots = field(default_factory=Boots)
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Whose quantity it is and what was sold."""

    tenant_id: str
    project_id: str
    endpoint_id: str
    generation: int
    model: str
    tier: str
    region: str
    tenancy: str = ""

    @property
    def root(self) -> str:
        """The account of the endpoint's requests, and the beginning of its others."""
        return root_of(tenant=self.tenant_id, project=self.project_id, endpoint=self.endpoint_id)

    @property
    def what(self) -> tuple[str, ...]:
        """All but the generation: two requests that say the same of it sell the same."""
        whose = (self.tenant_id, self.project_id, self.endpoint_id)
        return (*whose, self.model, self.tier, self.region, self.tenancy)


@dataclass(frozen=True, slots=True)
class Sale:
    """What was sold from `since_ms` on, as endpoint-api numbered it."""

    sequence: int
    since_ms: int
    sold: Dimensions


@dataclass(frozen=True, slots=True)
class Mark:
    """A window got entries: from `due_ms` on it is compared with what was told. `number` grows with every entry.

    `looks` counts how often it differed.
    """

    dimensions: Dimensions
    start_ms: int
    number: int
    due_ms: int
    looks: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A node of an endpoint or a pool: what was heard of it, its booked time, how often lines were taken back."""

    claim: str
    node_type: str
    happenings: tuple[Happening, ...] = ()
    uses: tuple[UseSince, ...] = ()
    booked: tuple[Span, ...] = ()
    again: int = 0


@dataclass(frozen=True, slots=True)
class Meter:
    """An endpoint's GPU time, and which of its windows are to be told. `dimensions` are those of the newest sale.

    `pool` is what it is if it is no endpoint but a cluster that endpoints share. `things` are replicas and the like.
    `now_ms` is the latest time seen, `booked_ms` how far held time was looked at, `settled_ms` before which nothing
    changes any more. `marks` numbers what was marked.
    """

    endpoint_id: str
    facts: Facts = field(default_factory=Facts)
    dimensions: Dimensions | None = None
    sales: tuple[Sale, ...] = ()
    stages: tuple[StageSince, ...] = ()
    nodes: tuple[Node, ...] = ()
    marked: tuple[Mark, ...] = ()
    now_ms: int = 0
    booked_ms: int = 0
    settled_ms: int = 0
    marks: int = 0
    pool: Dimensions | None = None
    things: Things = field(default_factory=Things)

    @property
    def due(self) -> tuple[Mark, ...]:
        """The marked windows that have closed and settled."""
        return tuple(each for each in self.marked if each.due_ms <= self.now_ms)


@dataclass(frozen=True, slots=True)
class Window:
    """What was told of a meter, account and model of an endpoint over ``[start_ms, end_ms)``; revision 0: nothing.

    `parts` None: it was told by a build that did not tell them.
    """

    key: str
    root: str = ""
    account: str = ""
    meter: MeterName = MeterName.REQUESTS
    model: str = ""
    start_ms: int = 0
    end_ms: int = 0
    quantity: int = 0
    revision: int = 0
    parts: Parts | None = None


def attention_of(meter: Meter) -> Attention:
    """A meter is looked at while a window of it waits to be told."""
    return Attention.NOW if meter.due else Attention.NONE


def window_key(*, root: str, account: str, meter: str, start_ms: int, model: str = "") -> str:
    """The key of a window: the same for the same tenant, endpoint, meter, account, start and model.

    Lines that are older than labels have no model, and the keys that they had.
    """
    return f"{root}/{meter}/{account or 'all'}/{start_ms}" + (f"/{model}" if model else "")
