"""Looks again at the proofs of domains, a few a pass, and takes host names from endpoints whose domain is another's."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from libs.common.errors import MillraceError, Unavailable
from libs.common.events.endpoint import Stage
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal
from libs.common.ids import event_id
from libs.common.runner import Runner
from libs.common.telemetry.logging import fields
from services.endpoint_api.core import domains
from services.endpoint_api.core.caller import Ask, Caller, Scope
from services.endpoint_api.core.domains import Domain, NamesTaken, ProofLooked
from services.endpoint_api.core.proofs import due_ms
from services.endpoint_api.core.state import Endpoint
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.tenancy import Tenancy
from services.endpoint_api.shell.verbs.endpoints import EndpointVerbs

log = logging.getLogger(__name__)

UNANSWERED_MAX: Final = 3  # Of a pass, each of seconds: more, and it is our resolvers that are silent, not one zone.
LOOKS_MAX: Final = 50  # Of a pass: ten minutes later comes the next, so that is 7,000 domains a day.
ENDING: Final = frozenset({Stage.DRAINING, Stage.DELETING})  # They give it back by themselves.
ACTOR: Final = "service:endpoint-api"


class Proofs:
    """The second and all later looks. Several processes do no harm: a look that is due counts once."""

    def __init__(self, endpoints: Runner[Endpoint], tenancy: Tenancy, verbs: EndpointVerbs, ports: Ports) -> None:
        self._endpoints = endpoints
        self._tenancy = tenancy
        self._verbs = verbs
        self._ports = ports
        self._last = ""  # The domain that was looked at last: the next pass begins behind it.

    def run(self) -> int:
        """One pass; how many proofs were looked at.

        Raises Unavailable where DNS did not answer. Of those nothing is said; they hold up no other.
        """
        known = tuple(each for each in self._tenancy.domains.every() if each.holder)
        for each in known:
            if each.has_strangers:
                self._take_names(each)
        unanswered: list[Unavailable] = []
        due = self._due(known)
        for each in due:
            self._last = each.name
            try:
                self.look(each)
            except Unavailable as trouble:
                unanswered.append(trouble)
            if len(unanswered) == UNANSWERED_MAX:
                break
        if unanswered:
            raise unanswered[0]
        return len(due)

    def _due(self, known: Iterable[Domain]) -> list[Domain]:
        """Whose turn it is, in a circle of their names."""
        now_ms = self._ports.clock.now_ms()
        due = [each for each in known if due_ms(each.name, each.proof, since_ms=each.verified_ms) <= now_ms]
        return sorted(due, key=lambda each: (each.name <= self._last, each.name))[:LOOKS_MAX]

    def look(self, domain: Domain) -> Domain:
        """Look at one now. Raises Unavailable where DNS does not answer."""
        return self.saw(domain, self._ports.dns.texts(domains.record_of(domain.name)))

    def saw(self, domain: Domain, texts: Iterable[str]) -> Domain:
        """Take in what DNS said."""
        is_there = domains.is_proved(domain.name, domain.holder, texts)
        tenant = self._tenancy.tenant(domain.holder)
        projects = tuple(each.id for each in tenant.live_projects()) if tenant else ()
        after = self._tell(domain, ProofLooked(tenant_id=domain.holder, is_there=is_there, projects=projects))
        if after.proof.standing is not domain.proof.standing:
            standing = after.proof.standing
            log.info("domain stands otherwise", extra=fields(tenant_id=domain.holder, reason=standing))
        return after

    def _take_names(self, domain: Domain) -> None:
        """Of endpoints that were called by the domain when it was another tenant's; said once none is left."""
        left = [
            each
            for each in self._endpoints.every()
            if each.tenant_id != domain.holder and any(one.domain == domain.name for one in each.addresses)
        ]
        for each in left:
            self._take_name(each)
        if not left:
            self._tell(domain, NamesTaken())

    def _take_name(self, endpoint: Endpoint) -> None:
        """As its tenant would, whatever stage it is in. What failed is paused first: an update would start it anew."""
        caller = Caller(endpoint.tenant_id, endpoint.project_id, ACTOR, frozenset({Scope.MANAGE}))
        ask = Ask(caller, f"domain-lost-{endpoint.generation}")
        try:
            if endpoint.stage is Stage.FAILED:
                self._verbs.pause(ask, endpoint.id)
            elif endpoint.stage not in ENDING:
                self._verbs.update(ask, endpoint.id, changes={"hostname": None})
        except MillraceError as refusal:
            log.warning("host name not taken", extra=fields(endpoint_id=endpoint.id, reason=str(refusal)))

    def _tell(self, domain: Domain, said: Internal) -> Domain:
        now_ms, last_ms = self._ports.clock.now_ms(), max(domain.proof.looked_ms, domain.verified_ms)
        cause = event_id(domain.name, f"{said.kind}|{last_ms}", 0)  # Whoever looks, the first counts.
        return self._tenancy.domains.take(domain.name, Envelope(cause, said, subject=domain.name, time_ms=now_ms))
