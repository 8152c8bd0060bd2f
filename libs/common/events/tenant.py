"""Events and values of tenants: what a tenant may have, told by endpoint-api to whoever bills or shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from pydantic import Field

from libs.common.events.event import Contract, Event, Owner

EVERY_OTHER = "*"


class Quota(Contract):
    """The most that a tenant, or a project of it, may have at once or use in a minute; left out, there is no limit."""

    endpoints: int | None = Field(default=None, ge=0, description="Endpoints that are not deleted.")
    replicas: int | None = Field(default=None, ge=0, description="Sum of scaling.max over endpoints that run.")
    gpus: Mapping[str, int] = Field(
        default_factory=dict,
        description="Node class -> GPUs of replicas of it; `*` is for each class that is not named.",
    )
    requests_per_minute: int | None = Field(default=None, ge=0)
    tokens_per_minute: int | None = Field(default=None, ge=0, description="Prompt and completion.")
    tokens_per_month: int | None = Field(
        default=None, ge=0, description="A budget that is never passed; months of UTC."
    )
    money_per_month_nano: int | None = Field(
        default=None, ge=0, description="The same in billionths of the price book's currency, for what tokens cost."
    )
    concurrency: int | None = Field(default=None, ge=0, description="Requests at once, waiting ones too.")


NO_LIMITS: Final = Quota()


class Quotas(Contract):
    """Both quotas that hold for a change, as they were when it was admitted."""

    tenant: Quota = NO_LIMITS
    project: Quota = NO_LIMITS


class TenantChanged(Event):
    """A tenant was made, or what the operator says of it changed: this is how it is now."""

    kind: ClassVar[str] = "tenant.changed"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    tenant_id: str
    display_name: str
    tiers: tuple[str, ...] = Field(description="Tiers it may use besides those open to everybody; `*`: all.")
    quota: Quota
    suspended: bool = Field(description="Nobody in it may ask for anything; what runs goes on, its traffic is refused.")


class ProjectChanged(Event):
    """A project of a tenant was made, got another quota, or was taken away: this is how it is now."""

    kind: ClassVar[str] = "project.changed"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    tenant_id: str
    project_id: str
    quota: Quota
    removed: bool = False


class BudgetWarned(Event):
    """A project is told that so many percent of a budget that it spends are gone; 100: its requests are refused.

    Of a budget of the whole tenant each of its projects is told. Each percentage is told once a month, of tokens and of
    money.
    """

    kind: ClassVar[str] = "budget.warned"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    tenant_id: str
    project_id: str = Field(description="Who is told.")
    of: str = Field(description="Whose budget it is: tenant, project or key.")
    key_id: str = Field(default="", description="Of a key's budget: the first of the keys that spend it in turn.")
    period: str = Field(description="The month of UTC, such as 2026-11.")
    percent: int
    tokens_spent: int
    tokens_per_month: int | None = Field(default=None, description="If it is the budget in tokens.")
    money_spent_nano: int | None = Field(default=None, description="If it is the one in money.")
    money_per_month_nano: int | None = None
    currency: str | None = None


class DomainChanged(Event):
    """A project is told that a domain of its tenant stands otherwise: its proof in DNS is gone, or there again.

    While it is `lapsing` or `lapsed`, endpoints below it are served on, and no new host names are given. Once it has
    `lapsed`, another tenant that proves it has it, and the former host names are taken from their endpoints.
    """

    kind: ClassVar[str] = "domain.changed"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    tenant_id: str
    project_id: str = Field(description="Who is told.")
    domain: str
    status: str = Field(description="verified, lapsing or lapsed.")
    proof_seen_ms: int = Field(description="When the proof was last seen.")
    lapses_ms: int | None = Field(default=None, description="From when on another tenant may have it.")


class MemberChanged(Event):
    """Somebody has a role in a tenant or project from now on, or no longer. Who it is, only the API says."""

    kind: ClassVar[str] = "member.changed"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    tenant_id: str
    project_id: str = Field(description="Empty: in the tenant as a whole.")
    member_id: str
    member_kind: str = Field(description="person or service_account.")
    role: str = Field(description="owner, developer, viewer or billing.")
    removed: bool = False
