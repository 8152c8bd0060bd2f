"""Decide for tenants: what each is entitled to, its quota, its projects. Made by an operator, never forgotten.

A project that is taken away has its counter of endpoints filled up in the same commit, which only works while it has
none and leaves room for no other: so no endpoint can be made in a project that is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

from libs.common.bus.streams import QUOTAS
from libs.common.decision import Decision, Give, Put, Take
from libs.common.errors import Conflict, NotFound
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event, Internal, Owner
from libs.common.events.tables import QuotaEntry
from libs.common.events.tenant import NO_LIMITS, BudgetWarned, ProjectChanged, Quota, TenantChanged
from libs.common.events.usage import BudgetReached
from libs.common.ids import ProjectId, TenantId
from services.endpoint_api.core import quotas
from services.endpoint_api.core.commands import Command
from services.endpoint_api.core.refusal import FieldRefused

PROJECTS_MAX: Final = 100  # A tenant's record has them all; it is read for each request.
NO_PROJECT_HERE: Final = "no such project in this tenant"
NO_TENANT_HERE: Final = "no such tenant"


class CreateTenant(Command):
    """Record a tenant with its first projects."""

    kind: ClassVar[str] = "internal.create_tenant"

    display_name: str
    tiers: tuple[str, ...]
    quota: Quota
    projects: tuple[str, ...]


class ChangeTenant(Command):
    """Change what an operator says of a tenant; None leaves it as it is."""

    kind: ClassVar[str] = "internal.change_tenant"

    display_name: str | None = None
    tiers: tuple[str, ...] | None = None
    quota: Quota | None = None
    suspended: bool | None = None


class PutProject(Command):
    """Make a project, or give one that is there another quota."""

    kind: ClassVar[str] = "internal.put_project"

    project_id: str
    quota: Quota
    is_new: bool


class RemoveProject(Command):
    """Take away a project that has no endpoints."""

    kind: ClassVar[str] = "internal.remove_project"

    project_id: str


class PutTenantAgain(Internal):
    """The bucket `quotas` does not say of this tenant and its projects what the record says."""

    kind: ClassVar[str] = "internal.put_tenant_again"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API


@dataclass(frozen=True, slots=True)
class Project:
    """A part of a tenant with endpoints, keys and members of its own. One `removed` is kept, so that its name tells."""

    id: ProjectId
    created_ms: int
    quota: Quota = NO_LIMITS
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Tenant:
    """A customer. `tiers` are those it may use besides the open ones; `created_ms` None: nobody made it yet."""

    id: TenantId
    display_name: str = ""
    created_ms: int | None = None
    tiers: tuple[str, ...] = ()
    quota: Quota = NO_LIMITS
    projects: tuple[Project, ...] = ()
    suspended: bool = False

    @property
    def is_known(self) -> bool:
        """Whether an operator, or the first key of an install, made it."""
        return self.created_ms is not None

    def project(self, project_id: str) -> Project | None:
        """The project of this id that is there."""
        return next((each for each in self.live_projects() if each.id == project_id), None)

    def live_projects(self) -> tuple[Project, ...]:
        """The projects that are there, in the order in which they were made."""
        return tuple(each for each in self.projects if not each.removed)


def decide(tenant: Tenant, envelope: Envelope, now_ms: int) -> Decision[Tenant]:
    """The tenant after ``envelope``."""
    if isinstance(envelope.data, CreateTenant):
        return _create(tenant, envelope.data, now_ms)
    if isinstance(envelope.data, BudgetReached):
        return Decision(tenant, events=_warned(tenant, envelope.data))
    if not tenant.is_known:
        raise NotFound(NO_TENANT_HERE)
    match envelope.data:
        case ChangeTenant() as command:
            return _change(tenant, command)
        case PutProject() as command:
            return _put_project(tenant, command, now_ms)
        case RemoveProject() as command:
            return _remove_project(tenant, command)
        case PutTenantAgain():
            return Decision(tenant, puts=puts_of(tenant))
        case other:
            raise AssertionError(f"tenants hear no {other.kind}")


def puts_of(tenant: Tenant) -> tuple[Put, ...]:
    """All that the bucket is to say of the tenant and its projects."""
    removed = tuple(each for each in tenant.projects if each.removed)
    return (
        _entry(tenant),
        *(_project_entry(tenant, each) for each in tenant.live_projects()),
        *(Put(QUOTAS, f"{tenant.id}.{each.id}", None) for each in removed),
    )


def _create(tenant: Tenant, command: CreateTenant, now_ms: int) -> Decision[Tenant]:
    if tenant.is_known:
        raise Conflict("a tenant of this id is there already; choose another id, or change that one", code="name_taken")
    made = replace(
        tenant,
        created_ms=now_ms,
        display_name=command.display_name,
        tiers=command.tiers,
        quota=command.quota,
        projects=tuple(Project(ProjectId(each), now_ms) for each in command.projects),
    )
    projects = made.live_projects()
    return Decision(made, events=(_told(made), *(_project_told(made, each) for each in projects)), puts=puts_of(made))


def _change(tenant: Tenant, command: ChangeTenant) -> Decision[Tenant]:
    changed = replace(
        tenant,
        display_name=tenant.display_name if command.display_name is None else command.display_name,
        tiers=tenant.tiers if command.tiers is None else command.tiers,
        quota=tenant.quota if command.quota is None else command.quota,
        suspended=tenant.suspended if command.suspended is None else command.suspended,
    )
    if changed == tenant:
        return Decision(tenant)
    return Decision(changed, events=(_told(changed),), puts=(_entry(changed),))


def _put_project(tenant: Tenant, command: PutProject, now_ms: int) -> Decision[Tenant]:
    known = next((each for each in tenant.projects if each.id == command.project_id), None)
    is_there = known is not None and not known.removed
    if is_there and command.is_new:
        raise Conflict("a project of this tenant has this id already; choose another", code="name_taken")
    if not is_there and not command.is_new:
        raise NotFound(NO_PROJECT_HERE)
    above = quotas.above(command.quota, tenant.quota)
    if above:
        message = "is more than the tenant may have; lower it, or ask the operator for a higher quota of the tenant"
        raise FieldRefused(f"quota.{above}", message, code="above_tenant_quota")
    if known is None and len(tenant.projects) >= PROJECTS_MAX:
        raise Conflict(f"a tenant has at most {PROJECTS_MAX} projects, removed ones too", code="too_many_projects")
    project = Project(ProjectId(command.project_id), known.created_ms if known else now_ms, command.quota)
    if project == known:
        return Decision(tenant)
    returns = known is not None and known.removed
    return Decision(
        _with(tenant, project),
        events=(_project_told(tenant, project),),
        counters=(Give(_door(tenant, project), quotas.UNLIMITED),) if returns else (),
        puts=(_project_entry(tenant, project),),
    )


def _remove_project(tenant: Tenant, command: RemoveProject) -> Decision[Tenant]:
    known = tenant.project(command.project_id)
    if known is None:
        raise NotFound(NO_PROJECT_HERE)
    removed = replace(known, removed=True)
    return Decision(
        _with(tenant, removed),
        events=(_project_told(tenant, removed),),
        counters=(Take(_door(tenant, removed), quotas.UNLIMITED, quotas.UNLIMITED),),
        puts=(Put(QUOTAS, f"{tenant.id}.{removed.id}", None),),
    )


def _warned(tenant: Tenant, reached: BudgetReached) -> tuple[BudgetWarned, ...]:
    """What each project that spends the budget is told; of a tenant that nobody made, nobody hears."""
    whose = [reached.project_id] if reached.project_id else [each.id for each in tenant.live_projects()]
    is_money = reached.money_per_month_nano is not None
    return tuple(
        BudgetWarned(
            tenant_id=tenant.id,
            project_id=each,
            of="key" if reached.key_id else "project" if reached.project_id else "tenant",
            key_id=reached.key_id,
            period=reached.period,
            percent=reached.percent,
            tokens_spent=reached.tokens_spent,
            tokens_per_month=None if is_money else reached.tokens_per_month,
            money_spent_nano=reached.money_spent_nano,
            money_per_month_nano=reached.money_per_month_nano,
            currency=reached.currency,
        )
        for each in whose
        if tenant.is_known
    )


def _with(tenant: Tenant, project: Project) -> Tenant:
    others = tuple(each for each in tenant.projects if each.id != project.id)
    return replace(tenant, projects=(*others, project))


def _door(tenant: Tenant, project: Project) -> str:
    return quotas.counter_of(quotas.ENDPOINTS, tenant_id=tenant.id, project_id=project.id)


def _told(tenant: Tenant) -> Event:
    return TenantChanged(
        tenant_id=tenant.id,
        display_name=tenant.display_name,
        tiers=tenant.tiers,
        quota=tenant.quota,
        suspended=tenant.suspended,
    )


def _project_told(tenant: Tenant, project: Project) -> Event:
    return ProjectChanged(tenant_id=tenant.id, project_id=project.id, quota=project.quota, removed=project.removed)


def _entry(tenant: Tenant) -> Put:
    """What routers allow the tenant per minute: nothing at all while it is suspended."""
    quota = tenant.quota
    entry = QuotaEntry(
        tenant_id=tenant.id,
        requests_per_minute=0 if tenant.suspended else quota.requests_per_minute,
        tokens_per_minute=quota.tokens_per_minute,
        concurrency=quota.concurrency,
        tokens_per_month=quotas.tokens_of(tokens=quota.tokens_per_month, nano=quota.money_per_month_nano),
        money_per_month_nano=quota.money_per_month_nano,
    )
    return Put(QUOTAS, tenant.id, entry.model_dump_json().encode())


def _project_entry(tenant: Tenant, project: Project) -> Put:
    quota = project.quota
    entry = QuotaEntry(
        tenant_id=tenant.id,
        project_id=project.id,
        requests_per_minute=quota.requests_per_minute,
        tokens_per_minute=quota.tokens_per_minute,
        concurrency=quota.concurrency,
        tokens_per_month=quotas.tokens_of(tokens=quota.tokens_per_month, nano=quota.money_per_month_nano),
        money_per_month_nano=quota.money_per_month_nano,
    )
    return Put(QUOTAS, f"{tenant.id}.{project.id}", entry.model_dump_json().encode())
