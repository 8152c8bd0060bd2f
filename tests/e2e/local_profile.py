"""The local profile as a test uses it: free ports, a state directory of its own, gone afterwards."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from libs.cli import local
from libs.cli.client import Client, Credentials
from libs.cli.profile import CATALOGUE, Home, LocalSettings, Ports, ServicesPart, TwinPart, require_free
from tests.e2e.command import millrace, settings_file
from tests.e2e.left import nothing_runs
from tests.support.ports import free_port
from tests.support.web import NO_TLS

Json = dict[str, Any]

SETTINGS: Final = "local.toml"  # Beside the state directory.
WAIT_S: Final = 150.0  # Two busy cores; what it waits for takes a few seconds.
POLL_S: Final = 0.05


class Profile:
    """A running profile, with what tests ask of it."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.credentials = Credentials.read(home)
        self.client = Client(self.credentials)

    def create(
        self,
        name: str,
        *,
        model: str = "millrace/ngram-1",
        tier: str = "l40s-dedicated",
        max_replicas: int = 1,
        min_replicas: int = 1,
        template: str = "",
    ) -> str:
        """Ask for an endpoint; its id. Patient with an API that is being killed: same key, same endpoint."""
        scaling = {"min": min_replicas, "max": max(min_replicas, max_replicas), "target_concurrency": 2}
        spec = {"model": model, "tier": tier, "region": "eu-1", "scaling": scaling, "template": template}
        body = {"name": name, "spec": spec}
        answer = self.insist("POST", "/v1/endpoints", body=body, headers={"idempotency-key": f"create-{name}"})
        return str(answer["endpoint_id"])

    def insist(
        self, method: str, path: str, *, body: Json | None = None, headers: dict[str, str] | None = None
    ) -> Json:
        """Call the API until it answers."""
        deadline_s = time.monotonic() + WAIT_S
        key = {"authorization": f"Bearer {self.credentials.key}"}
        while True:
            try:
                url = f"{self.credentials.api_url}{path}"
                answer = httpx.request(
                    method, url, json=body, headers={**key, **(headers or {})}, timeout=10, verify=NO_TLS
                )
                if answer.status_code < 500 and not (answer.is_error and answer.json().get("retryable")):
                    assert answer.is_success, answer.text
                    document: Json = answer.json()
                    return document
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline_s, f"{method} {path} was never answered"
            time.sleep(POLL_S)

    def endpoint(self, endpoint_id: str) -> Json:
        """The endpoint as its tenant sees it."""
        return self.insist("GET", f"/v1/endpoints/{endpoint_id}")

    def stage(self, endpoint_id: str) -> str:
        """Where it stands."""
        return str(self.endpoint(endpoint_id)["status"]["stage"])

    def wait_for_stage(self, endpoint_id: str, stage: str, *, timeout_s: float = WAIT_S) -> Json:
        """The endpoint once it is in that stage; fails if it fails."""
        found: Json = {}

        def reached() -> bool:
            nonlocal found
            found = self.endpoint(endpoint_id)
            assert found["status"]["stage"] != "failed" or stage == "failed", found["status"]
            return bool(found["status"]["stage"] == stage)

        try:
            wait_until(reached, f"{endpoint_id} is not {stage}", timeout_s=timeout_s)
        except AssertionError as late:
            raise AssertionError(f"{late}; it is {found.get('status')}") from None
        return found

    def inventory(self) -> Json:
        """What the simulated cloud holds."""
        return self._cloud("GET", "inventory")

    def order(self, **faults: object) -> None:
        """Have the simulated cloud behave otherwise from now on."""
        self._cloud("POST", "faults", faults)

    def _cloud(self, method: str, what: str, body: Json | None = None) -> Json:
        key = self.home.twin_key.read_text().strip()
        url = json.loads(self.home.credentials.read_text())["twin_url"]
        headers = {"authorization": f"Bearer {key}"}
        answer = httpx.request(method, f"{url}/twin/v1/{what}", json=body, headers=headers, timeout=60, verify=NO_TLS)
        document: Json = answer.raise_for_status().json()
        return document

    def pid(self, process: str) -> int | None:
        """The pid of one process now."""
        return next(each.pid for each in local.health(self.home) if each.name == process)

    def kill(self, process: str) -> bool:
        """SIGKILL one process; the supervisor starts it again. False if it was dead already."""
        state = json.loads(self.home.state.read_text())
        try:
            os.kill(state["pids"][process], signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def wait_until_healthy(self) -> None:
        """Every process is ready."""
        wait_until(lambda: all(each.ready for each in local.health(self.home)), "not every process is ready")


def wait_until(holds: Callable[[], bool], otherwise: str, *, timeout_s: float = WAIT_S) -> None:
    """Look again and again until it holds."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, otherwise
        time.sleep(POLL_S)


@contextmanager
def running_profile(path: Path, *, time_scale: float = 0.01, tokens_per_second: float = 200.0) -> Iterator[Profile]:
    """Bring the profile up on free ports, and down again; its downloads are simulated, as `make demo`'s are not."""
    home = Home(path)
    settings = LocalSettings(
        ports=free_ports(),
        twin=TwinPart(time_scale=time_scale, tokens_per_second=tokens_per_second),
        services=ServicesPart(confirm_gone_s=0.5, window_s=5),
    )
    sold = os.environ.get("MILLRACE_CATALOGUE_DIR", str(CATALOGUE))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MILLRACE_CATALOGUE_DIR", sold)
            local.up(home, settings, progress=lambda _line: None)
        yield Profile(home)
    finally:
        local.down(home)


@contextmanager
def commanded_profile(path: Path, *, time_scale: float, more: Mapping[str, str]) -> Iterator[Profile]:
    """The same by the command, with ``more`` in its environment; nothing of it may be left."""
    home, ports = Home(path / "home"), free_ports()
    parts: dict[str, dict[str, object]] = {
        "twin": {"time_scale": time_scale, "tokens_per_second": 200.0},
        "services": {"confirm_gone_s": 0.5, "window_s": 5},
    }
    settings = settings_file(path / SETTINGS, ports, **parts)
    try:
        sold = {"MILLRACE_CATALOGUE_DIR": str(CATALOGUE)}
        up = partial(millrace, home.path, "up", "--settings", str(settings), more={**sold, **more})
        with ThreadPoolExecutor(2) as both:  # At once: one starts it, the other waits.
            for said in [each.result() for each in (both.submit(up), both.submit(up))]:
                assert said.code == 0, said
                assert f"http://127.0.0.1:{ports.endpoint_api}/v1" in said.out
                assert f"http://127.0.0.1:{ports.router}/v1" in said.out
        yield Profile(home)
    finally:
        down = [millrace(home.path, "down").out.strip() for _ in range(2)]
    assert down == ["stopped", "was not running"]
    nothing_runs(home.path)
    asked = millrace(home.path, "status", "--output", "json")
    assert (asked.code, json.loads(asked.out)) == (1, [])
    require_free(LocalSettings(ports=ports))


def free_ports() -> Ports:
    """A free port for each thing that listens."""
    return Ports(**{name: free_port() for name in Ports.model_fields})
