"""What holds for a caller's tenant and project: quotas, roles, domains; read from the records each time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from libs.common.errors import QuotaExceeded
from libs.common.events.tenant import NO_LIMITS, Quotas
from libs.common.runner import Runner
from libs.common.service import Service
from services.endpoint_api.core import domains, quotas
from services.endpoint_api.core.admission import request_key
from services.endpoint_api.core.caller import Ask, Caller
from services.endpoint_api.core.catalogue import Catalogue
from services.endpoint_api.core.commands import Command
from services.endpoint_api.core.domains import Domain
from services.endpoint_api.core.members import Member, person
from services.endpoint_api.core.tenants import Tenant
from services.endpoint_api.shell.ports import Ports

ROLES_MAX: Final = 100  # Roles of one person that count, over all tenants.


class Tenancy:
    """The tenants and members as stored."""

    def __init__(
        self, tenants: Runner[Tenant], members: Runner[Member], domains_: Runner[Domain], ports: Ports
    ) -> None:
        self.tenants = tenants
        self.members = members
        self.domains = domains_
        self._ports = ports

    @classmethod
    def of(cls, service: Service, ports: Ports) -> Tenancy:
        """Those of a service."""
        return cls(service.runner("tenant"), service.runner("member"), service.runner("domain"), ports)

    def tenant(self, tenant_id: str) -> Tenant | None:
        """The tenant; None if nobody made it."""
        tenant = self.tenants.state(tenant_id) if tenant_id else None
        return tenant if tenant is not None and tenant.is_known else None

    def quotas(self, caller: Caller) -> Quotas:
        """The quotas that hold for the caller now; where the operator set none for a tenant, those of the install."""
        tenant = self.tenant(caller.tenant_id)
        project = tenant.project(caller.project_id) if tenant else None
        stated = tenant.quota if tenant else NO_LIMITS
        return Quotas(
            tenant=quotas.with_default(stated, endpoints=self._ports.endpoints_max),
            project=project.quota if project else NO_LIMITS,
        )

    def catalogue(self, caller: Caller) -> Catalogue:
        """What the caller's tenant may buy."""
        tenant = self.tenant(caller.tenant_id)
        return self._ports.catalogue.for_tenant(tenant.tiers if tenant else ())

    def domain_of(self, caller: Caller, hostname: str) -> str:
        """The caller's verified domain that a host name is below; empty without a host name. Raises FieldRefused."""
        address = domains.address_of(hostname, caller.tenant_id, self.domains.state)
        return address.domain if address else ""

    def everything(self) -> Catalogue:
        """All that is sold, to whomever."""
        return self._ports.catalogue

    def roles_of(self, subjects: Sequence[str]) -> tuple[Member, ...]:
        """All roles of a person, by each of the names that the person is known by."""
        return tuple(each for one in subjects for each in self.members.states(scope=person(one), limit=ROLES_MAX))

    def role(self, key: str) -> Member | None:
        """A member by its record; None if it has no role (any more)."""
        member = self.members.state(key)
        return member if member is not None and member.role is not None else None

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Says of a QuotaExceeded which quota it was, its limit, what is held, and what to do."""
        try:
            yield
        except QuotaExceeded as refusal:
            if (address := domains.refused(refusal.counter)) is not None:
                raise address from None
            if not quotas.is_quota(refusal.counter):
                raise
            held = self._ports.store.counter(refusal.counter)
            message = quotas.over(refusal.counter, wanted=refusal.wanted, limit=refusal.limit, held=held)
            raise QuotaExceeded(message, counter=refusal.counter, wanted=refusal.wanted, limit=refusal.limit) from None


def request_of(ask: Ask, command: Command) -> str:
    """What makes a change one: the same ask with the same content is one command, with other content another."""
    request = request_key(idempotency_key=ask.idempotency_key, request_id=ask.request_id)
    content = command.model_dump_json(exclude={"request_id"}).encode()
    return f"{request}|{hashlib.sha256(content).hexdigest()}"
