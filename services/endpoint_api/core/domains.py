"""Domains that tenants have proved to be theirs, and the host names below them that endpoints are called by.

The proof is a TXT record that only whoever writes the domain's zone can make, and that says which tenant may use it. A
domain is one tenant's at a time; below it, a domain of its own that somebody else proved is that one's. A host name is
one endpoint's at a time: a counter of its own, taken in the commit that asks for it. A domain is given up by filling
its counter of host names, which only works while it has none (as projects are taken away, see `tenants`). One whose
proof is gone for long lapses (`proofs`): then another tenant that proves it has it, and former host names are taken.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from libs.common.decision import Decision, Give, Take
from libs.common.errors import NotFound
from libs.common.events.endpoint import HOSTNAME
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal, Owner
from libs.common.events.tenant import DomainChanged
from services.endpoint_api.core.commands import Command
from services.endpoint_api.core.proofs import Proof, Standing, looked
from services.endpoint_api.core.quotas import UNLIMITED
from services.endpoint_api.core.refusal import FieldRefused

RECORD: Final = "_millrace"  # The label below the domain at which its proof is.
FORM: Final = re.compile(HOSTNAME)
NO_DOMAIN: Final = "no such domain among those that your organisation has verified"
GONE: Final = "whose proof is gone: put the TXT record back, then verify the domain again"
NAMES: Final = "hostnames"  # The counter of a domain's host names in use,
NAME: Final = "hostname"  # and that of one of them: 0 or 1.


class ClaimDomain(Command):
    """The proof was seen: this tenant may name endpoints below the domain."""

    kind: ClassVar[str] = "internal.claim_domain"

    tenant_id: str


class ProofLooked(Internal):
    """Its proof was looked for again, and DNS answered; `projects` of its tenant hear what comes of it."""

    kind: ClassVar[str] = "internal.proof_looked"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    tenant_id: str
    is_there: bool
    projects: tuple[str, ...]


class NamesTaken(Internal):
    """No endpoint of a tenant that had it before is called by it any more."""

    kind: ClassVar[str] = "internal.names_taken"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API


class ReleaseDomain(Command):
    """The tenant names nothing below it any more."""

    kind: ClassVar[str] = "internal.release_domain"

    tenant_id: str


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain, and who proved it last."""

    name: str
    tenant_id: str = ""
    verified_ms: int = 0
    is_given_up: bool = False  # Then its counter of host names is full.
    proof: Proof = field(default_factory=Proof)
    has_strangers: bool = False  # Endpoints of the tenant that had it before may still be called by it.

    @property
    def holder(self) -> str:
        """Whose it is; nobody's before the first proof, and after it was given up."""
        return "" if self.is_given_up else self.tenant_id


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A host name that an endpoint is called by, and the verified domain that it is below."""

    hostname: str
    domain: str


def decide(domain: Domain, envelope: Envelope, now_ms: int) -> Decision[Domain]:
    """The domain after ``envelope``."""
    match envelope.data:
        case ClaimDomain(tenant_id=tenant_id) if domain.holder == tenant_id:
            return Decision(domain)
        case ClaimDomain(tenant_id=tenant_id) if not domain.holder:
            opened = (Give(_names_of(domain.name), UNLIMITED),) if domain.is_given_up else ()
            return Decision(Domain(domain.name, tenant_id, now_ms, proof=_seen(now_ms)), counters=opened)
        case ClaimDomain(tenant_id=tenant_id) if domain.proof.standing is Standing.LAPSED:
            return Decision(Domain(domain.name, tenant_id, now_ms, proof=_seen(now_ms), has_strangers=True))
        case ClaimDomain():
            message = "is another organisation's: it has to be given up there before it can be verified here"
            raise FieldRefused("domain", message, code="domain_taken")
        case ProofLooked() as look:
            return _looked(domain, look, now_ms)
        case NamesTaken():
            return Decision(replace(domain, has_strangers=False))
        case ReleaseDomain(tenant_id=tenant_id) if domain.holder == tenant_id:
            given_up = replace(domain, is_given_up=True)
            return Decision(given_up, counters=(Take(_names_of(domain.name), UNLIMITED, UNLIMITED),))
        case ReleaseDomain():
            raise NotFound(NO_DOMAIN)
        case other:
            raise AssertionError(f"domains hear no {other.kind}")


def _looked(domain: Domain, look: ProofLooked, now_ms: int) -> Decision[Domain]:
    """Its projects are told when it stands otherwise. A look at what is another's by now says nothing."""
    if domain.holder != look.tenant_id:
        return Decision(domain)
    proof = looked(domain.proof, is_there=look.is_there, now_ms=now_ms)
    if proof.standing is domain.proof.standing:
        return Decision(replace(domain, proof=proof))
    told = tuple(
        DomainChanged(
            tenant_id=domain.tenant_id,
            project_id=each,
            domain=domain.name,
            status=proof.standing,
            proof_seen_ms=proof.seen_ms or domain.proof.seen_ms or domain.verified_ms,
            lapses_ms=proof.lapses_ms or None,
        )
        for each in look.projects
    )
    return Decision(replace(domain, proof=proof), events=told)


def _seen(now_ms: int) -> Proof:
    return looked(Proof(), is_there=True, now_ms=now_ms)


def check(domain: str, *, field: str = "domain") -> None:
    """Raises FieldRefused unless ``domain`` is written as one."""
    if not domain or len(domain) + len(RECORD) > 252 or FORM.fullmatch(domain) is None:
        raise FieldRefused(field, "must be a domain such as example.com, in lower case and without a dot at the end")


def record_of(domain: str) -> str:
    """The name at which the proof is looked for."""
    return f"{RECORD}.{domain}"


def proof_of(domain: str, tenant_id: str) -> str:
    """The text that says that the tenant may use the domain; of no use to anybody else, so it is no secret."""
    return f"millrace-verify={hashlib.sha256(f'{tenant_id}|{domain}'.encode()).hexdigest()[:40]}"


def is_proved(domain: str, tenant_id: str, texts: Iterable[str]) -> bool:
    """Whether the texts found there have the proof."""
    return proof_of(domain, tenant_id) in {each.strip() for each in texts}


def check_proof(domain: str, tenant_id: str, texts: Iterable[str]) -> None:
    """Raises FieldRefused, saying what is due, unless the texts found there have the proof."""
    if not is_proved(domain, tenant_id, texts):
        proof = proof_of(domain, tenant_id)
        message = f"needs a TXT record at {RECORD} below it with the text {proof}; make it, wait, and ask again"
        raise FieldRefused("domain", message, code="domain_not_verified")


def above(hostname: str) -> Iterator[str]:
    """The domains that a host name is below, itself first: what might have been verified."""
    while "." in hostname:
        yield hostname
        hostname = hostname.partition(".")[2]


def address_of(hostname: str, tenant_id: str, domain_of: Callable[[str], Domain | None]) -> Address | None:
    """The address that an endpoint of the tenant has by this host name; None without one.

    The nearest domain above it that anybody verified says whose it is. Raises FieldRefused where that is not the
    tenant; what is another's and what is nobody's look the same.
    """
    if not hostname:
        return None
    for each in above(hostname):
        found = domain_of(each)
        if found is not None and found.holder:
            if found.holder != tenant_id:
                break
            if found.proof.standing is not Standing.VERIFIED:
                raise FieldRefused("spec.hostname", f"is below {each}, {GONE}", code="domain_lapsing")
            return Address(hostname, each)
    message = "must be below a domain that your organisation has verified: `POST /v1/domains` says how"
    raise FieldRefused("spec.hostname", message, code="hostname_not_yours")


def moves(before: Iterable[Address], after: Iterable[Address]) -> tuple[Take | Give, ...]:
    """The moves of the counters when an endpoint had these addresses and has those."""
    had, has = set(before), set(after)
    found: list[Take | Give] = []
    for each in sorted(has - had):
        found += [Take(f"{NAME}/{each.hostname}", 1, 1), Take(_names_of(each.domain), 1, UNLIMITED)]
    for each in sorted(had - has):
        found += [Give(f"{NAME}/{each.hostname}", 1), Give(_names_of(each.domain), 1)]
    return tuple(found)


def refused(counter: str) -> FieldRefused | None:
    """Why a counter had no room for an address; None if the counter is not one of these."""
    kind = counter.partition("/")[0]
    if kind == NAME:
        return FieldRefused("spec.hostname", "is another endpoint's; take it from that first", code="hostname_taken")
    if kind == NAMES:
        return FieldRefused("spec.hostname", "is below a domain that was given up", code="hostname_not_yours")
    return None


def _names_of(domain: str) -> str:
    return f"{NAMES}/{domain}"
