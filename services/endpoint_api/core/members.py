"""Decide for members: which person or service account has which role, in a tenant or in one project of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, Final

from libs.common.decision import Decision, Give, Take
from libs.common.errors import Conflict, NotFound
from libs.common.events.envelope import Envelope
from libs.common.events.tenant import MemberChanged
from libs.common.ids import short_id
from services.endpoint_api.core.caller import Caller, Scope
from services.endpoint_api.core.commands import Command
from services.endpoint_api.core.refusal import Forbidden
from services.endpoint_api.core.roles import SCOPES, Role

MEMBERS_MAX: Final = 1000  # Per tenant; they are listed in one answer.
NO_MEMBER: Final = "no such member"  # The same for another tenant's and for one that never was.


class MemberKind(StrEnum):
    """Who signs in: somebody through an identity provider, or a program by keys that are bound to it."""

    PERSON = "person"
    SERVICE_ACCOUNT = "service_account"


class PutMember(Command):
    """Give somebody a role, or another one."""

    kind: ClassVar[str] = "internal.put_member"

    tenant_id: str
    project_id: str
    subject: str
    member_kind: MemberKind
    role: Role


class RemoveMember(Command):
    """Take the role away."""

    kind: ClassVar[str] = "internal.remove_member"


@dataclass(frozen=True, slots=True)
class Member:
    """A role of somebody. `key` is the record's: the tenant, then `id`. `project_id` empty: in the whole tenant.

    `subject` is an e-mail address or ``<issuer>:<subject>`` for a person, a name for a service account.
    """

    key: str
    tenant_id: str = ""
    project_id: str = ""
    subject: str = ""
    kind: MemberKind = MemberKind.PERSON
    role: Role | None = None
    since_ms: int = 0

    @property
    def id(self) -> str:
        """What the API calls it."""
        return self.key.partition("/")[2]


def member_key(*, tenant_id: str, project_id: str, kind: MemberKind, subject: str) -> str:
    """The record of this somebody's role in this place: one at most."""
    return f"{tenant_id}/{short_id('mb', tenant_id, project_id, kind, subject)}"


def decide(member: Member, envelope: Envelope, now_ms: int) -> Decision[Member]:
    """The member after ``envelope``."""
    match envelope.data:
        case PutMember() as command:
            return _put(member, command, now_ms)
        case RemoveMember():
            return _remove(member)
        case other:
            raise AssertionError(f"members hear no {other.kind}")


def scopes_in(members: Iterable[Member], project_id: str) -> frozenset[Scope]:
    """What these roles of one somebody in one tenant allow together in a project; empty id: in the whole tenant."""
    places = {"", project_id}
    held = (SCOPES[each.role] for each in members if each.role is not None and each.project_id in places)
    return frozenset[Scope]().union(*held)


def may_manage(caller: Caller, project_id: str) -> bool:
    """Whether the caller decides who has which role in a project; empty id: in the whole tenant."""
    managing = {Scope.MEMBERS, Scope.OPERATE}
    in_project = project_id != "" and caller.project_id == project_id and not caller.scopes.isdisjoint(managing)
    return in_project or not caller.tenant_scopes.isdisjoint(managing)


def check_has_project(caller: Caller) -> None:
    """Raises Forbidden for a caller that named a tenant only: a key is of one project."""
    if not caller.project_id:
        raise Forbidden("say in X-Millrace-Project which project the key is for", code="project_not_chosen")


def scope_of_member(member: Member) -> str:
    """Where all roles of one person are found; a service account is found by its key."""
    return person(member.subject) if member.role is not None and member.kind is MemberKind.PERSON else ""


def person(subject: str) -> str:
    """The store's scope of a person's roles."""
    return f"person/{subject}"


def _put(member: Member, command: PutMember, now_ms: int) -> Decision[Member]:
    if member.role is command.role:
        return Decision(member)
    if member.role is not None and member.kind is MemberKind.SERVICE_ACCOUNT:
        message = "a service account keeps its role, as its keys do; remove it, which revokes them, and make another"
        raise Conflict(message, code="role_is_fixed")
    put = replace(
        member,
        tenant_id=command.tenant_id,
        project_id=command.project_id,
        subject=command.subject,
        kind=command.member_kind,
        role=command.role,
        since_ms=now_ms,
    )
    is_new = member.role is None
    taken = (Take(_counter(put), 1, MEMBERS_MAX),) if is_new else ()
    return Decision(put, events=(_told(put, command.role),), about=put.id, counters=taken)


def _remove(member: Member) -> Decision[Member]:
    if not member.tenant_id:
        raise NotFound(NO_MEMBER)
    if member.role is None:
        return Decision(member)
    removed = replace(member, role=None)
    told = _told(member, member.role, removed=True)
    return Decision(removed, events=(told,), about=member.id, counters=(Give(_counter(member), 1),))


def _counter(member: Member) -> str:
    return f"members/{member.tenant_id}"


def _told(member: Member, role: Role, *, removed: bool = False) -> MemberChanged:
    return MemberChanged(
        tenant_id=member.tenant_id,
        project_id=member.project_id,
        member_id=member.id,
        member_kind=member.kind,
        role=role,
        removed=removed,
    )
