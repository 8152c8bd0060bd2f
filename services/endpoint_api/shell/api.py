"""Everything that may be asked of endpoint-api, by noun: what its doors open to, and what the simulation calls."""

from __future__ import annotations

from libs.common.service import Service
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.tenancy import Tenancy
from services.endpoint_api.shell.verbs.audit import AuditVerbs
from services.endpoint_api.shell.verbs.endpoints import EndpointVerbs
from services.endpoint_api.shell.verbs.keys import KeyVerbs
from services.endpoint_api.shell.verbs.members import MemberVerbs
from services.endpoint_api.shell.verbs.offers import OfferVerbs
from services.endpoint_api.shell.verbs.operations import OperationVerbs
from services.endpoint_api.shell.verbs.tenants import TenantVerbs


class Api:
    """The verbs, by noun."""

    def __init__(self, service: Service, ports: Ports) -> None:
        tenancy = Tenancy(service.runner("tenant"), service.runner("member"), ports)
        self.endpoints = EndpointVerbs(service.runner("endpoint"), ports, tenancy)
        self.operations = OperationVerbs(service.runner("endpoint"), ports, tenancy)
        self.keys = KeyVerbs(service.runner("key"), ports)
        self.tenants = TenantVerbs(tenancy, ports)
        self.members = MemberVerbs(tenancy, self.keys, service.runner("key"), ports)
        self.offers = OfferVerbs(tenancy)
        self.audit = AuditVerbs(ports)
