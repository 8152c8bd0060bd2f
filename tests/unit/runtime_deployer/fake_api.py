"""A tenant API server that answers what a test tells it to, in the place of the client's `rest_client`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import urllib3.exceptions
from kubernetes.client import Configuration

from services.runtime_deployer.shell.connections import Connections
from services.runtime_deployer.shell.kubernetes import KubernetesClusters

PLATFORM = "https://platform.test"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it left the client."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: Any


@dataclass(slots=True)
class Answered:
    """One answer, in the shape of the client's RESTResponse."""

    status: int
    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""

    def read(self) -> bytes:
        return self.data


@dataclass(slots=True)
class FakeApi:
    """Answers by method and path suffix; 404 where nothing was said."""

    asked: list[Asked] = field(default_factory=list)
    answers: dict[tuple[str, str], Answered] = field(default_factory=dict)
    is_down: bool = False
    closed: int = 0

    def on(self, method: str, path: str, status: int, body: object = None, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[(method, path)] = Answered(status, json.dumps(body or {}).encode(), named)

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: object = None,
        post_params: object = None,
        _request_timeout: float | None = None,
    ) -> Answered:
        assert _request_timeout, "a request without a limit"
        assert not post_params
        self.asked.append(Asked(method, url, dict(headers or {}), body))
        if self.is_down:
            raise urllib3.exceptions.ProtocolError("Connection aborted.")
        for (wanted, path), answer in self.answers.items():
            if wanted == method and url.split("?")[0].endswith(path):
                return answer
        return Answered(404, b'{"kind": "Status", "reason": "NotFound", "code": 404}')

    def close(self) -> None:
        self.closed += 1

    def rest(self, _configuration: Configuration) -> FakeApi:
        return self


def connected(api: FakeApi, *, key: Callable[[], str] = lambda: "k-1", limit: int = 64) -> Connections:
    return Connections(PLATFORM, key, rest=api.rest, limit=limit)


def clusters(api: FakeApi) -> KubernetesClusters:
    return KubernetesClusters(connected(api))
