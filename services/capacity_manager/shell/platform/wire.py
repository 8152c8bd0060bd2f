"""One request to vCluster Platform: its access key, its time limits, and the breaker around it. Knows no objects."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import httpx
from pydantic_core import from_json

from libs.common.errors import Invalid, Unavailable
from services.capacity_manager.core.reasons import Reason
from services.capacity_manager.shell.platform.breaker import Breaker
from services.capacity_manager.shell.platform.refusals import raise_for

Json = dict[str, Any]
Query = Mapping[str, str]

UNAUTHORIZED: Final = 401
WRITE_S: Final = 30.0  # reliability.md 3.4: an admission chain of the Platform may be slow.
WATCH_SLACK_S: Final = 10.0  # Beyond what we ask a watch to last, before its silence is a dead connection.
READING: Final = frozenset({"GET"})
# The Platform's audit names us by the agent; its lists are long and shrink tenfold.
ALWAYS: Final = {"accept": "application/json", "accept-encoding": "gzip", "user-agent": "millrace-capacity-manager"}
KEY_BYTES_MAX: Final = 65_536  # A token with many claims has a few thousand.
ADDRESSES_MAX: Final = 4096  # Kept parsed: a pass asks for the same ones as the pass before.


class PlatformError(Unavailable):
    """The Platform did not give a usable answer; `code` is a `Reason`."""


class Wire:
    """One Platform over HTTP."""

    def __init__(  # What an operator sets, and what a test replaces.
        self,
        *,
        url: str,
        key_file: Path,
        ca_file: Path | None = None,
        connect_s: float = 2.0,
        read_s: float = 10.0,
        transport: httpx.BaseTransport | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._key_file = key_file
        self._breaker = breaker
        self._read = httpx.Timeout(read_s, connect=connect_s)
        self._write = httpx.Timeout(max(read_s, WRITE_S), connect=connect_s)
        self._connect_s = connect_s
        # No client around it: redirects, cookies and proxies are nothing to the Platform's API, and cost more than it.
        self._http = transport or httpx.HTTPTransport(verify=_trusting(ca_file) if ca_file else True, trust_env=False)

    def close(self) -> None:
        """Give back connections."""
        self._http.close()

    def send(  # What a request consists of.
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Json | None = None,
        content_type: str,
        accept: str = "application/json",
    ) -> httpx.Response:
        """The answer, whatever it is. Raises PlatformError if there is none.

        A key that is refused is read once more: between its rotation and its removal both are in force, so a service
        that reads the file late must not have to fail for it.
        """
        key = self._key()
        said = {"accept": accept, **({"content-type": content_type} if body is not None else {})}
        answer = self._once(method, path, query, body, said, key)
        if answer.status_code == UNAUTHORIZED and (fresh := self._key()) != key:
            answer = self._once(method, path, query, body, said, fresh)
        return answer

    @contextmanager
    def lines(self, path: str, *, query: Query, lasts_s: float) -> Iterator[Iterator[str]]:
        """The lines of a long answer, as they come. Raises PlatformError where it breaks off or is refused."""
        timeout = httpx.Timeout(lasts_s + WATCH_SLACK_S, connect=self._connect_s)
        request = self._request("GET", path, query, _headers(self._key()), timeout)
        with _as_unknown(), closing(self._http.handle_request(request)) as answer:
            if not answer.is_success:
                answer.read()
                raise_for(answer.status_code, json_of(answer), answer.headers)
            yield answer.iter_lines()

    def _once(
        self, method: str, path: str, query: Query | None, body: Json | None, said: Mapping[str, str], key: str
    ) -> httpx.Response:
        headers = {**_headers(key), **said}
        content = None if body is None else json.dumps(body).encode()
        timeout = self._read if method in READING else self._write
        if self._breaker is not None:
            self._breaker.check()
        failed = True
        try:
            request = self._request(method, path, query, headers, timeout, content)
            with _as_unknown(), closing(self._http.handle_request(request)) as answer:
                answer.read()
            failed = answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR
            return answer
        finally:
            if self._breaker is not None:
                self._breaker.note(failed=failed)

    def _request(  # What a request consists of.
        self,
        method: str,
        path: str,
        query: Query | None,
        headers: Mapping[str, str],
        timeout: httpx.Timeout,
        content: bytes | None = None,
    ) -> httpx.Request:
        url = _address(self._url + path, tuple(query.items()) if query else ())
        extensions = {"timeout": timeout.as_dict()}
        return httpx.Request(method, url, headers=headers, content=content, extensions=extensions)

    def _key(self) -> str:
        """Read anew for each request, so that a rotated key is used at once."""
        try:
            return _content(self._key_file)
        except OSError as failure:
            raise PlatformError(
                "the file with the Platform's access key can't be read", code=Reason.PLATFORM_UNAUTHORIZED
            ) from failure


def _content(path: Path) -> str:
    """As `Path.read_text` and `strip`, in an eighth of the time, for there is one before each request."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, KEY_BYTES_MAX).decode().strip()
    finally:
        os.close(descriptor)


def json_of(answer: httpx.Response) -> Json | None:
    """The JSON object of an answer; None if it is none, or half of one."""
    try:
        body = from_json(answer.content, cache_strings="keys")
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


@contextmanager
def _as_unknown() -> Iterator[None]:
    try:
        yield
    except httpx.RequestError as failure:
        kind = "in time" if isinstance(failure, httpx.TimeoutException) else f"({type(failure).__name__})"
        raise PlatformError(
            f"the Platform did not answer {kind}; what it holds is unknown", code=Reason.PLATFORM_UNAVAILABLE
        ) from failure


@lru_cache(maxsize=ADDRESSES_MAX)
def _address(url: str, query: tuple[tuple[str, str], ...]) -> httpx.URL:
    """Taking an address apart is most of what the client does for a request."""
    return httpx.URL(url, params=query) if query else httpx.URL(url)


def _headers(key: str) -> dict[str, str]:
    return {**ALWAYS, "authorization": f"Bearer {key}"}


def _trusting(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except OSError as failure:  # Also what ssl raises for a file that holds no certificate.
        raise Invalid(f"the file {ca_file} holds no certificate that can be read") from failure
