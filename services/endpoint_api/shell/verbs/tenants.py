"""The verbs on tenants and projects: operators make and limit tenants, owners make and limit projects, all read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from libs.common.errors import Conflict, NotFound, QuotaExceeded
from libs.common.events.tenant import NO_LIMITS, Quota
from libs.common.telemetry.logging import fields
from services.endpoint_api.core import admission, tenant_views
from services.endpoint_api.core.caller import Ask, Caller, Scope
from services.endpoint_api.core.commands import Command, command_envelope
from services.endpoint_api.core.refusal import FieldRefused
from services.endpoint_api.core.tenant_views import ProjectView, TenantView, UseView
from services.endpoint_api.core.tenants import (
    NO_PROJECT_HERE,
    NO_TENANT_HERE,
    ChangeTenant,
    CreateTenant,
    PutProject,
    RemoveProject,
    Tenant,
)
from services.endpoint_api.shell import metrics
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.tenancy import Tenancy, request_of

log = logging.getLogger(__name__)

LIST_MAX: Final = 200
BOOTSTRAP: Final = "operator:bootstrap"


@dataclass(frozen=True, slots=True)
class TenantPage:
    """Some tenants, and where the next ones begin; None after the last."""

    items: tuple[TenantView, ...]
    next_cursor: str | None


class TenantVerbs:
    """What operators do with tenants, owners with projects. All raise Forbidden for a missing scope."""

    def __init__(self, tenancy: Tenancy, ports: Ports) -> None:
        self._tenancy = tenancy
        self._ports = ports

    def create(
        self,
        ask: Ask,
        tenant_id: str,
        *,
        display_name: str,
        tiers: Sequence[str],
        quota: Quota,
        projects: Sequence[str],
    ) -> TenantView:
        """Make a tenant with its first projects. Raises Conflict if it is there, FieldRefused for a wrong name."""
        with metrics.counted("create_tenant"):
            ask.caller.needs(Scope.OPERATE)
            admission.check_name(tenant_id, field="id")
            for each in projects:
                admission.check_name(each, field="projects")
            if len(set(projects)) < len(projects):
                raise FieldRefused("projects", "must name each project once")
            self._check_tiers(tiers)
            command = CreateTenant(
                actor=ask.caller.actor,
                request_id=ask.request_id,
                display_name=display_name,
                tiers=tuple(tiers),
                quota=quota,
                projects=tuple(projects),
            )
            return tenant_views.tenant_view(self._take(ask, tenant_id, command))

    def list(self, caller: Caller, *, cursor: str = "", limit: int = 50) -> TenantPage:
        """All tenants, in order of their ids; for operators."""
        caller.needs(Scope.OPERATE)
        if not 1 <= limit <= LIST_MAX:
            raise FieldRefused("limit", f"must be 1 to {LIST_MAX}")
        if cursor and admission.NAME_FORM.fullmatch(cursor) is None:
            raise FieldRefused("cursor", "is not one that a list gave; begin without it")
        found = self._tenancy.tenants.states(after=cursor, limit=limit + 1)
        items = tuple(tenant_views.tenant_view(each) for each in found[:limit] if each.is_known)
        return TenantPage(items, found[limit - 1].id if len(found) > limit else None)

    def get(self, caller: Caller, tenant_id: str) -> TenantView:
        """A tenant: any for an operator, their own for everybody else."""
        caller.needs_anywhere(Scope.READ, Scope.BILLING)
        if Scope.OPERATE in caller.scopes:
            return tenant_views.tenant_view(self._known(tenant_id))
        if tenant_id != caller.tenant_id:
            raise NotFound(NO_TENANT_HERE)
        only = "" if caller.tenant_scopes else caller.project_id
        return tenant_views.tenant_view(self._known(tenant_id), only_project=only)

    def change(
        self,
        ask: Ask,
        tenant_id: str,
        *,
        display_name: str | None = None,
        tiers: Sequence[str] | None = None,
        quota: Quota | None = None,
        suspended: bool | None = None,
    ) -> TenantView:
        """Change what is given of a tenant; for operators."""
        with metrics.counted("change_tenant"):
            ask.caller.needs(Scope.OPERATE)
            self._known(tenant_id)
            self._check_tiers(tiers or ())
            command = ChangeTenant(
                actor=ask.caller.actor,
                request_id=ask.request_id,
                display_name=display_name,
                tiers=None if tiers is None else tuple(tiers),
                quota=quota,
                suspended=suspended,
            )
            return tenant_views.tenant_view(self._take(ask, tenant_id, command))

    def projects(self, caller: Caller) -> tuple[ProjectView, ...]:
        """The projects of the caller's tenant; who has a role in one project only sees that one."""
        caller.needs_anywhere(Scope.READ, Scope.BILLING)
        return self.get(caller, caller.tenant_id).projects

    def put_project(self, ask: Ask, project_id: str, *, quota: Quota, is_new: bool) -> ProjectView:
        """Make a project of the caller's tenant, or give one another quota, never above the tenant's."""
        with metrics.counted("create_project" if is_new else "change_project"):
            ask.caller.needs_in_tenant(Scope.MEMBERS, Scope.OPERATE)
            admission.check_name(project_id, field="id")
            there = self._known(ask.caller.tenant_id).project(project_id)
            if there is None and not is_new:
                raise NotFound(NO_PROJECT_HERE)
            command = PutProject(
                actor=ask.caller.actor, request_id=ask.request_id, project_id=project_id, quota=quota, is_new=is_new
            )
            project = self._take(ask, ask.caller.tenant_id, command).project(project_id)
            assert project is not None, project_id
            return tenant_views.project_view(project)

    def remove_project(self, ask: Ask, project_id: str) -> None:
        """Take away a project. Raises Conflict while it has endpoints; its keys are refused from then on."""
        with metrics.counted("remove_project"):
            ask.caller.needs_in_tenant(Scope.MEMBERS, Scope.OPERATE)
            command = RemoveProject(actor=ask.caller.actor, request_id=ask.request_id, project_id=project_id)
            try:
                self._take(ask, self._known(ask.caller.tenant_id).id, command)
            except QuotaExceeded:
                message = "the project has endpoints: delete them first, and wait until they are deleted"
                raise Conflict(message, code="project_not_empty") from None

    def quotas(self, caller: Caller) -> tuple[UseView, ...]:
        """Every limit that holds for the caller's tenant and project, and how much of it is used."""
        caller.needs_anywhere(Scope.READ, Scope.BILLING)
        if not caller.tenant_id:
            raise NotFound(NO_TENANT_HERE)
        found = tenant_views.uses(
            self._tenancy.quotas(caller),
            tenant_id=caller.tenant_id,
            project_id=caller.project_id,
            node_types=[each.node_type for each in self._tenancy.catalogue(caller).tiers],
            held=self._ports.store.counter,
        )
        return tuple(found)

    def adopt(self, tenant_id: str, project_id: str) -> None:
        """Make a tenant and project that are not there, as the first key of an install needs them. Safe to repeat.

        A project that was removed stays removed. Raises FieldRefused for a wrong name.
        """
        admission.check_name(tenant_id, field="tenant_id")
        admission.check_name(project_id, field="project_id")
        known = self._tenancy.tenant(tenant_id)
        if known is not None and any(each.id == project_id for each in known.projects):
            return
        if known is None:
            self._adopt_tenant(tenant_id, (project_id,))
            return
        command = PutProject(actor=BOOTSTRAP, project_id=project_id, quota=NO_LIMITS, is_new=True)
        envelope = command_envelope(tenant_id, command, self._ports.clock.now_ms(), ask=f"adopt {project_id}")
        self._tenancy.tenants.take(tenant_id, envelope)

    def adopt_holders(self, homes: Iterable[tuple[str, str]]) -> None:
        """Make the tenants, each with all its projects, of keys that are older than the records of tenants."""
        by_tenant: dict[str, list[str]] = {}
        for tenant_id, project_id in sorted(homes):
            by_tenant.setdefault(tenant_id, []).append(project_id)
        for tenant_id, projects in by_tenant.items():
            if self._tenancy.tenant(tenant_id) is None:
                self._adopt_tenant(tenant_id, tuple(projects))

    def _adopt_tenant(self, tenant_id: str, projects: tuple[str, ...]) -> None:
        command = CreateTenant(actor=BOOTSTRAP, display_name=tenant_id, tiers=(), quota=NO_LIMITS, projects=projects)
        envelope = command_envelope(tenant_id, command, self._ports.clock.now_ms(), ask="adopt")
        self._tenancy.tenants.take(tenant_id, envelope)

    def _take(self, ask: Ask, tenant_id: str, command: Command) -> Tenant:
        """The same ask with the same content is one command; with other content, another."""
        once = request_of(ask, command)
        envelope = command_envelope(tenant_id, command, self._ports.clock.now_ms(), ask.traceparent, ask=once)
        tenant = self._tenancy.tenants.take(tenant_id, envelope)
        log.info("tenant changed", extra=fields(tenant_id=tenant_id))
        return tenant

    def _known(self, tenant_id: str) -> Tenant:
        tenant = self._tenancy.tenant(tenant_id)
        if tenant is None:
            raise NotFound(NO_TENANT_HERE)
        return tenant

    def _check_tiers(self, tiers: Sequence[str]) -> None:
        known = {each.name for each in self._ports.catalogue.tiers} | {"*"}
        if set(tiers) - known:
            raise FieldRefused("tiers", f"must be of {', '.join(sorted(known))}")
