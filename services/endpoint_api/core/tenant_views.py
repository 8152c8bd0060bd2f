"""Tenants, projects, members and quotas as those who may see them see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pydantic import Field

from libs.common.events.tenant import EVERY_OTHER, Quota, Quotas
from services.endpoint_api.core import quotas
from services.endpoint_api.core.members import Member
from services.endpoint_api.core.shown import View, rfc3339
from services.endpoint_api.core.tenants import Project, Tenant


class ProjectView(View):
    """A project of a tenant, and what it may have at most; the tenant's quota holds besides."""

    id: str
    created_at: str
    quota: Quota


class TenantView(View):
    """A tenant as an operator and its own members see it."""

    id: str
    display_name: str
    created_at: str
    tiers: tuple[str, ...] = Field(description="Tiers it may use besides those open to everybody; `*`: all.")
    quota: Quota
    suspended: bool
    projects: tuple[ProjectView, ...]


class MemberView(View):
    """A role of somebody."""

    id: str
    kind: str = Field(description="person or service_account.")
    subject: str = Field(description="E-mail address or `<issuer>:<subject>`; of a service account, its name.")
    role: str
    project_id: str = Field(description="Empty: in the whole tenant.")
    since: str


class UseView(View):
    """One limit and how much of it is used."""

    level: str = Field(description="tenant or project: both hold.")
    resource: str = Field(
        description="endpoints, replicas, gpus, requests_per_minute, tokens_per_minute, concurrency, "
        "tokens_per_month, "
        "money_per_month_nano."
    )
    node_class: str = Field(description="Of `gpus`: the class of nodes that is counted; else empty.")
    limit: int | None = Field(description="None: no limit.")
    used: int | None = Field(description="None for what is counted where it is served.")


def project_view(project: Project) -> ProjectView:
    """The project."""
    return ProjectView(id=project.id, created_at=rfc3339(project.created_ms), quota=project.quota)


def tenant_view(tenant: Tenant, *, only_project: str = "") -> TenantView:
    """The tenant; with ``only_project``, as somebody of that project sees it."""
    assert tenant.created_ms is not None, tenant.id
    projects = (each for each in tenant.live_projects() if only_project in ("", each.id))
    return TenantView(
        id=tenant.id,
        display_name=tenant.display_name,
        created_at=rfc3339(tenant.created_ms),
        tiers=tenant.tiers,
        quota=tenant.quota,
        suspended=tenant.suspended,
        projects=tuple(map(project_view, projects)),
    )


def member_view(member: Member) -> MemberView:
    """The member."""
    assert member.role is not None, member.key
    return MemberView(
        id=member.id,
        kind=member.kind,
        subject=member.subject,
        role=member.role,
        project_id=member.project_id,
        since=rfc3339(member.since_ms),
    )


def uses(
    both: Quotas, *, tenant_id: str, project_id: str, node_types: Iterable[str], held: Callable[[str], int]
) -> Iterator[UseView]:
    """Every limit that holds, with what is ``held`` of it by its counter; GPUs of each of ``node_types``."""
    classes = sorted({*node_types, *both.tenant.gpus, *both.project.gpus} - {EVERY_OTHER})
    levels = [("tenant", both.tenant, "")] + ([("project", both.project, project_id)] if project_id else [])
    for level, quota, project in levels:
        for resource in (quotas.ENDPOINTS, quotas.REPLICAS, *map(quotas.gpus_of, classes)):
            kind, _, node_class = resource.partition(":")
            limit = quotas.limit_of(quota, resource)
            yield UseView(
                level=level,
                resource=kind,
                node_class=node_class,
                limit=None if limit == quotas.UNLIMITED else limit,
                used=held(quotas.counter_of(resource, tenant_id=tenant_id, project_id=project)),
            )
        for name, most in (
            ("requests_per_minute", quota.requests_per_minute),
            ("tokens_per_minute", quota.tokens_per_minute),
            ("concurrency", quota.concurrency),
            ("tokens_per_month", quota.tokens_per_month),
            ("money_per_month_nano", quota.money_per_month_nano),
        ):
            yield UseView(level=level, resource=name, node_class="", limit=most, used=None)
