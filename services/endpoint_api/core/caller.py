"""Who asks, and with what: the same for a request over HTTP and a command over the bus."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from libs.common.ids import ProjectId, TenantId
from services.endpoint_api.core.refusal import Forbidden


class Scope(StrEnum):
    """What a key may do."""

    INFERENCE = "inference"
    READ = "read"
    MANAGE = "manage"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a tenant's project, the actor in it, and what the actor may do. Nothing in a request can say otherwise.

    `actor` is written into the audit: ``key:<id>`` for a program, ``user:<subject>`` for a person.
    """

    tenant_id: TenantId
    project_id: ProjectId
    actor: str
    scopes: frozenset[str]

    def needs(self, scope: Scope) -> None:
        """Raises Forbidden if the caller lacks ``scope``; to manage includes to read."""
        held = self.scopes | ({Scope.READ} if Scope.MANAGE in self.scopes else set())
        if scope not in held:
            raise Forbidden(f"this key lacks the scope {scope.value}; use a key that has it")


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
