"""Routes on tenants, their projects and quotas."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from libs.common.events.command import STRICT
from libs.common.events.tenant import Quota
from services.endpoint_api.core.tenant_views import ProjectView, TenantView, UseView
from services.endpoint_api.shell.bodies import COUNT_MAX
from services.endpoint_api.shell.routes.asking import Asking, Verbs, Who

router: Final = APIRouter(tags=["tenants"])

Name = Annotated[str, Field(min_length=1, max_length=40)]
Names = Annotated[list[Name], Field(max_length=100)]
DisplayName = Annotated[str, Field(min_length=1, max_length=200)]


class QuotaBody(Quota):
    """The most of each; what is left out has no limit of its own."""

    model_config = STRICT

    endpoints: int | None = Field(default=None, ge=0, le=COUNT_MAX)
    replicas: int | None = Field(default=None, ge=0, le=COUNT_MAX)
    gpus: dict[Annotated[str, Field(max_length=100)], Annotated[int, Field(ge=0, le=COUNT_MAX)]] = Field(
        default_factory=dict, max_length=50, description="Node class -> GPUs; `*` is for each that is not named."
    )
    requests_per_minute: int | None = Field(default=None, ge=0, le=COUNT_MAX)
    tokens_per_minute: int | None = Field(default=None, ge=0, le=COUNT_MAX)
    tokens_per_month: int | None = Field(default=None, ge=0, le=COUNT_MAX, description="A budget; never passed.")
    money_per_month_nano: int | None = Field(
        default=None, ge=0, le=COUNT_MAX, description="A budget for tokens, in billionths of the price book's currency."
    )
    concurrency: int | None = Field(default=None, ge=0, le=COUNT_MAX, description="Requests at once, waiting ones too.")

    def quota(self) -> Quota:
        """The same as the contract's own record."""
        return Quota.model_validate(self.model_dump())


class CreateTenantBody(BaseModel):
    """POST /v1/tenants."""

    model_config = STRICT

    id: Name = Field(description="1 to 40 of a-z, 0-9 and '-'.")
    display_name: DisplayName
    tiers: Names = Field(default=[], description="Tiers it may use besides those open to everybody; `*`: all.")
    quota: QuotaBody = QuotaBody()
    projects: Names = Field(default=[], description="Ids of its first projects.")


class ChangeTenantBody(BaseModel):
    """PATCH /v1/tenants/{id}: what is left out stays."""

    model_config = STRICT

    display_name: DisplayName | None = None
    tiers: Names | None = None
    quota: QuotaBody | None = Field(default=None, description="In place of the whole quota there was.")
    suspended: bool | None = None


class CreateProjectBody(BaseModel):
    """POST /v1/projects."""

    model_config = STRICT

    id: Name = Field(description="1 to 40 of a-z, 0-9 and '-'.")
    quota: QuotaBody = QuotaBody()


class ChangeProjectBody(BaseModel):
    """PATCH /v1/projects/{id}."""

    model_config = STRICT

    quota: QuotaBody = Field(description="In place of the whole quota there was; never above the tenant's.")


class TenantList(BaseModel):
    """One page of tenants."""

    model_config = ConfigDict(frozen=True)

    items: tuple[TenantView, ...]
    next_cursor: str | None


class ProjectList(BaseModel):
    """The projects of the tenant that the caller has a role in."""

    model_config = ConfigDict(frozen=True)

    items: tuple[ProjectView, ...]


class QuotaList(BaseModel):
    """Every limit that holds, and how much of it is used."""

    model_config = ConfigDict(frozen=True)

    items: tuple[UseView, ...]


@router.post("/tenants", status_code=201)
def create_tenant(ask: Asking, verbs: Verbs, response: Response, body: CreateTenantBody) -> TenantView:
    """Make a tenant with its first projects; for operators."""
    made = verbs.tenants.create(
        ask,
        body.id,
        display_name=body.display_name,
        tiers=body.tiers,
        quota=body.quota.quota(),
        projects=body.projects,
    )
    response.headers["location"] = f"/v1/tenants/{made.id}"
    return made


@router.get("/tenants")
def list_tenants(
    who: Who, verbs: Verbs, cursor: Annotated[str, Query(max_length=64)] = "", limit: int = 50
) -> TenantList:
    """All tenants; for operators."""
    page = verbs.tenants.list(who, cursor=cursor, limit=limit)
    return TenantList(items=page.items, next_cursor=page.next_cursor)


@router.get("/tenants/{tenant_id}")
def get_tenant(who: Who, verbs: Verbs, tenant_id: str) -> TenantView:
    """A tenant: any for an operator, for everybody else their own."""
    return verbs.tenants.get(who, tenant_id)


@router.patch("/tenants/{tenant_id}")
def change_tenant(ask: Asking, verbs: Verbs, tenant_id: str, body: ChangeTenantBody) -> TenantView:
    """Rename, entitle, limit, suspend or bring back a tenant; for operators."""
    return verbs.tenants.change(
        ask,
        tenant_id,
        display_name=body.display_name,
        tiers=body.tiers,
        quota=body.quota.quota() if body.quota is not None else None,
        suspended=body.suspended,
    )


@router.get("/projects")
def list_projects(who: Who, verbs: Verbs) -> ProjectList:
    """The projects of the tenant; who has a role in one only sees that one."""
    return ProjectList(items=verbs.tenants.projects(who))


@router.post("/projects", status_code=201)
def create_project(ask: Asking, verbs: Verbs, response: Response, body: CreateProjectBody) -> ProjectView:
    """Make a project; for owners of the tenant and operators."""
    made = verbs.tenants.put_project(ask, body.id, quota=body.quota.quota(), is_new=True)
    response.headers["location"] = f"/v1/projects/{made.id}"
    return made


@router.patch("/projects/{project_id}")
def change_project(ask: Asking, verbs: Verbs, project_id: str, body: ChangeProjectBody) -> ProjectView:
    """Give a project another quota, never above the tenant's; for owners of the tenant and operators."""
    return verbs.tenants.put_project(ask, project_id, quota=body.quota.quota(), is_new=False)


@router.delete("/projects/{project_id}", status_code=204)
def remove_project(ask: Asking, verbs: Verbs, project_id: str) -> Response:
    """Take away a project that has no endpoints; its keys are refused from then on."""
    verbs.tenants.remove_project(ask, project_id)
    return Response(status_code=204)


@router.get("/quotas")
def list_quotas(who: Who, verbs: Verbs) -> QuotaList:
    """Every limit that holds for the tenant and the project, and how much of it is used."""
    return QuotaList(items=verbs.tenants.quotas(who))
