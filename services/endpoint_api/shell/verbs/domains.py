"""The verbs on domains: prove one, see what is proved, give one up."""

from __future__ import annotations

import logging
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from libs.common.errors import Conflict, NotFound, QuotaExceeded
from libs.common.runner import Runner
from libs.common.telemetry.logging import fields
from services.endpoint_api.core import domains
from services.endpoint_api.core.caller import Ask, Caller, Scope
from services.endpoint_api.core.commands import Command, command_envelope
from services.endpoint_api.core.domains import NO_DOMAIN, ClaimDomain, Domain, ReleaseDomain
from services.endpoint_api.core.proofs import Standing
from services.endpoint_api.core.refusal import FieldRefused
from services.endpoint_api.core.shown import rfc3339
from services.endpoint_api.shell import metrics
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.proofs import Proofs
from services.endpoint_api.shell.tenancy import request_of

log = logging.getLogger(__name__)

DOMAINS_MAX: Final = 100  # Of one tenant: each is kept for ever.


class DomainView(BaseModel):
    """A domain of the tenant, and what proves it."""

    model_config = ConfigDict(frozen=True)

    domain: str
    verified: bool
    verified_at: str | None = Field(description="When its proof was seen first; null before.")
    status: str = Field(description="unverified, verified, lapsing or lapsed: whether its proof is still there.")
    proof_seen_at: str | None = Field(description="When its proof was seen last; it is looked for daily.")
    lapses_at: str | None = Field(description="While its proof is gone: from when on another tenant may verify it.")
    record_name: str = Field(description="Where the proof is looked for: a TXT record of this name.")
    record_text: str = Field(description="What it says.")


class DomainVerbs:
    """What a tenant does with domains. All raise Forbidden for a missing scope."""

    def __init__(self, domains_: Runner[Domain], proofs: Proofs, ports: Ports) -> None:
        self._domains = domains_
        self._proofs = proofs
        self._ports = ports

    def verify(self, ask: Ask, domain: str) -> DomainView:
        """Look for the proof, and keep that it was seen; asked again, nothing changes.

        Raises FieldRefused, which says what proves it, and Unavailable if DNS does not answer.
        """
        with metrics.counted("verify_domain"):
            ask.caller.needs(Scope.MANAGE)
            domains.check(domain)
            tenant_id = ask.caller.tenant_id
            known = self._domains.state(domain)
            if known is not None and known.holder == tenant_id:
                standing = known.proof.standing
                return _view(known if standing is Standing.VERIFIED else self._look_again(known), tenant_id)
            if sum(1 for _ in self._domains.every(scope=tenant_id)) >= DOMAINS_MAX:
                raise FieldRefused("domain", f"is one too many: a tenant has at most {DOMAINS_MAX}")
            domains.check_proof(domain, tenant_id, self._ports.dns.texts(domains.record_of(domain)))
            command = ClaimDomain(actor=ask.caller.actor, request_id=ask.request_id, tenant_id=tenant_id)
            claimed = self._take(ask, domain, command)
        log.info("domain verified", extra=fields(tenant_id=tenant_id))
        return _view(claimed, tenant_id)

    def _look_again(self, known: Domain) -> Domain:
        """At one whose proof was gone. Raises FieldRefused while it is; that is not counted as a look."""
        texts = self._ports.dns.texts(domains.record_of(known.name))
        domains.check_proof(known.name, known.holder, texts)
        return self._proofs.saw(known, texts)

    def list(self, caller: Caller) -> tuple[DomainView, ...]:
        """Those that are verified, in order of their names."""
        caller.needs(Scope.READ)
        mine = caller.tenant_id
        return tuple(_view(each, mine) for each in self._domains.every(scope=mine) if each.holder == mine)

    def get(self, caller: Caller, domain: str) -> DomainView:
        """What proves it, whether or not that was seen."""
        caller.needs(Scope.READ)
        domains.check(domain)
        return _view(self._domains.state(domain) or Domain(domain), caller.tenant_id)

    def release(self, ask: Ask, domain: str) -> None:
        """Give it up. Raises Conflict while an endpoint has a host name below it."""
        with metrics.counted("release_domain"):
            ask.caller.needs(Scope.MANAGE)
            known = self._domains.state(domain)
            if known is None or known.holder != ask.caller.tenant_id:
                raise NotFound(NO_DOMAIN)
            command = ReleaseDomain(actor=ask.caller.actor, request_id=ask.request_id, tenant_id=ask.caller.tenant_id)
            try:
                self._take(ask, domain, command)
            except QuotaExceeded:
                message = "endpoints have host names below it: take these from them, or delete them, first"
                raise Conflict(message, code="domain_in_use") from None

    def _take(self, ask: Ask, domain: str, command: Command) -> Domain:
        once, now_ms = request_of(ask, command), self._ports.clock.now_ms()
        return self._domains.take(domain, command_envelope(domain, command, now_ms, ask.traceparent, ask=once))


def _view(domain: Domain, tenant_id: str) -> DomainView:
    is_mine, proof = domain.holder == tenant_id, domain.proof
    return DomainView(
        domain=domain.name,
        verified=is_mine,
        verified_at=rfc3339(domain.verified_ms) if is_mine else None,
        status=proof.standing if is_mine else "unverified",
        proof_seen_at=rfc3339(proof.seen_ms or domain.verified_ms) if is_mine else None,
        lapses_at=rfc3339(proof.lapses_ms) if is_mine and proof.lapses_ms else None,
        record_name=domains.record_of(domain.name),
        record_text=domains.proof_of(domain.name, tenant_id),
    )
