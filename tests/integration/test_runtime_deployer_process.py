"""The deployer as a process: a real bus, a real database, the twin over HTTP with real model servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.common.bus.provision import provision
from libs.common.bus.server import NatsServer
from libs.common.bus.streams import EVT, message_of
from libs.common.events.envelope import Envelope, from_wire
from libs.common.events.event import Event, Owner
from libs.common.events.runtime import CacheWarmed, ReplicasChanged
from libs.common.units import MIB
from libs.twin.options import DEFAULT_KEY
from tests.integration.runtime_bench import STEPS, tenant_cluster
from tests.support.nats import connected, stored
from tests.support.nats import nats_server as nats_server
from tests.support.ports import free_port
from tests.unit.runtime_deployer.a_runtime import (
    ENDPOINT,
    a_placement,
    deletion_requested,
    gpu_ready,
    requested,
    scale_decided,
    withdrawn,
)

KEY = {"authorization": f"Bearer {DEFAULT_KEY}"}
PATIENCE_S = 90.0
LOOK_S = 0.25  # Each look leaves a reader with the broker for a while, and a stream may have only so many.


class Deployer:
    """The process, its environment and its log."""

    def __init__(self, *, platform_url: str, nats_url: str, directory: Path) -> None:
        key_file = directory / "key"
        key_file.write_text(DEFAULT_KEY)
        self.port = free_port()
        self._log = directory / "deployer.log"
        self._env = {
            **os.environ,
            "MILLRACE_PLATFORM_URL": platform_url,
            "MILLRACE_PLATFORM_KEY_FILE": str(key_file),
            "MILLRACE_NATS_URL": nats_url,
            "MILLRACE_DATABASE_URL": f"sqlite:///{directory / 'deployer.db'}",
            "MILLRACE_ADMIN_PORT": str(self.port),
        }
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, again if it was killed."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.runtime_deployer"], env=self._env, stderr=log, stdout=log
            )
        return self.process

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(10)

    @property
    def log(self) -> str:
        return self._log.read_text()


@pytest.fixture
def twin() -> Iterator[httpx.Client]:
    """The twin over HTTP, a hundred times faster than the world, with a tenant cluster that has its GPUs."""
    port = free_port()
    command = [sys.executable, "-m", "libs.twin", "--port", str(port), "--time-scale", "0.01", "--seed", str(port)]
    process = subprocess.Popen([*command, "--tokens-per-second", "0"])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=KEY) as client:
            _wait_for(lambda: _listens(port))
            for path, body in tenant_cluster():
                _wait_for(partial(_creates, client, path, body))
            _wait_for(lambda: '"nodes":[{' in client.get("/twin/v1/inventory").text.replace(" ", ""))
            yield client
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def deployer(twin: httpx.Client, nats_server: NatsServer, tmp_path: Path) -> Iterator[Deployer]:
    """A running deployer; not yet told of anything."""
    started = Deployer(platform_url=str(twin.base_url), nats_url=nats_server.url, directory=tmp_path)
    yield started
    with contextlib.suppress(ProcessLookupError):
        started.kill()


@pytest.mark.slow
async def test_a_life_over_http_with_a_power_cut_in_the_middle(
    twin: httpx.Client, nats_server: NatsServer, deployer: Deployer
) -> None:
    await provision(nats_server.url)
    small = a_placement(gpus_per_replica=1).model_copy(update={"model_size_bytes": 64 * MIB})
    await _publish(nats_server, requested(placement=small), gpu_ready())
    await _until_told(nats_server, "runtime.image_pulled", deployer)

    deployer.kill()
    deployer.start()
    (warmed,) = await _until_told(nats_server, "runtime.cache_warmed", deployer)
    assert isinstance(warmed, CacheWarmed)
    answer = httpx.post(
        f"{warmed.replicas[0].url}/v1/chat/completions",
        json={"model": "millrace/ngram-1", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3},
    )
    assert answer.json()["choices"][0]["message"]["content"]

    await _publish(nats_server, scale_decided(2))
    await _until(nats_server, lambda events: _ready(events) == 2, deployer)
    gauges = httpx.get(f"http://127.0.0.1:{deployer.port}/metrics").text
    assert 'runtime_deployer_apply_duration_seconds_count{kind="Deployment"}' in gauges

    await _publish(nats_server, deletion_requested(), withdrawn())
    await _until_told(nats_server, "runtime.removed", deployer)

    kinds = [each.kind for each in await _told(nats_server)]
    assert [each for each in kinds if each in STEPS] == list(STEPS)
    assert kinds.count("runtime.removed") == 1
    inventory = twin.get("/twin/v1/inventory").json()
    assert inventory["pods"] == []
    assert inventory["processes"] == []
    deployer.process.send_signal(signal.SIGTERM)
    assert deployer.process.wait(20) == 0
    assert '"level": "error"' not in deployer.log, deployer.log


def test_wrong_settings_end_the_process_with_one_line(tmp_path: Path) -> None:
    env = {
        **os.environ,
        "MILLRACE_PLATFORM_URL": "http://127.0.0.1:1",
        "MILLRACE_PLATFORM_KEY_FILE": str(tmp_path / "key"),
        "MILLRACE_DATABASE_URL": f"sqlite:///{tmp_path / 'd.db'}",
        "MILLRACE_TEMPLATES_DIR": str(tmp_path),
    }

    ended = subprocess.run(
        [sys.executable, "-m", "services.runtime_deployer"], env=env, capture_output=True, text=True, timeout=60
    )

    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "MILLRACE_TEMPLATES_DIR" in ended.stderr


async def _publish(server: NatsServer, *envelopes: Envelope) -> None:
    async with connected(server.url) as client:
        context = client.jetstream()
        for each in envelopes:
            message = message_of(each)
            headers = {**message.headers, "Nats-Msg-Id": message.id}
            await context.publish(message.subject, message.body, stream=message.stream, headers=headers)


async def _told(server: NatsServer) -> list[Event]:
    found = [from_wire(each.headers, each.body) for each in await stored(server.url, EVT)]
    return [each.data for each in found if each.owner is Owner.RUNTIME_DEPLOYER and each.subject == ENDPOINT]


async def _until_told(server: NatsServer, kind: str, deployer: Deployer) -> list[Event]:
    events = await _until(server, lambda each: any(event.kind == kind for event in each), deployer)
    return [each for each in events if each.kind == kind]


async def _until(server: NatsServer, holds: Callable[[list[Event]], bool], deployer: Deployer) -> list[Event]:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds(events := await _told(server)):
        assert time.monotonic() < deadline_s, f"told only {[each.kind for each in events]}\n{deployer.log}"
        await asyncio.sleep(LOOK_S)
    return events


def _ready(events: list[Event]) -> int:
    changes = [each for each in events if isinstance(each, ReplicasChanged)]
    return changes[-1].ready if changes else 0


def _wait_for(done: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline_s, "it never came up"
        time.sleep(0.1)


def _creates(client: httpx.Client, path: str, body: dict[str, Any]) -> bool:
    return client.post(path, json=body).status_code == 201


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
