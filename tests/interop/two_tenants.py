"""Two tenants of one endpoint-api, A who asks anything at all, and B whose things A must learn nothing of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2

from libs.common.events.tenant import NO_LIMITS
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.roles import Role
from services.endpoint_api.shell.openapi import document
from tests.unit.endpoint_api.given import BODY, CountingEntropy, Stand
from tests.unit.endpoint_api.test_roles import OPERATOR, SignedIn, a_member

A: Final = "acme"
B: Final = "brookside"
B_ACTS_MAX: Final = 12  # B stays within its quotas.
ENTROPY_OF_A: Final = 1_000_000  # So that what A draws does not depend on how much B drew before.

# They never end: a test of their refusals must be enough here.
STREAMS: Final = frozenset({"/v1/watch", "/v1/endpoints/{ref}/watch"})

DOCUMENT: Final = document()
Request = Mapping[str, Any]
asked: Final[Counter[int]] = Counter()  # Requests of A's, by the status of the answer.


class Draws(CountingEntropy):
    """Entropy that can be set to where it was."""

    @property
    def drawn(self) -> int:
        """Where it is."""
        return self._next

    @drawn.setter
    def drawn(self, value: int) -> None:
        self._next = value


@dataclass(slots=True)
class House:
    """An endpoint-api in which A has a few things, and B has some too if ``b_is_busy``."""

    b_is_busy: bool
    stand: Stand = field(init=False)
    a: Request = field(init=False)  # The headers of A's owner, and of B's.
    b: Request = field(init=False)
    draws: Draws = field(default_factory=Draws)
    asked: int = 0
    _b_asked: int = 0

    def __post_init__(self) -> None:
        """Both move in; B acts first, so that its traces are there before A looks."""
        self.stand = Stand(entropy=self.draws, people=SignedIn())
        self.a, self.b = (self._owner_of(each) for each in (A, B))
        for _ in range(3):
            self.b_acts()
        self.draws.drawn = ENTROPY_OF_A
        self.ask({"method": "POST", "url": "/v1/endpoints", "json": BODY})
        self.ask({"method": "POST", "url": "/v1/keys", "json": {"name": "backend", "scopes": ["read"]}})
        self.ask({"method": "POST", "url": "/v1/webhooks", "json": {"url": "https://a.example/hook"}})

    def ask(self, request: Request) -> httpx2.Response:
        """What A is answered."""
        self.stand.clock.advance(1)
        self.asked += 1
        answer = _send(self.stand, request, self.a, f"req-a-{self.asked}")
        asked[int(answer.status_code)] += 1
        return answer

    def b_acts(self) -> None:
        """B makes one of everything, and changes its endpoint; without trace in A's entropy or clock."""
        if not self.b_is_busy or self._b_asked >= B_ACTS_MAX:
            return
        self._b_asked += 1
        drawn = self.draws.drawn
        self.draws.drawn = 2 * ENTROPY_OF_A + 1_000 * self._b_asked
        name = f"b-{self._b_asked}"
        for method, url, body in (
            ("POST", "/v1/endpoints", {**BODY, "name": name}),
            ("POST", "/v1/keys", {"name": name, "scopes": ["read"]}),
            ("POST", "/v1/projects", {"id": name}),
            ("POST", "/v1/members", {"subject": f"{name}@b.example", "role": "viewer"}),
            ("POST", "/v1/webhooks", {"url": f"https://{name}.example/hook"}),
            ("POST", f"/v1/endpoints/{name}/scale", {"scaling": {"max": 2}}),
        ):
            answer = _send(self.stand, {"method": method, "url": url, "json": body}, self.b, f"req-{name}-{url[4:]}")
            assert answer.is_success, answer.text
        self.draws.drawn = drawn

    def things_of(self, owner: Request) -> list[str]:
        """Ids and names that an owner sees."""
        found = [A, B, "main"]
        for path, item in DOCUMENT["paths"].items():
            if "get" in item and "{" not in path and path.startswith("/v1/") and path not in STREAMS:
                answer = _send(self.stand, {"method": "GET", "url": path}, owner, "req-look")
                found += _names(answer.json())
        return list(dict.fromkeys(found))

    def fitting(self, path: str) -> list[str]:
        """Ids and names of A's that the path of an operation is about; if there are none, of anything of A's."""
        answer = _send(self.stand, {"method": "GET", "url": path.partition("/{")[0]}, self.a, "req-look")
        items = answer.json().get("items", ()) if answer.is_success else ()
        return [each[name] for each in items for name in ("id", "name") if each.get(name)] or self.things_of(self.a)

    def endpoints_of(self, owner: Request) -> list[str]:
        """Ids of an owner's endpoints."""
        answer = _send(self.stand, {"method": "GET", "url": "/v1/endpoints"}, owner, "req-look")
        return [each["id"] for each in answer.json()["items"]]

    def _owner_of(self, tenant: str) -> Request:
        self.stand.api.tenants.create(
            Ask(OPERATOR, f"make {tenant}"), tenant, display_name=tenant, tiers=[], quota=NO_LIMITS, projects=["main"]
        )
        return a_member(self.stand, Role.OWNER, tenant=tenant)


def seen(answer: httpx2.Response) -> tuple[int, dict[str, str], bytes]:
    """All of an answer that its reader can see."""
    return answer.status_code, dict(answer.headers), answer.content


def _send(stand: Stand, request: Request, owner: Request, request_id: str) -> httpx2.Response:
    headers = {
        name.lower(): value
        for name, value in dict(request.get("headers") or {}).items()
        if name.lower() not in ("authorization", "x-request-id")
    }
    headers = {**owner, **headers, "x-request-id": request_id}
    rest = {name: value for name, value in request.items() if name in ("json", "params", "content", "data")}
    return stand.client.request(request["method"], request["url"], headers=headers, **rest)


def _names(document: Any) -> list[str]:
    """Every id and name in an answer."""
    if isinstance(document, list):
        return [name for each in document for name in _names(each)]
    if not isinstance(document, dict):
        return []
    own = [value for name, value in document.items() if isinstance(value, str) and name.endswith(("id", "name"))]
    return [*own, *(name for each in document.values() for name in _names(each))]
