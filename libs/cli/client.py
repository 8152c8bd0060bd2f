"""The product's HTTP APIs as the command line uses them: the endpoint API, the usage API and the model traffic."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx

from libs.cli.credentials import Credentials
from libs.cli.profile import Home
from libs.client import Json, Millrace, Refused
from libs.client.transport import Transport, refused, unreachable
from libs.common.errors import MillraceError

__all__ = ["Client", "Credentials", "Json", "Refused", "api"]

TIMEOUT_S = 30.0


def api() -> Millrace:
    """The endpoint API with the credentials of this machine."""
    return Client(Credentials.read(Home.default())).api


class Client:
    """All three APIs with one key."""

    def __init__(self, credentials: Credentials, *, timeout_s: float = TIMEOUT_S) -> None:
        self._credentials = credentials
        self._http = httpx.Client(timeout=timeout_s)
        self.api = Millrace(credentials.api_url, credentials.key, project=credentials.project, http=self._http)
        self._usage = Transport(credentials.usage_url, credentials.key, project=credentials.project, http=self._http)
        self._router = Transport(credentials.router_url, credentials.key, http=self._http)

    def usage(self, path: str, *, method: str = "GET", query: Json | None = None, body: Json | None = None) -> Json:
        """A call of metering's read API."""
        return self._usage.call(method, path, query=query, body=body)

    def models(self) -> list[str]:
        """The models that the router serves to this key."""
        return [each["id"] for each in self._router.call("GET", "/models")["data"]]

    def chat(
        self,
        *,
        model: str,
        prompt: str,
        max_tokens: int,
        key: str | None = None,
        on_id: Callable[[str], object] = lambda _id: None,
    ) -> Iterator[Json]:
        """Stream a chat completion through the router: its chunks, the last with the usage; ``on_id`` gets its id."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        url = f"{self._credentials.router_url}/chat/completions"
        headers = {"authorization": f"Bearer {key or self._credentials.key}"}
        try:
            with self._http.stream("POST", url, json=body, headers=headers) as answer:
                if answer.is_error:
                    answer.read()
                    raise refused(answer)
                on_id(answer.headers.get("x-request-id", ""))
                for line in answer.iter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        yield _chunk(line)
        except (httpx.TransportError, httpx.InvalidURL) as trouble:
            raise unreachable(url, trouble) from None

    def close(self) -> None:
        """Give back connections."""
        self._http.close()


def _chunk(line: str) -> Json:
    """An event of a stream. Raises MillraceError for the one that says that the answer ends here, unfinished."""
    chunk: Json = json.loads(line.removeprefix("data: "))
    if "error" in chunk:
        raise MillraceError(f"the answer broke off: {chunk['error'].get('message')}")
    return chunk
