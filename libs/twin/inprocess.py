"""Real clients on a `World` without a network: a transport for httpx, and a REST client for the Kubernetes package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx

from libs.twin.answers import Response, encode
from libs.twin.world import World

MUTATING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Hook(Protocol):
    """Called around each mutating request; what it raises, the client sees: a lost request, or a lost answer."""

    def before(self, method: str, path: str) -> None:
        """The world has not been asked yet."""

    def after(self, method: str, path: str, status: int) -> None:
        """The world has acted, and the client does not know yet."""


def ask(world: World, hook: Hook | None, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Response:
    """One request, with the hook around it if it may change something."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    mutating = hook is not None and method in MUTATING
    if hook is not None and mutating:
        hook.before(method, path)
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) if parts.query else {}
    answer = world.request(method, path, query, headers, body)
    if hook is not None and mutating:
        hook.after(method, path, answer.status)
    return answer


class WorldTransport(httpx.BaseTransport):
    """Lets an `httpx.Client` talk to a world."""

    def __init__(self, world: World, hook: Hook | None = None) -> None:
        self._world = world
        self._hook = hook

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request of the client."""
        body = request.read()
        # Raw: decoding a header by way of `httpx.Headers` costs more than the world takes for its answer.
        headers = {name.decode(): value.decode() for name, value in request.headers.raw}
        answer = ask(self._world, self._hook, request.method, str(request.url), headers, body)
        told = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        return httpx.Response(answer.status, headers=told, content=answer.body, request=request)


class WorldRestResponse:
    """What `kubernetes.client.rest.RESTResponse` is to its callers."""

    def __init__(self, answer: Response) -> None:
        self.status = answer.status
        self.reason = HTTPStatus(answer.status).phrase
        self.data = answer.body
        self._headers = dict(answer.headers)

    def read(self) -> bytes:
        """The whole body."""
        return self.data

    @property
    def headers(self) -> dict[str, str]:
        """The response headers."""
        return self._headers

    def getheaders(self) -> dict[str, str]:
        """The response headers."""
        return self._headers

    def getheader(self, name: str, default: str | None = None) -> str | None:
        """One response header."""
        return self._headers.get(name.lower(), default)


class WorldRest:
    """Drop-in for `ApiClient.rest_client`: `api_client.rest_client = WorldRest(world)`."""

    def __init__(
        self, world: World, hook: Hook | None = None, *, on_call: Callable[[str, str], None] | None = None
    ) -> None:
        self._world = world
        self._hook = hook
        self._on_call = on_call

    def request(  # The signature is the Kubernetes package's.
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        body: Any = None,  # noqa: ANN401  # Whatever the package serialises.
        post_params: object = None,
        _request_timeout: object = None,
    ) -> WorldRestResponse:
        """Perform a request as `RESTClientObject.request` would, content types included."""
        del post_params, _request_timeout
        method, headers = method.upper(), dict(headers or {})
        if headers.get("Content-Type") == "application/json-patch+json" and not isinstance(body, list):
            headers["Content-Type"] = "application/strategic-merge-patch+json"
        if self._on_call is not None:
            self._on_call(method, url)
        return WorldRestResponse(ask(self._world, self._hook, method, url, headers, _encoded(body)))

    def close(self) -> None:
        """Nothing to close."""


def _encoded(body: object) -> bytes:
    if body is None:
        return b""
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else encode(body)
