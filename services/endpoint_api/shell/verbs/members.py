"""The verbs on members: who has which role, in a tenant or in one project of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

from libs.common.errors import NotFound
from libs.common.runner import Runner
from libs.common.telemetry.logging import fields
from services.endpoint_api.core import admission, members, tenant_views
from services.endpoint_api.core.caller import KEY_SCOPES, Ask, Caller, Scope
from services.endpoint_api.core.commands import Command, RevokeKey, command_envelope
from services.endpoint_api.core.identity import check_subject
from services.endpoint_api.core.members import NO_MEMBER, Member, MemberKind, PutMember, RemoveMember
from services.endpoint_api.core.refusal import FieldRefused, Forbidden
from services.endpoint_api.core.roles import MEMBER_ROLES, SCOPES, Role
from services.endpoint_api.core.state import Key, home_of
from services.endpoint_api.core.tenant_views import MemberView
from services.endpoint_api.core.tenants import NO_PROJECT_HERE
from services.endpoint_api.shell import metrics
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.tenancy import Tenancy, request_of
from services.endpoint_api.shell.verbs.keys import KeyVerbs, NewKey

log = logging.getLogger(__name__)

PAGE: Final = 200  # Records read at once; bounds memory.


class MemberVerbs:
    """What owners do with members: of the tenant those who own it, of a project also those who own that project."""

    def __init__(self, tenancy: Tenancy, keys: KeyVerbs, stored_keys: Runner[Key], ports: Ports) -> None:
        self._tenancy = tenancy
        self._stored_keys = stored_keys
        self._keys = keys
        self._ports = ports

    def put(self, ask: Ask, *, kind: MemberKind, subject: str, role: Role, project_id: str) -> MemberView:
        """Give somebody a role in a project (empty: in the whole tenant), in place of the one they have there."""
        with metrics.counted("put_member"):
            ask.caller.needs_anywhere(Scope.MEMBERS, Scope.OPERATE)
            if not members.may_manage(ask.caller, project_id):
                message = "your role is in another place; ask an owner of the tenant"
                raise Forbidden(message, code="missing_scope")
            subject = check_subject(kind, subject)
            if role not in MEMBER_ROLES:
                raise FieldRefused("role", f"must be one of {', '.join(sorted(MEMBER_ROLES))}")
            tenant = self._tenancy.tenant(ask.caller.tenant_id)
            if tenant is None or (project_id and tenant.project(project_id) is None):
                raise NotFound(NO_PROJECT_HERE)
            command = PutMember(
                actor=ask.caller.actor,
                request_id=ask.request_id,
                tenant_id=tenant.id,
                project_id=project_id,
                subject=subject,
                member_kind=kind,
                role=role,
            )
            key = members.member_key(tenant_id=tenant.id, project_id=project_id, kind=kind, subject=subject)
            return tenant_views.member_view(self._take(ask, key, command))

    def list(self, caller: Caller) -> tuple[MemberView, ...]:
        """The members that the caller may manage: of the tenant, or of the project only."""
        caller.needs_anywhere(Scope.MEMBERS, Scope.OPERATE)
        whole = not caller.tenant_scopes.isdisjoint({Scope.MEMBERS, Scope.OPERATE})
        return tuple(
            tenant_views.member_view(each)
            for each in self._all(caller.tenant_id)
            if each.role is not None and (whole or each.project_id == caller.project_id)
        )

    def remove(self, ask: Ask, member_id: str) -> None:
        """Take somebody's role away; of a service account, all its keys are revoked. Again, nothing changes."""
        with metrics.counted("remove_member"):
            member = self._find(ask.caller, member_id)
            self._take(ask, member.key, RemoveMember(actor=ask.caller.actor, request_id=ask.request_id))
            if member.kind is MemberKind.SERVICE_ACCOUNT:
                self._revoke_keys_of(ask, member)

    def create_key(self, ask: Ask, member_id: str, *, name: str, expires_in_s: int | None = None) -> NewKey:
        """Make a key of a service account in the caller's project: it may do what the account's role may."""
        member = self._find(ask.caller, member_id)
        members.check_has_project(ask.caller)
        if member.role is None or member.kind is not MemberKind.SERVICE_ACCOUNT:
            raise NotFound(NO_MEMBER)
        scopes = sorted(SCOPES[member.role] & set(KEY_SCOPES))
        return self._keys.create(ask, name=name, scopes=scopes, expires_in_s=expires_in_s, member=member.key)

    def _find(self, caller: Caller, member_id: str) -> Member:
        """Raises NotFound, in the same words for another's, for one that never was, and for one above the caller."""
        caller.needs_anywhere(Scope.MEMBERS, Scope.OPERATE)
        is_id = admission.MEMBER_ID_FORM.fullmatch(member_id) is not None
        member = self._tenancy.members.state(f"{caller.tenant_id}/{member_id}") if is_id else None
        if member is None or not members.may_manage(caller, member.project_id):
            raise NotFound(NO_MEMBER)
        return member

    def _all(self, tenant_id: str) -> Iterator[Member]:
        """Everybody who ever had a role in the tenant: their records' keys begin with it."""
        prefix = f"{tenant_id}/"
        after, page = prefix, self._tenancy.members.states(after=prefix, limit=PAGE)
        while page:
            for each in page:
                if not each.key.startswith(prefix):
                    return
                yield each
            after = page[-1].key
            page = self._tenancy.members.states(after=after, limit=PAGE)

    def _take(self, ask: Ask, key: str, command: Command) -> Member:
        """The same ask with the same content is one command; with other content, another."""
        once = request_of(ask, command)
        envelope = command_envelope(key, command, self._ports.clock.now_ms(), ask.traceparent, ask=once)
        member = self._tenancy.members.take(key, envelope)
        log.info("member changed", extra=fields(tenant_id=member.tenant_id))
        return member

    def _revoke_keys_of(self, ask: Ask, member: Member) -> None:
        """Also those that an earlier attempt left: it may have ended in the middle."""
        tenant = self._tenancy.tenant(member.tenant_id)
        for project in tenant.projects if tenant else ():
            for key in self._stored_keys.every(scope=home_of(member.tenant_id, project.id)):
                if key.member == member.key and key.revoked_ms is None:
                    command = RevokeKey(actor=ask.caller.actor, request_id=ask.request_id)
                    self._stored_keys.take(key.id, command_envelope(key.id, command, self._ports.clock.now_ms()))
