"""Host names of one's own: a domain that one tenant proved, endpoints called by names below it, and a stranger."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from libs.common.events.endpoint import EndpointSpec, Stage
from libs.common.events.event import Owner
from libs.common.ids import ProjectId, TenantId
from services.endpoint_api.core.caller import Ask, Caller
from services.endpoint_api.core.domains import NAME
from services.endpoint_api.core.planning import PlanView
from services.endpoint_api.core.refusal import FieldRefused
from services.endpoint_api.core.state import Endpoint
from services.endpoint_api.core.status import OperationView
from services.endpoint_api.shell.api import Api
from tests.sim.cloud import DOMAIN
from tests.sim.hosts import RouterHost
from tests.sim.looks import Checker

if TYPE_CHECKING:
    from tests.sim.world import Simulation

HOST_IS_ONES: Final = "a host name is one endpoint's at a time, of the tenant that proved its domain"
HOSTS: Final = tuple(f"{each}.{DOMAIN}" for each in ("api", "api", "eu"))  # Drawn: most want the same one.
STRANGER: Final = Caller(
    TenantId("globex"), ProjectId("default"), "key:bbbbbbbbbb", frozenset({"manage", "read", "inference"})
)


def create(api: Api, ask: Ask, name: str, spec: EndpointSpec) -> OperationView | PlanView:
    """Prove the domain and ask for an endpoint below it, and for a second of its name; a stranger does so, too.

    By no name where it is another's.
    """
    if spec.hostname:
        api.domains.verify(ask, DOMAIN)
        with contextlib.suppress(FieldRefused):
            api.endpoints.create(Ask(STRANGER, f"not-{ask.request_id}"), name="theirs", spec=spec)
    try:
        made = api.endpoints.create(ask, name=name, spec=spec)
    except FieldRefused as refusal:
        if refusal.code != "hostname_taken":
            raise
        return api.endpoints.create(ask, name=name, spec=spec.model_copy(update={"hostname": ""}))
    if spec.hostname:
        with contextlib.suppress(FieldRefused):
            api.endpoints.create(Ask(ask.caller, f"{ask.request_id}-too"), name=f"{name}-too", spec=spec)
    return made


def checkers() -> Sequence[Checker]:
    """Fresh ones for one run."""
    names = _Names()
    return (Checker(HOST_IS_ONES, names.look, names.given_back),)


class _Names:
    """Follows who has which host name."""

    def __init__(self) -> None:
        self._seen: Sequence[Endpoint] = ()

    def look(self, simulation: Simulation) -> str:
        """No two have one, and nobody has one below a domain of others."""
        endpoints = simulation.customers.endpoints()
        if endpoints is self._seen:
            return ""
        self._seen = endpoints
        holders: dict[str, Endpoint] = {}
        for endpoint in endpoints:
            for each in endpoint.addresses:
                other = holders.setdefault(each.hostname, endpoint)
                if other is not endpoint:
                    return f"{each.hostname} is called {other.id} and {endpoint.id}"
                if endpoint.tenant_id == STRANGER.tenant_id:
                    return f"{each.hostname} is {endpoint.id}'s, which is a stranger's"
        return ""

    def given_back(self, simulation: Simulation) -> str:
        """At rest routers lead each name to whoever has it, and what nobody has is counted for nobody."""
        router = simulation.hosts[Owner.ROUTER]
        assert isinstance(router, RouterHost)
        has = {name for each in self._seen for name in (address.hostname for address in each.addresses)}
        counters = simulation.hosts[Owner.ENDPOINT_API].store.counters
        counted = {name.partition("/")[2] for name, count in counters.items() if count and name.startswith(f"{NAME}/")}
        if counted != has:
            return f"host names of endpoints are {sorted(has)}, counted are {sorted(counted)}"
        for endpoint in self._seen:
            hostname = endpoint.spec.hostname if endpoint.spec else ""
            if endpoint.stage is not Stage.READY or not hostname:
                continue
            target = router.table.by_host.get(hostname)
            if target is None or target.entry.endpoint_id != endpoint.id:
                return f"{hostname} should lead to {endpoint.id}, and leads to {target and target.entry.endpoint_id}"
        return self.look(simulation)
