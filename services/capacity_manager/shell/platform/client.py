"""Requests to vCluster Platform: bearer key from a file, short timeouts, and every answer made certain or Unavailable.

What is not clearly an answer of the API (a timeout, a redirect, HTML, half a JSON) is unknown. Unknown is never absent.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from libs.common.errors import Invalid, Unavailable
from services.capacity_manager.core.reasons import Reason
from services.capacity_manager.shell.platform.refusals import is_absence_of, raise_for

Json = dict[str, Any]

PAGE: Final = 500  # Objects asked for at once, as kubectl does.
PAGES_MAX: Final = 200  # A list that never ends is a fault of the server.
MERGE_PATCH: Final = "application/merge-patch+json"


class PlatformError(Unavailable):
    """The Platform did not give a usable answer; `code` is a `Reason`."""


class PlatformClient:
    """One Platform, with Kubernetes semantics on each of its base paths."""

    def __init__(
        self,
        *,
        url: str,
        key_file: Path,
        ca_file: Path | None = None,
        connect_s: float = 2.0,
        read_s: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        timeout = httpx.Timeout(read_s, connect=connect_s)
        verify = _trusting(ca_file) if ca_file else True
        self._url = url.rstrip("/")
        self._key_file = key_file
        self._http = httpx.Client(
            timeout=timeout, verify=verify, transport=transport, follow_redirects=False, trust_env=False
        )

    def close(self) -> None:
        """Give back connections."""
        self._http.close()

    def get(self, path: str, name: str) -> Json | None:
        """The object ``name`` in the collection ``path``; None only if the API says that this very object is absent."""
        answer = self._send("GET", f"{path}/{name}")
        if is_absence_of(name, answer.status_code, _json(answer)):
            return None
        found = self._object(answer)
        if _name_of(found) != name:
            raise _garbled(f"GET {path}/{name} did not answer with that object")
        return found

    def list(self, path: str) -> list[Json]:
        """Every object of a collection. A Go server writes an empty one as null."""
        found: list[Json] = []
        token = ""
        for _ in range(PAGES_MAX):
            query = {"limit": str(PAGE), **({"continue": token} if token else {})}
            page = self._object(self._send("GET", path, query=query))
            items = page.get("items")
            if not str(page.get("kind", "")).endswith("List") or not isinstance(items, list | None):
                raise _garbled(f"GET {path} did not answer with a list")
            if not all(_name_of(each) for each in items or ()):
                raise _garbled(f"GET {path} lists things without a name")
            found += items or []
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return found
        raise _garbled(f"GET {path} has more than {PAGES_MAX} pages")

    def create(self, path: str, body: Json) -> Json:
        """Create an object. Raises Rejected, with the code of its reason, if it is refused."""
        return self._object(self._send("POST", path, body=body))

    def merge(self, path: str, name: str, body: Json) -> Json:
        """Change an object by a merge patch."""
        return self._object(self._send("PATCH", f"{path}/{name}", body=body, content_type=MERGE_PATCH))

    def delete(self, path: str, name: str, *, uid: str) -> None:
        """Ask for the deletion of exactly this object; already gone is fine, and accepted does not mean gone."""
        body: Json = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        answer = self._send("DELETE", f"{path}/{name}", body=body)
        if not is_absence_of(name, answer.status_code, _json(answer)):
            self._object(answer)

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {self._key()}", "accept": "application/json"}
        content = None
        if body is not None:
            headers["content-type"] = content_type
            content = json.dumps(body).encode()
        try:
            return self._http.request(method, self._url + path, params=query, headers=headers, content=content)
        except httpx.RequestError as failure:
            kind = "in time" if isinstance(failure, httpx.TimeoutException) else f"({type(failure).__name__})"
            raise PlatformError(
                f"the Platform did not answer {kind}; what it holds is unknown", code=Reason.PLATFORM_UNAVAILABLE
            ) from failure

    def _object(self, answer: httpx.Response) -> Json:
        body = _json(answer)
        raise_for(answer.status_code, body, answer.headers)
        if body is None:
            raise _garbled(f"HTTP {answer.status_code} without a JSON object")
        return body

    def _key(self) -> str:
        """Read anew for each request, so that a rotated key is used at once."""
        try:
            return self._key_file.read_text().strip()
        except OSError as failure:
            raise PlatformError(
                "the file with the Platform's access key can't be read", code=Reason.PLATFORM_UNAUTHORIZED
            ) from failure


def _trusting(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except OSError as failure:  # Also what ssl raises for a file that holds no certificate.
        raise Invalid(f"the file {ca_file} holds no certificate that can be read") from failure


def _json(answer: httpx.Response) -> Json | None:
    try:
        body = answer.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _name_of(thing: object) -> str:
    metadata = thing.get("metadata") if isinstance(thing, dict) else None
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def _garbled(message: str) -> PlatformError:
    return PlatformError(f"{message}; that is no answer of its API", code=Reason.PLATFORM_GARBLED)
