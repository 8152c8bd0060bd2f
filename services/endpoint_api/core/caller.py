"""Who asks, and with what: the same for a request over HTTP and a command over the bus."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from libs.common.ids import ProjectId, TenantId
from services.endpoint_api.core.refusal import Forbidden


class Scope(StrEnum):
    """What a caller may do. A key for a program has some of KEY_SCOPES; a role has what its row in `roles` says."""

    INFERENCE = "inference"
    READ = "read"
    MANAGE = "manage"
    BILLING = "billing"
    MEMBERS = "members"
    OPERATE = "operate"


KEY_SCOPES: Final = (Scope.INFERENCE, Scope.READ, Scope.MANAGE)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a tenant's project, the actor in it, and what the actor may do. Nothing in a request can say otherwise.

    `actor` is written into the audit: ``key:<id>`` for a program, ``user:<subject>`` for a person, ``operator:<id>``
    for who runs the whole. `scopes` hold in the project, `tenant_scopes` for the tenant as a whole. An operator has no
    tenant but the one that it looks at.
    """

    tenant_id: TenantId
    project_id: ProjectId
    actor: str
    scopes: frozenset[str]
    tenant_scopes: frozenset[str] = frozenset()

    def needs(self, scope: Scope, *or_else: Scope) -> None:
        """Raises Forbidden if the caller has none of these scopes in the project; to manage includes to read."""
        _need(self.scopes, scope, or_else)

    def needs_in_tenant(self, scope: Scope, *or_else: Scope) -> None:
        """The same for the tenant as a whole: what a role in one project does not give."""
        _need(self.tenant_scopes, scope, or_else)

    def needs_anywhere(self, scope: Scope, *or_else: Scope) -> None:
        """The same for the project or the tenant, whichever gives it."""
        _need(self.scopes | self.tenant_scopes, scope, or_else)


@dataclass(frozen=True, slots=True)
class Ask:
    """A caller asks for a change: what comes along with every command, whichever door it came through.

    `idempotency_key` makes a repeat the same request; `if_match` is the ETag that the caller saw last (empty: any);
    with `dry_run` the answer is the plan, and nothing changes.
    """

    caller: Caller
    request_id: str = ""
    idempotency_key: str | None = None
    traceparent: str = ""
    if_match: str = ""
    dry_run: bool = False


def _need(scopes: frozenset[str], scope: Scope, or_else: tuple[Scope, ...]) -> None:
    held = scopes | ({Scope.READ} if Scope.MANAGE in scopes else set())
    if held.isdisjoint({scope, *or_else}):
        raise Forbidden(f"this key or role lacks the scope {scope.value}; use one that has it")
