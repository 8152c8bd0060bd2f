"""The product's HTTP APIs as the command line uses them. Errors become one line that says what to do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from libs.cli.profile import Home
from libs.common.errors import MillraceError

Json = dict[str, Any]


class Refused(MillraceError):
    """The service said no; `status` is its HTTP status, `code` its problem code."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the services are, and the key to them."""

    api_url: str
    router_url: str
    usage_url: str
    nats_url: str
    key: str

    @staticmethod
    def read(home: Home) -> Credentials:
        """From ``$MILLRACE_API_URL`` … ``$MILLRACE_API_KEY`` where set, else from what `up` wrote."""
        try:
            written = json.loads(home.credentials.read_text())
        except (FileNotFoundError, NotADirectoryError):
            written = {}
        values = {
            name: os.environ.get(variable, written.get(name, ""))
            for name, variable in (
                ("api_url", "MILLRACE_API_URL"),
                ("router_url", "MILLRACE_ROUTER_URL"),
                ("usage_url", "MILLRACE_USAGE_URL"),
                ("nats_url", "MILLRACE_NATS_URL"),
                ("key", "MILLRACE_API_KEY"),
            )
        }
        if not values["api_url"] or not values["key"]:
            raise MillraceError("no credentials: run `millrace up`, or set MILLRACE_API_URL and MILLRACE_API_KEY")
        return Credentials(**values)


class Client:
    """A small synchronous client of endpoint-api, of the usage API and of the router."""

    def __init__(self, credentials: Credentials, *, timeout_s: float = 30.0) -> None:
        self._credentials = credentials
        self._http = httpx.Client(
            timeout=timeout_s, headers={"authorization": f"Bearer {credentials.key}", "user-agent": "millrace-cli"}
        )

    def call(self, method: str, path: str, *, body: Json | None = None, query: Json | None = None) -> Json:
        """A call of endpoint-api. Raises Refused, or MillraceError if it can't be reached."""
        return self._call(method, f"{self._credentials.api_url}{path}", body=body, query=query)

    def usage(self, path: str, *, query: Json | None = None) -> Json:
        """A call of metering's read API."""
        return self._call("GET", f"{self._credentials.usage_url}{path}", query=query)

    def chat(self, *, model: str, prompt: str, max_tokens: int, key: str | None = None) -> Iterator[Json]:
        """Stream a chat completion through the router: its chunks, the last with the usage."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        url = f"{self._credentials.router_url}/chat/completions"
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            with self._http.stream("POST", url, json=body, headers=headers) as answer:
                if answer.is_error:
                    answer.read()
                    raise _refused(answer)
                for line in answer.iter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        yield _chunk(line)
        except (httpx.TransportError, httpx.InvalidURL) as trouble:
            raise _unreachable(url, trouble) from None

    def models(self) -> list[str]:
        """The models that the router serves to this key."""
        return [each["id"] for each in self._call("GET", f"{self._credentials.router_url}/models")["data"]]

    def close(self) -> None:
        """Give back connections."""
        self._http.close()

    def _call(self, method: str, url: str, *, body: Json | None = None, query: Json | None = None) -> Json:
        wanted = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            answer = self._http.request(method, url, json=body, params=wanted)
        except (httpx.TransportError, httpx.InvalidURL) as trouble:
            raise _unreachable(url, trouble) from None
        if answer.is_error:
            raise _refused(answer)
        try:
            result: Json = answer.json() if answer.content else {}
        except ValueError:
            raise MillraceError(f"{url} answered, but not in JSON: is that address right?") from None
        return result


def _chunk(line: str) -> Json:
    """An event of a stream. Raises MillraceError for the one that says that the answer ends here, unfinished."""
    chunk: Json = json.loads(line.removeprefix("data: "))
    if "error" in chunk:
        raise MillraceError(f"the answer broke off: {chunk['error'].get('message')}")
    return chunk


def _unreachable(url: str, trouble: Exception) -> MillraceError:
    return MillraceError(f"{url} can't be reached ({type(trouble).__name__}): is it running? `millrace status` tells")


def _refused(answer: httpx.Response) -> Refused:
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    openai = problem.get("error", {}) if isinstance(problem.get("error"), dict) else {}
    message = problem.get("detail") or openai.get("message") or problem.get("title") or answer.reason_phrase
    code = problem.get("code") or openai.get("code") or str(answer.status_code)
    return Refused(f"{message} ({answer.status_code}, {code})", status=answer.status_code, code=code)
