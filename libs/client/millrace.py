"""The API, by noun."""

from __future__ import annotations

from types import TracebackType

import httpx

from libs.client.endpoints import Endpoints, Operations
from libs.client.keys import Keys
from libs.client.transport import Transport


class Millrace:
    """A client of one API with one key. `project` (``<tenant>/<project>``) is for people who are members of several."""

    def __init__(self, url: str, key: str, *, project: str = "", http: httpx.Client | None = None) -> None:
        self.transport = Transport(url, key, project=project, http=http)
        self.endpoints = Endpoints(self.transport)
        self.operations = Operations(self.transport)
        self.keys = Keys(self.transport)

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
