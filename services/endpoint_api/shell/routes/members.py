"""Routes on members: people and service accounts with a role."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from libs.common.events.command import STRICT
from services.endpoint_api.core.members import MemberKind
from services.endpoint_api.core.roles import MEMBER_ROLES, Role
from services.endpoint_api.core.tenant_views import MemberView
from services.endpoint_api.shell.routes.asking import Asking, Verbs, Who
from services.endpoint_api.shell.routes.keys import NewKeyView

router: Final = APIRouter(tags=["members"])


class PutMemberBody(BaseModel):
    """POST /v1/members: a role in place of the one that this somebody has there."""

    model_config = STRICT

    kind: Annotated[MemberKind, Field(strict=False)] = MemberKind.PERSON
    subject: str = Field(
        min_length=1,
        max_length=300,
        description="E-mail address, or `<issuer>:<subject>`; of a service account, a name of a-z, 0-9 and '-'.",
    )
    role: Annotated[Role, Field(strict=False)] = Field(description=f"One of {', '.join(sorted(MEMBER_ROLES))}.")
    project_id: str = Field(default="", max_length=40, description="Left out: in the whole tenant.")


class CreateMemberKeyBody(BaseModel):
    """POST /v1/members/{id}/keys."""

    model_config = STRICT

    name: str = Field(max_length=40, description="1 to 40 of a-z, 0-9 and '-', for people to tell keys apart.")
    expires_in_s: int | None = Field(default=None, description="Seconds until it is refused; left out: never.")


class MemberList(BaseModel):
    """The members that the caller may manage."""

    model_config = ConfigDict(frozen=True)

    items: tuple[MemberView, ...]


@router.post("/members")
def put_member(ask: Asking, verbs: Verbs, body: PutMemberBody) -> MemberView:
    """Give somebody a role; for owners of the project or the tenant, and operators."""
    return verbs.members.put(ask, kind=body.kind, subject=body.subject, role=body.role, project_id=body.project_id)


@router.get("/members")
def list_members(who: Who, verbs: Verbs) -> MemberList:
    """Who has a role in the tenant; for owners of a project only, in that project."""
    return MemberList(items=verbs.members.list(who))


@router.delete("/members/{member_id}", status_code=204)
def remove_member(ask: Asking, verbs: Verbs, member_id: str) -> Response:
    """Take somebody's role away; a service account's keys are revoked with it."""
    verbs.members.remove(ask, member_id)
    return Response(status_code=204)


@router.post("/members/{member_id}/keys", status_code=201)
def create_member_key(
    ask: Asking, verbs: Verbs, response: Response, member_id: str, body: CreateMemberKeyBody
) -> NewKeyView:
    """Make a key of a service account; the answer is the only place that ever shows it."""
    made = verbs.members.create_key(ask, member_id, name=body.name, expires_in_s=body.expires_in_s)
    response.headers["cache-control"] = "no-store"
    response.headers["location"] = f"/v1/keys/{made.key.id}"
    return NewKeyView(**made.key.model_dump(), key=made.plaintext)
