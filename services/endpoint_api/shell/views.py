"""Endpoints as a caller sees them, with what was learned for them; what is read for it is read once a request."""

from __future__ import annotations

from libs.common.clock import Clock
from services.endpoint_api.core import status
from services.endpoint_api.core.caller import Caller
from services.endpoint_api.core.catalogue import Catalogue
from services.endpoint_api.core.outlook import WhyView, outlook
from services.endpoint_api.core.state import Endpoint
from services.endpoint_api.core.status import EndpointView
from services.endpoint_api.shell.learning import Learner, Recall
from services.endpoint_api.shell.tenancy import Tenancy


class Views:
    """Makes the views of each request."""

    def __init__(self, learner: Learner, tenancy: Tenancy, clock: Clock) -> None:
        self._learner = learner
        self._tenancy = tenancy
        self._clock = clock

    def of(self, caller: Caller) -> CallersViews:
        """Views for one request of the caller's, all as of now."""
        return CallersViews(self._learner.recall(), self._tenancy.catalogue(caller), self._clock.now_ms())


class CallersViews:
    """The views of one request: a list of a thousand reads no more than the kinds of endpoints that are in it."""

    def __init__(self, recall: Recall, sold: Catalogue, now_ms: int) -> None:
        self._recall = recall
        self._sold = sold
        self._now_ms = now_ms

    def why(self, endpoint: Endpoint) -> WhyView:
        """Why it is where it is, and what is ahead of it."""
        return outlook(endpoint, self._recall.of(endpoint), self._sold, self._now_ms)

    def endpoint(self, endpoint: Endpoint) -> EndpointView:
        """The endpoint as it stands."""
        return status.endpoint_view(endpoint, self.why(endpoint), self._now_ms)
