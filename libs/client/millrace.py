"""The API, by noun."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

import httpx

from libs.client.domains import Domains
from libs.client.endpoints import Endpoints, Operations
from libs.client.keys import Keys
from libs.client.members import Members
from libs.client.tenants import Audit, Offers, Projects, Tenants
from libs.client.transport import Json, Transport
from libs.client.watching import events
from libs.client.webhooks import Webhooks


class Millrace:
    """A client of one API with one key. `project` (``<tenant>/<project>``) is for people who are members of several."""

    def __init__(self, url: str, key: str, *, project: str = "", http: httpx.Client | None = None) -> None:
        self.transport = Transport(url, key, project=project, http=http)
        self.endpoints = Endpoints(self.transport)
        self.operations = Operations(self.transport)
        self.keys = Keys(self.transport)
        self.offers = Offers(self.transport)
        self.tenants = Tenants(self.transport)
        self.projects = Projects(self.transport)
        self.members = Members(self.transport)
        self.audit = Audit(self.transport)
        self.webhooks = Webhooks(self.transport)
        self.domains = Domains(self.transport)

    def watch(self, *, last_event_id: str = "") -> Iterator[Json]:
        """All events of the project as they happen, from behind `last_event_id`."""
        return events(self.transport, "/v1/watch", last_event_id=last_event_id)

    def health(self) -> Json:
        """Whether the API answers; needs no key. Raises Unreachable if it does not."""
        return self.transport.call("GET", "/healthz")

    def __enter__(self) -> Millrace:
        """Itself; `close` is called at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, trouble: BaseException | None, where: TracebackType | None
    ) -> None:
        """Give back connections."""
        self.close()

    def close(self) -> None:
        """Give back connections."""
        self.transport.close()
