"""Whose an endpoint is: asked for each message that does not say it, and never changing."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from libs.common.runner import Runner
from services.endpoint_api.core.state import Endpoint, home_of

KNOWN_MAX: Final = 10_000


class Homes:
    """Remembers the projects of endpoints."""

    def __init__(self, endpoints: Runner[Endpoint]) -> None:
        self._endpoints = endpoints
        self._known: OrderedDict[str, str] = OrderedDict()

    def __call__(self, endpoint_id: str) -> str:
        """The project of an endpoint; empty if there is none."""
        known = self._known.get(endpoint_id)
        if known is not None:
            return known
        endpoint = self._endpoints.state(endpoint_id)
        if endpoint is None or not endpoint.is_requested:
            return ""
        home = home_of(endpoint.tenant_id, endpoint.project_id)
        self._known[endpoint_id] = home
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return home
