"""The verbs of vCluster Platform's API, and every answer made certain or Unavailable.

What is not clearly an answer of the API (a timeout, a redirect, HTML, half a JSON) is unknown. Unknown is never absent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from services.capacity_manager.core.reasons import Reason
from services.capacity_manager.shell.platform.breaker import Breaker
from services.capacity_manager.shell.platform.refusals import is_absence_of, raise_for
from services.capacity_manager.shell.platform.wire import PlatformError, Query, Wire, json_of

Json = dict[str, Any]

PAGE: Final = 500  # Objects asked for at once, as kubectl does.
PAGES_MAX: Final = 200  # A list that never ends is a fault of the server.
JSON: Final = "application/json"
METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"  # JSON is YAML.
FIELD_MANAGER: Final = "millrace"
WATCH_S: Final = 240  # Asked of each watch: it ends before a proxy between us finds it idle for too long.
EVENTS: Final = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"})


class PlatformClient:
    """One Platform, with Kubernetes semantics on each of its base paths."""

    def __init__(  # As the wire below it.
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
        self._wire = Wire(
            url=url,
            key_file=key_file,
            ca_file=ca_file,
            connect_s=connect_s,
            read_s=read_s,
            transport=transport,
            breaker=breaker,
        )

    def close(self) -> None:
        """Give back connections."""
        self._wire.close()

    def get(self, path: str, name: str) -> Json | None:
        """The object ``name`` in the collection ``path``; None only if the API says that this very object is absent."""
        answer = self._wire.send("GET", f"{path}/{name}", content_type=JSON)
        body = json_of(answer)
        if is_absence_of(name, answer.status_code, body):
            return None
        found = _said(answer, body)
        if _name_of(found) != name:
            raise garbled(f"GET {path}/{name} did not answer with that object")
        return found

    def read(self, path: str) -> Json:
        """What the API computes at ``path``: no object with a name of its own."""
        return _object(self._wire.send("GET", path, content_type=JSON))

    def metadata(self, path: str) -> tuple[Json, ...]:
        """Every object of a collection, with its metadata only where the server can leave out the rest."""
        return self.listed(path, accept=METADATA)[0]

    def list(self, path: str) -> tuple[Json, ...]:
        """Every object of a collection. A Go server writes an empty one as null."""
        return self.listed(path)[0]

    def listed(self, path: str, *, accept: str = JSON) -> tuple[tuple[Json, ...], str]:
        """Every object of a collection, and the version from which a watch of it goes on."""
        found: tuple[Json, ...] = ()
        token, version = "", ""
        for _ in range(PAGES_MAX):
            query = {"limit": str(PAGE), **({"continue": token} if token else {})}
            page = _object(self._wire.send("GET", path, query=query, content_type=JSON, accept=accept))
            items = page.get("items")
            if not str(page.get("kind", "")).endswith("List") or not isinstance(items, list | None):
                raise garbled(f"GET {path} did not answer with a list")
            if not all(_name_of(each) for each in items or ()):
                raise garbled(f"GET {path} lists things without a name")
            found += tuple(items or ())
            metadata = page.get("metadata") or {}
            token, version = metadata.get("continue") or "", version or str(metadata.get("resourceVersion") or "")
            if not token:
                return found, version
        raise garbled(f"GET {path} has more than {PAGES_MAX} pages")

    def watch(self, path: str, version: str) -> Iterator[Json]:
        """What changes in a collection after ``version``, until the server ends the watch.

        Raises Unavailable where it breaks off, is refused, or where ``version`` is too old: list again then.
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        with self._wire.lines(path, query={**query, "timeoutSeconds": str(WATCH_S)}, lasts_s=WATCH_S) as lines:
            for line in lines:
                if line:
                    yield _change(path, line)

    def create(self, path: str, body: Json) -> Json:
        """Create an object. Raises Rejected, with the code of its reason, if it is refused."""
        return _object(self._wire.send("POST", path, body=body, content_type=JSON))

    def merge(self, path: str, name: str, body: Json) -> Json:
        """Change an object by a merge patch."""
        return _object(self._wire.send("PATCH", f"{path}/{name}", body=body, content_type=MERGE_PATCH))

    def apply(self, path: str, name: str, body: Json) -> Json:
        """Have the fields of ``body`` be so and be ours (server-side apply). Raises Unavailable if others own them."""
        query: Query = {"fieldManager": FIELD_MANAGER}
        return _object(
            self._wire.send("PATCH", f"{path}/{name}", query=query, body=body, content_type=APPLY_PATCH)
        )  # fmt: skip

    def delete(self, path: str, name: str, *, uid: str, version: str = "") -> None:
        """Ask for the deletion of exactly this object (in this version, if one is named).

        Already gone is fine, and accepted does not mean gone.
        """
        only = {"uid": uid, **({"resourceVersion": version} if version else {})}
        body: Json = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": only}
        answer = self._wire.send("DELETE", f"{path}/{name}", body=body, content_type=JSON)
        said = json_of(answer)
        if not is_absence_of(name, answer.status_code, said):
            _said(answer, said)


def garbled(message: str) -> PlatformError:
    """What answers can't be the Platform's API."""
    return PlatformError(f"{message}; that is no answer of its API", code=Reason.PLATFORM_GARBLED)


def _object(answer: httpx.Response) -> Json:
    return _said(answer, json_of(answer))


def _said(answer: httpx.Response, body: Json | None) -> Json:
    raise_for(answer.status_code, body, answer.headers)
    if body is None:
        raise garbled(f"HTTP {answer.status_code} without a JSON object")
    return body


def _change(path: str, line: str) -> Json:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict) or event.get("type") not in EVENTS or not isinstance(event.get("object"), dict):
        raise garbled(f"the watch of {path} tells what is no change")
    if event["type"] == "ERROR":
        status = event["object"]
        code = status.get("code")
        raise_for(code if isinstance(code, int) else httpx.codes.INTERNAL_SERVER_ERROR, status, {})
        raise garbled(f"the watch of {path} calls a success an error")
    return event


def _name_of(thing: object) -> str:
    metadata = thing.get("metadata") if isinstance(thing, dict) else None
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
