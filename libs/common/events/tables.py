"""Values of the key-value buckets `keys` and `routes`: what a router, or a new one, serves from."""

from __future__ import annotations

from pydantic import Field

from libs.common.events.endpoint import Limits
from libs.common.events.event import Contract
from libs.common.events.runtime import Replica


class KeyEntry(Contract):
    """An API key as those who check it know it: never the key, only its hash. Bucket key: `key_id`."""

    key_id: str
    sha256: str = Field(description="Hex digest, see libs.common.keys.digest.")
    tenant_id: str
    project_id: str
    scopes: tuple[str, ...] = Field(description="inference, read, manage.")
    expires_at_ms: int | None = None
    models: tuple[str, ...] = Field(default=(), description="Names of the only endpoints it may use; empty: all.")
    allowed_ips: tuple[str, ...] = Field(default=(), description="CIDR blocks it may be used from; empty: any.")
    concurrency: int | None = Field(default=None, description="Requests at once; null: any number.")
    budget: str = Field(
        default="",
        description="Of its own, beside those of its project and tenant: `<tenant>.<project>.<key>`, with the id of the"
        " first of the keys that follow one another; empty: none.",
    )
    tokens_per_month: int | None = Field(default=None, description="Of its budget, as in a quota.")
    money_per_month_nano: int | None = Field(default=None, description="Of its budget, as in a quota.")
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = Field(default=None, description="Prompt and completion.")


class RouteEntry(Contract):
    """An endpoint as the data plane serves it; clients name it by `name` in `model`. Bucket key: `endpoint_id`."""

    endpoint_id: str
    tenant_id: str
    project_id: str
    name: str
    generation: int
    model: str
    tier: str
    region: str
    replicas: tuple[Replica, ...]
    published_at_ms: int
    limits: Limits = Limits()
    paused: bool = Field(default=False, description="Known, kept and not running: requests are refused and told so.")
    surfaces: tuple[str, ...] = Field(
        default=(), description="OpenAI calls that it answers, as in Placement; empty: chat and completions."
    )
    interrupted: str = Field(default="delivered", description="What a stream owes that is cut short, as in Placement.")
    wakes: bool = Field(
        default=False, description="May sleep without replicas: requests are held while the first of them wakes it."
    )
    replacing: bool = Field(
        default=False, description="Its replicas are being replaced: requests that find none are held until one comes."
    )

    adapters: tuple[str, ...] = Field(
        default=(), description="Adapters that it offers, whether a replica has them loaded at the moment or not."
    )
    tenancy: str = Field(default="", description="As in Placement; empty: not known.")
    hostname: str = Field(default="", description="Host name of the tenant's own by which clients may call it.")

    @property
    def keeps_waiting(self) -> bool:
        """Whether requests that find no replica are held rather than refused."""
        return self.wakes or self.replacing


class QuotaEntry(Contract):
    """What a tenant, or a project of it, may send per minute. Bucket key: `<tenant>` or `<tenant>.<project>`."""

    tenant_id: str
    project_id: str = Field(default="", description="Empty: for the tenant as a whole.")
    concurrency: int | None = Field(default=None, description="Requests at once.")
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = Field(default=None, description="Prompt and completion.")
    tokens_per_month: int | None = Field(
        default=None, description="The budget of a month of UTC; a router serves only from a slice that it was granted."
    )
    money_per_month_nano: int | None = Field(
        default=None,
        description="The same in money, for metering, which grants no more tokens than it pays; with tokens_per_month.",
    )


class SliceEntry(Contract):
    """What a router process may spend of a budget. Bucket key: `<instance>.<budget>`."""

    budget: str
    period: str
    boot_id: str
    granted: int = Field(description="Tokens granted to this boot in all.")
    left: int = Field(description="Tokens of the budget that nobody was granted.")


class HostRoute(Contract):
    """What a router's host serves of one endpoint."""

    mark: int = Field(description="Of the entry that all of its workers serve from; 0: they differ, or have none.")
    lets_in: bool = Field(description="Whether any of them would serve a new request.")
    live: int = Field(default=0, description="Requests that run; told of what lets nobody in any more.")
    cut: int = Field(default=0, description="How many were cut; told of what lets nobody in any more.")


class HostEntry(Contract):
    """What a router's host says of itself, to the one with the control half, and that one to it.

    Bucket key: `instance`.
    """

    instance: str
    boot_id: str
    at_ms: int = Field(description="When it was said; a host says it again every two seconds.")
    routes: dict[str, HostRoute] = Field(default={}, description="By endpoint, each that it serves or that still runs.")
    cutting: tuple[str, ...] = Field(
        default=(), description="Endpoints whose requests every host is to end now; the control half's word."
    )


class CountsEntry(Contract):
    """What a router's host admitted within the last minute, for the limits of the others. Bucket key: `instance`."""

    instance: str
    boot_id: str
    second: int = Field(description="Its own steady clock; the seconds in `counts` are of the same.")
    counts: dict[str, tuple[tuple[int, int, int], ...]] = Field(
        default={}, description="By bucket of limits: second, requests and tokens that count in it."
    )
    running: dict[str, int] = Field(default={}, description="By bucket that limits requests at once: how many run.")


class ConfirmedEntry(Contract):
    """Requests of a host without control half that the ledger has. Bucket key: `<instance>.<n>`, in a ring.

    Of one that is overwritten before it was read the requests are reported again, and confirmed again.
    """

    instance: str
    request_ids: tuple[str, ...]
