"""People: what an identity provider says of who signed in, and which project of which tenant they then ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from libs.common.ids import ProjectId, TenantId
from services.endpoint_api.core.admission import check_name
from services.endpoint_api.core.caller import Caller
from services.endpoint_api.core.members import Member, MemberKind, scopes_in
from services.endpoint_api.core.refusal import FieldRefused, Forbidden, Unauthorized
from services.endpoint_api.core.roles import SCOPES, Role
from services.endpoint_api.core.tenants import Tenant

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")  # Asymmetric only: whoever checks a token must not be able to make one.
SUBJECT: Final = re.compile(r"[!-~]{1,255}")
ISSUER_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
EMAIL: Final = re.compile(r"[^@:\s]{1,64}@[^@:\s]{1,189}")  # No colon: that is how issuers' names end.
LISTED_MAX: Final = 20  # Projects named in a refusal; more help nobody.
PROJECT_HEADER: Final = "X-Millrace-Project"


@dataclass(frozen=True, slots=True)
class Issuer:
    """An identity provider that is believed, and what of its tokens.

    `name` is ours and begins its people's names. A person is an operator whose `operator_claim` has one of
    `operator_values`, or whose subject is in `operator_subjects`.
    """

    name: str
    issuer: str
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...] = ALGORITHMS
    trusts_email: bool = True
    operator_claim: str = ""
    operator_values: tuple[str, ...] = ()
    operator_subjects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed in. `names` are all that a membership may call them; the first never changes and is the actor's."""

    names: tuple[str, ...]
    is_operator: bool = False


def identity_of(issuer: Issuer, claims: Mapping[str, object]) -> Identity:
    """Who the holder of a token with these verified claims is. Raises Unauthorized if they name nobody."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or SUBJECT.fullmatch(subject) is None:
        raise Unauthorized("the token has no subject that can be used")
    names = [f"{issuer.name}:{subject}"]
    email = claims.get("email")
    if issuer.trusts_email and claims.get("email_verified") is True and isinstance(email, str):
        names.extend([email.lower()] if EMAIL.fullmatch(email) else [])
    held = claims.get(issuer.operator_claim) if issuer.operator_claim else None
    values = held if isinstance(held, list) else [held]
    is_operator = subject in issuer.operator_subjects or any(each in values for each in issuer.operator_values)
    return Identity(tuple(names), is_operator)


def check_subject(kind: MemberKind, subject: str) -> str:
    """The subject as it is stored. Raises FieldRefused for one that nobody could ever sign in as."""
    if kind is MemberKind.SERVICE_ACCOUNT:
        check_name(subject, field="subject")
        return subject
    if EMAIL.fullmatch(subject):
        return subject.lower()
    issuer, _, rest = subject.partition(":")
    if ISSUER_NAME.fullmatch(issuer) is None or SUBJECT.fullmatch(rest) is None:
        raise FieldRefused("subject", "must be an e-mail address, or '<issuer>:<subject>' as the issuer says it")
    return subject


def places(roles: Sequence[Member], tenants: Mapping[str, Tenant]) -> tuple[str, ...]:
    """All ``<tenant>/<project>`` in which these roles of one person hold, in order."""
    found = set()
    for role in roles:
        tenant = tenants.get(role.tenant_id)
        for project in tenant.live_projects() if tenant else ():
            if role.project_id in ("", project.id):
                found.add(f"{role.tenant_id}/{project.id}")
    return tuple(sorted(found))


def as_member(identity: Identity, roles: Sequence[Member], tenants: Mapping[str, Tenant], wanted: str) -> Caller:
    """The person as who asks in the ``wanted`` project: ``<tenant>/<project>``, ``<tenant>`` for a tenant as a whole,
    or empty for the only one there is.

    Raises Forbidden, in the same words for a project that is another's and for one that never was.
    """
    may = places(roles, tenants)
    whole = {role.tenant_id for role in roles if role.project_id == "" and role.tenant_id in tenants}
    if not wanted and len(may) != 1:
        raise _unchosen(may or tuple(sorted(whole)))
    chosen = wanted or may[0]
    if chosen not in may and chosen not in whole:
        raise not_a_member()
    tenant_id, _, project_id = chosen.partition("/")
    check_active(tenants[tenant_id])
    here = [role for role in roles if role.tenant_id == tenant_id]
    tenant_scopes = scopes_in(here, "")
    return Caller(
        TenantId(tenant_id),
        ProjectId(project_id),
        f"user:{identity.names[0]}",
        scopes_in(here, project_id) if project_id else frozenset(),
        tenant_scopes,
    )


def as_operator(actor: str, wanted: str, tenant: Tenant | None) -> Caller:
    """An operator as who asks: of everything, or of the ``wanted`` tenant or project. Raises Forbidden if not there."""
    tenant_id, _, project_id = wanted.partition("/")
    if wanted and (tenant is None or (project_id and tenant.project(project_id) is None)):
        raise not_a_member()
    held = frozenset(SCOPES[Role.OPERATOR])
    return Caller(TenantId(tenant_id), ProjectId(project_id), f"operator:{actor}", held, held)


def check_active(tenant: Tenant) -> None:
    """Raises Forbidden while the tenant is suspended."""
    if tenant.suspended:
        raise Forbidden("this tenant is suspended; ask the operator why", code="tenant_suspended")


def not_a_member() -> Forbidden:
    """The refusal of a project that the caller has nothing to do with, whether it is there or not."""
    message = f"{PROJECT_HEADER} names no project that you have a role in; leave it out, or name one of yours"
    return Forbidden(message, code="not_a_member")


def _unchosen(may: tuple[str, ...]) -> Forbidden:
    if not may:
        return Forbidden("you are signed in but a member of nothing; ask an owner to add you", code="not_a_member")
    listed = ", ".join(may[:LISTED_MAX])
    return Forbidden(f"say in {PROJECT_HEADER} which of your projects you mean: {listed}", code="project_not_chosen")
