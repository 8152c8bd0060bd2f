"""Events owned by router: routes, what was served, and how busy endpoints are."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from libs.common.events.event import Contract, Event, Owner
from libs.common.events.facts import Fact


class RoutePublished(Event):
    """The data plane serves this endpoint at `url`; seen in its table, not just sent to it."""

    kind: ClassVar[str] = "route.published"
    owner: ClassVar[Owner] = Owner.ROUTER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.ENDPOINT_API})
    fact: ClassVar[Fact | None] = Fact.ROUTE_PUBLISHED

    url: str


class RouteWaiting(Event):
    """The data plane has the route and clients can't use it yet: why, to read. Not a fact: it explains the stage."""

    kind: ClassVar[str] = "route.waiting"
    owner: ClassVar[Owner] = Owner.ROUTER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.ENDPOINT_API})

    reason: str = Field(
        description="DnsNotReady, CertificateNotReady, RouteUnreachable, RouteOpen (a stranger is let in) or"
        " RouteNotServed (a good key is not)."
    )
    message: str


class RouteWithdrawn(Event):
    """No new request reaches the endpoint, and its live streams have ended or were cut at the deadline."""

    kind: ClassVar[str] = "route.withdrawn"
    owner: ClassVar[Owner] = Owner.ROUTER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.ENDPOINT_API, Owner.RUNTIME_DEPLOYER})
    fact: ClassVar[Fact | None] = Fact.ROUTE_WITHDRAWN

    streams_cut: int = 0


class RequestUsage(Contract):
    """One request served, or begun: the unit of the bill. Holds no content. An unknown count is None, never 0."""

    request_id: str
    tenant_id: str
    project_id: str
    endpoint_id: str
    generation: int
    model: str
    tier: str
    region: str
    key_id: str
    api: str = Field(description="chat or completions.")
    prompt_tokens: int | None
    completion_tokens: int
    token_source: str = Field(description="engine_final, engine_running or checkpoint.")
    finish: str = Field(
        description="stop, length, client_disconnect, upstream_error, router_crash, drain_cut or key_revoked."
    )
    started_ms: int
    first_token_ms: int | None
    ended_ms: int
    cached_prompt_tokens: int | None = Field(default=None, description="Of the prompt, those that a cache had.")
    reasoning_tokens: int | None = Field(default=None, description="Of the completion, those that nobody was shown.")
    egress_bytes: int | None = Field(
        default=None, description="Bytes of the answer that the socket took; of one that is not streamed its length."
    )
    adapter: str | None = Field(default=None, description="The adapter that answered; null: the model itself.")
    slices: tuple[str, ...] | None = Field(
        default=None, description="Budgets of whose slices it was served, each as <budget>@<month>; null: of none."
    )
    tenancy: str | None = Field(
        default=None, description="Of the endpoint: tenant_cluster, private_nodes, shared_pool or vnode."
    )


class UsageReported(Event):
    """A batch of requests served by one router process; `boot_seq` is gap-free within `boot_id`."""

    kind: ClassVar[str] = "usage.reported"
    owner: ClassVar[Owner] = Owner.ROUTER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.METERING})

    instance: str
    boot_id: str
    boot_seq: int
    requests: tuple[RequestUsage, ...]


class Draw(Contract):
    """What a router process did with its slice of one budget, and needs of it: totals of its boot that only grow."""

    budget: str = Field(description="The key of the budget: <tenant>, <tenant>.<project>, or that of a key.")
    period: str = Field(description="The month of UTC, such as 2026-11.")
    spent: int = Field(ge=0, description="Tokens that ended requests used.")
    returned: int = Field(ge=0, description="Tokens of its slice that it gave back.")
    needs: int = Field(ge=0, description="What must be granted in all for the next request.")
    wants: int = Field(ge=0, description="What it would like to be granted in all.")


class BudgetDrawn(Event):
    """A router process tells what it spent of budgets, and asks for more. It serves only what was granted before."""

    kind: ClassVar[str] = "budget.drawn"
    owner: ClassVar[Owner] = Owner.ROUTER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.METERING})

    instance: str
    boot_id: str
    draws: tuple[Draw, ...]


class UsedKey(Contract):
    """A key that was let in."""

    key_id: str
    last_used_ms: int = Field(ge=0, description="The beginning of the minute in which it was last used.")


class KeyUsed(Event):
    """Keys that were let in since the last such event: of each, at most one a minute. The highest time counts."""

    kind: ClassVar[str] = "key.used"
    owner: ClassVar[Owner] = Owner.ROUTER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.ENDPOINT_API})

    instance: str
    keys: tuple[UsedKey, ...]


class ReplicaOutcomes(Contract):
    """What became of the requests that one router process sent to one replica since it knows it. Only grows."""

    replica: str = Field(description="Its name, as in `runtime.replicas_changed`.")
    answered: int = Field(ge=0, description="Answers that began.")
    failed: int = Field(
        ge=0, description="Neither answered nor the client's mistake: refused connections, 5xx, silence."
    )


class EndpointLoad(Contract):
    """How busy one endpoint was during a report's interval."""

    endpoint_id: str
    requests: int = Field(description="Requests that began.")
    concurrency_max: int = Field(description="Most requests in flight at once, waiting ones included.")
    concurrency_avg_milli: int = Field(description="Mean requests in flight, times 1,000.")
    replicas: tuple[ReplicaOutcomes, ...] = Field(
        default=(), description="Of an endpoint whose replicas are being replaced: how each of them answers."
    )


class TrafficObserved(Event):
    """How busy endpoints were, told every few seconds while any of them is; a lost report is made good by the next."""

    kind: ClassVar[str] = "traffic.observed"
    owner: ClassVar[Owner] = Owner.ROUTER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.AUTOSCALER, Owner.RUNTIME_DEPLOYER})

    instance: str
    from_ms: int
    to_ms: int
    endpoints: tuple[EndpointLoad, ...]
