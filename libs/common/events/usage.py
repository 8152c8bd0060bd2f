"""Events owned by metering: what a billing adapter reads, and what a router waits for before it forgets."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from libs.common.events.event import Contract, Event, Owner


class Meter(StrEnum):
    """What is counted; each in integers of the unit that its name ends in."""

    REQUESTS = "requests"
    PROMPT_TOKENS = "prompt_tokens"
    COMPLETION_TOKENS = "completion_tokens"
    CACHED_PROMPT_TOKENS = "cached_prompt_tokens"
    REASONING_TOKENS = "reasoning_tokens"
    EGRESS_BYTES = "egress_bytes"
    GPU_MS = "gpu_ms"
    NODE_MS = "node_ms"
    REPLICA_MS = "replica_ms"  # Of all ready replicas together: a model's runtime.
    ADAPTER_MS = "adapter_ms"  # Of each adapter in each ready replica that has it loaded.
    VOLUME_MIB_MS = "volume_mib_ms"  # Mebibytes times milliseconds: 64 bits hold 278 TiB for a year.
    CACHE_MIB_MS = "cache_mib_ms"  # Of models that caches keep for the endpoint.


class UsageConfirmed(Event):
    """These requests are in the ledger: the router may drop them from its journal."""

    kind: ClassVar[str] = "usage.confirmed"
    owner: ClassVar[Owner] = Owner.METERING
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.ROUTER})

    instance: str
    request_ids: tuple[str, ...]


class CutStream(Contract):
    """An answer that was ended at a drain deadline; its client got the part that it is billed for."""

    request_id: str
    generation: int = Field(description="Of the endpoint, when the request was let in.")
    completion_tokens: int
    ended_ms: int


class StreamsCut(Event):
    """Answers of one endpoint were cut at a drain deadline, and are in the ledger. One may be told again, by its id."""

    kind: ClassVar[str] = "usage.streams_cut"
    owner: ClassVar[Owner] = Owner.METERING
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.ENDPOINT_API})

    streams: tuple[CutStream, ...]


class BudgetReached(Event):
    """So many percent of a budget are spent; 100: a request could not be served any more. Each told once a month."""

    kind: ClassVar[str] = "budget.reached"
    owner: ClassVar[Owner] = Owner.METERING
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.ENDPOINT_API})

    tenant_id: str
    project_id: str = Field(default="", description="Empty: the budget of the tenant as a whole.")
    period: str
    percent: int
    tokens_per_month: int
    tokens_spent: int
    money_per_month_nano: int | None = Field(
        default=None, description="If it is the budget in money that was reached: billionths of the book's currency."
    )
    money_spent_nano: int | None = Field(default=None, description="What the ledger's tokens of it cost so far.")
    currency: str | None = None
    key_id: str = Field(
        default="", description="If it is the budget of a key: the first of the keys that spend it one after the other."
    )


class UsagePart(Contract):
    """So much of a window is of one adapter, or of one class of nodes."""

    quantity: int = Field(ge=0)
    adapter: str = Field(
        default="", description="The adapter that answered; of adapter_ms the one that was loaded. Empty: no adapter."
    )
    node_class: str = Field(
        default="", description="For gpu_ms and node_ms: the node type, `<provider>.<type>`. Else empty."
    )


class UsageRecorded(Event):
    """One billable window of one meter, account and model. A later revision of the same window replaces the earlier."""

    kind: ClassVar[str] = "usage.recorded"
    owner: ClassVar[Owner] = Owner.METERING

    tenant_id: str
    project_id: str
    endpoint_id: str
    model: str
    tier: str
    region: str
    meter: Meter
    account: str = Field(
        default="",
        description="For gpu_ms and node_ms: loading, serving, draining, idle_owned or stranded. Else empty.",
    )
    quantity: int = Field(ge=0)
    window_start_ms: int
    window_end_ms: int
    revision: int = Field(ge=1)
    tenancy: str = Field(
        default="", description="tenant_cluster, private_nodes, shared_pool or vnode; empty where nobody said."
    )
    parts: tuple[UsagePart, ...] = Field(
        default=(),
        description="The quantity by adapter and class of nodes; they add up to it. Empty: it is of none.",
    )
