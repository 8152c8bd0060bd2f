"""Everything that may be asked of endpoint-api, by noun: what its doors open to, and what the simulation calls."""

from __future__ import annotations

from libs.common.service import Service
from services.endpoint_api.shell.dispatching import Dispatcher
from services.endpoint_api.shell.doors.once import Once
from services.endpoint_api.shell.feed import Feed
from services.endpoint_api.shell.learning import Learner
from services.endpoint_api.shell.owners import Homes
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.proofs import Proofs
from services.endpoint_api.shell.secrets import Secrets
from services.endpoint_api.shell.sender import HttpSender
from services.endpoint_api.shell.tenancy import Tenancy
from services.endpoint_api.shell.verbs.audit import AuditVerbs
from services.endpoint_api.shell.verbs.carrying_out import Hand
from services.endpoint_api.shell.verbs.domains import DomainVerbs
from services.endpoint_api.shell.verbs.endpoints import EndpointVerbs
from services.endpoint_api.shell.verbs.keys import KeyVerbs
from services.endpoint_api.shell.verbs.members import MemberVerbs
from services.endpoint_api.shell.verbs.offers import OfferVerbs
from services.endpoint_api.shell.verbs.operations import OperationVerbs
from services.endpoint_api.shell.verbs.tenants import TenantVerbs
from services.endpoint_api.shell.verbs.watch import WatchVerbs
from services.endpoint_api.shell.verbs.webhooks import WebhookVerbs
from services.endpoint_api.shell.verbs.why import WhyVerbs
from services.endpoint_api.shell.views import Views


class Api:
    """The verbs, by noun."""

    def __init__(self, service: Service, ports: Ports) -> None:
        tenancy = Tenancy.of(service, ports)
        self.learner = Learner(
            service.runner("endpoint"),
            service.runner("durations"),
            service.runner("follower"),
            ports.store,
            ports.clock,
        )
        views = Views(self.learner, tenancy, ports.clock)
        hand = Hand(service.runner("endpoint"), ports, tenancy, self.learner)
        self.endpoints = EndpointVerbs(service.runner("endpoint"), ports, tenancy, views, hand)
        self.operations = OperationVerbs(service.runner("endpoint"), ports, tenancy, hand)
        self.keys = KeyVerbs(service.runner("key"), ports)
        self.tenants = TenantVerbs(tenancy, ports)
        self.members = MemberVerbs(tenancy, self.keys, service.runner("key"), ports)
        self.proofs = Proofs(service.runner("endpoint"), tenancy, self.endpoints, ports)
        self.domains = DomainVerbs(service.runner("domain"), self.proofs, ports)
        self.offers = OfferVerbs(tenancy)
        self.once = Once(service.runner("request"), ports.clock, ports.entropy)
        self.audit = AuditVerbs(ports)
        secrets, homes = Secrets(ports.store, ports.entropy, ports.master_secret), Homes(service.runner("endpoint"))
        local = ports.webhooks_to_loopback
        self.why = WhyVerbs(service.runner("endpoint"), views, ports)
        self.watch = WatchVerbs(self.endpoints, Feed(ports.store, homes), secrets)
        self.webhooks = WebhookVerbs(service.runner("webhook"), ports, secrets, allow_local=local)
        self.dispatcher = Dispatcher(
            service.runner("webhook"), ports.store, ports.clock, secrets, HttpSender(allow_local=local), homes
        )
