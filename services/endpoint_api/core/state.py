"""What endpoint-api owns: endpoints as asked for and as composed from what the owners tell, operations, keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from libs.common.events.endpoint import EndpointSpec, Limits, Placement, Stage
from libs.common.events.facts import Facts
from libs.common.ids import EndpointId, KeyId, OperationId, ProjectId, TenantId
from services.endpoint_api.core.domains import Address
from services.endpoint_api.core.forgetting import Floors
from services.endpoint_api.core.quotas import Holding

NO_TENANT: Final = TenantId("")
NO_PROJECT: Final = ProjectId("")


class Verb(StrEnum):
    """What an accepted command asked for."""

    CREATE = "create"
    UPDATE = "update"
    SCALE = "scale"
    PAUSE = "pause"
    DRAIN = "drain"
    RESUME = "resume"
    DELETE = "delete"


class Outcome(StrEnum):
    """How an operation stands; everything but RUNNING is its one end."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class Cut:
    """An answer that was ended at a drain deadline, with what its client had got."""

    request_id: str
    completion_tokens: int
    ended_ms: int


@dataclass(frozen=True, slots=True)
class Operation:
    """One accepted command, from acceptance to its one end. `request` is the id of the command that made it.

    `streams_cut` is how many answers it cut short, `cut` the first of them.
    """

    id: OperationId
    verb: Verb
    generation: int
    accepted_ms: int
    finished_ms: int | None = None
    outcome: Outcome = Outcome.RUNNING
    message: str = ""
    request: str = ""
    cut: tuple[Cut, ...] = ()
    streams_cut: int = 0


@dataclass(frozen=True, slots=True)
class Visit:
    """Time in one stage: `since_ms` is when it was last entered, `spent_ms` what earlier visits took.

    One visit a stage, in the order of last entry, so that an endpoint that flaps for years stays small.
    """

    stage: Stage
    since_ms: int
    spent_ms: int = 0


@dataclass(frozen=True, slots=True)
class Words:
    """Why, as an owner put it; of two, the one with the owner's higher sequence counts."""

    reason: str
    message: str
    generation: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that an owner tells again and again; the highest sequence counts."""

    value: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Download:
    """How far the model's download is; the highest sequence counts."""

    bytes_done: int
    bytes_total: int
    generation: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Good:
    """A spec that was ready, with its placement: what an update that fails goes back to."""

    spec: EndpointSpec
    placement: Placement
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint: what the tenant asked for, what has been heard of it, and where it therefore stands.

    `generation` counts accepted changes of desire; facts of a generation below their floor count no longer. Generation
    0 means: facts were heard, but nothing was asked for. `good` is the last that was ready; `held` is what it holds
    of its quotas; `asked_ms` is when the newest desire was accepted, from which deadlines count. `fetched_bytes` came
    from the source when its model last came: 0 if a cache had all of it. `domain` is the verified one that its host
    name is below; `addresses` are the host names that nobody else may have meanwhile.
    """

    id: EndpointId
    tenant_id: TenantId = NO_TENANT
    project_id: ProjectId = NO_PROJECT
    name: str = ""
    spec: EndpointSpec | None = None
    placement: Placement | None = None
    generation: int = 0
    floors: Floors = field(default_factory=Floors)
    request_digest: str = ""
    facts: Facts = field(default_factory=Facts)
    stage: Stage = Stage.REQUESTED
    visits: tuple[Visit, ...] = ()
    operations: tuple[Operation, ...] = ()
    waiting: Words | None = None
    unpublished: Words | None = None
    degraded: Words | None = None
    failure: Words | None = None
    url: str = ""
    decided: Figure | None = None
    ready: Figure | None = None
    good: Good | None = None
    is_going_back: bool = False
    held: Holding | None = None
    asked_ms: int = 0
    download: Download | None = None
    fetched_bytes: int | None = None
    rollout_paused: bool = False
    domain: str = ""
    addresses: tuple[Address, ...] = ()

    @property
    def is_requested(self) -> bool:
        """Whether somebody asked for it."""
        return self.generation > 0

    @property
    def visit(self) -> Visit:
        """The visit to the present stage."""
        assert self.visits[-1].stage is self.stage, self.id
        return self.visits[-1]


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as its owner keeps it: the hash, never the key. `request` is the Idempotency-Key that made it."""

    id: KeyId
    tenant_id: TenantId = NO_TENANT
    project_id: ProjectId = NO_PROJECT
    name: str = ""
    scopes: tuple[str, ...] = ()
    sha256: str = ""
    created_ms: int = 0
    expires_at_ms: int | None = None
    revoked_ms: int | None = None
    request: str = ""
    member: str = ""  # The service account whose role decides what it may do; empty: its scopes do.
    models: tuple[str, ...] = ()
    allowed_ips: tuple[str, ...] = ()
    is_test: bool = False
    successor: str = ""  # The key that a rotation made in its place.
    is_dropped: bool = False  # Over for every clock: it is counted and told to routers no more.
    last_used_ms: int | None = None  # The beginning of the minute in which it was; None: never, or not told yet.
    tokens_per_month: int | None = None
    money_per_month_nano: int | None = None
    budget: str = ""  # Of whose tokens and money: its own, or that of the first of the keys that it follows.
    limits: Limits | None = None  # Of a minute and at once; of this key alone.

    @property
    def has_budget(self) -> bool:
        """Whether what it may spend in a month is limited."""
        return (self.tokens_per_month, self.money_per_month_nano) != (None, None)


def etag_of(endpoint: Endpoint) -> str:
    """The ETag of an endpoint: its generation, which every accepted change raises."""
    return f'"{endpoint.generation}"'


def home_of(tenant_id: str, project_id: str) -> str:
    """The store's scope of a project's live things: names are unique in it, lists are of it."""
    return f"{tenant_id}/{project_id}"


def scope_of_endpoint(endpoint: Endpoint) -> str:
    """The project while the endpoint lives; a place apart afterwards, so that lists never wade through the dead."""
    if not endpoint.is_requested:
        return ""
    home = home_of(endpoint.tenant_id, endpoint.project_id)
    return f"{home}/deleted" if endpoint.stage is Stage.DELETED else home


def label_of_endpoint(endpoint: Endpoint) -> str | None:
    """The name that it holds; none once it is deleted."""
    return endpoint.name if endpoint.is_requested and endpoint.stage is not Stage.DELETED else None


def scope_of_key(key: Key) -> str:
    """The project that the key belongs to."""
    return home_of(key.tenant_id, key.project_id)


def label_of_key(key: Key) -> str | None:
    """The Idempotency-Key that made it: a second use must not make a second key."""
    return key.request or None
