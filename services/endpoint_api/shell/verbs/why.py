"""The verb that says why an endpoint is not serving, and what may be done; and when it will be ready."""

from __future__ import annotations

from libs.common.runner import Runner
from services.endpoint_api.core.caller import Caller, Scope
from services.endpoint_api.core.outlook import WhyView
from services.endpoint_api.core.state import Endpoint
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.verbs.finding import find
from services.endpoint_api.shell.views import Views


class WhyVerbs:
    """Explanations. Raises Forbidden for a missing scope, NotFound for another's endpoint."""

    def __init__(self, endpoints: Runner[Endpoint], views: Views, ports: Ports) -> None:
        self._endpoints = endpoints
        self._views = views
        self._ports = ports

    def get(self, caller: Caller, ref: str) -> WhyView:
        """Why the endpoint is where it is: what its status says too, without the rest."""
        caller.needs(Scope.READ)
        return self._views.of(caller).why(find(self._endpoints, self._ports, caller, ref))
