"""The deployer as a process: a real bus, a real database, the twin over HTTP with real model servers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.common.bus.provision import provision
from libs.common.bus.server import NatsServer
from libs.common.events.event import Event
from libs.common.events.runtime import CacheWarmed, ReplicasChanged
from libs.common.units import MIB
from libs.twin.options import DEFAULT_KEY
from tests.integration.deployer_process import PATIENCE_S, DeployerProcess, publish, told, until, until_told
from tests.integration.runtime_bench import STEPS, tenant_cluster
from tests.support.nats import nats_server as nats_server
from tests.support.ports import free_port
from tests.support.preloaded import Program
from tests.support.web import NO_TLS
from tests.unit.runtime_deployer.a_runtime import (
    a_placement,
    deletion_requested,
    gpu_ready,
    requested,
    scale_decided,
    withdrawn,
)

pytestmark = pytest.mark.xdist_group("preloaded")

KEY = {"authorization": f"Bearer {DEFAULT_KEY}"}


@pytest.fixture
def twin() -> Iterator[httpx.Client]:
    """The twin over HTTP, a hundred times faster than the world, with a tenant cluster that has its GPUs."""
    port = free_port()
    pace = ["--time-scale", "0.01", "--tokens-per-second", "0"]
    process = Program("libs.twin", "--port", str(port), "--seed", str(port), *pace)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=KEY, verify=NO_TLS) as client:
            _wait_for(lambda: _listens(port))
            for path, body in tenant_cluster():
                _wait_for(partial(_creates, client, path, body))
            _wait_for(lambda: '"nodes":[{' in client.get("/twin/v1/inventory").text.replace(" ", ""))
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture
def deployer(twin: httpx.Client, nats_server: NatsServer, tmp_path: Path) -> Iterator[DeployerProcess]:
    """A running deployer; not yet told of anything."""
    key_file = tmp_path / "key"
    key_file.write_text(DEFAULT_KEY)
    platform = {"PLATFORM_URL": str(twin.base_url), "PLATFORM_KEY_FILE": str(key_file)}
    started = DeployerProcess(platform, nats_url=nats_server.url, directory=tmp_path)
    yield started
    with contextlib.suppress(ProcessLookupError):
        started.kill()


@pytest.mark.slow
async def test_a_life_over_http_with_a_power_cut_in_the_middle(
    twin: httpx.Client, nats_server: NatsServer, deployer: DeployerProcess
) -> None:
    await provision(nats_server.url)
    small = a_placement(gpus_per_replica=1).model_copy(update={"model_size_bytes": 64 * MIB})
    await publish(nats_server, requested(placement=small), gpu_ready())
    await until_told(nats_server, "runtime.image_pulled", deployer)

    deployer.kill()
    deployer.start()
    (warmed,) = await until_told(nats_server, "runtime.cache_warmed", deployer)
    assert isinstance(warmed, CacheWarmed)
    answer = httpx.post(
        f"{warmed.replicas[0].url}/v1/chat/completions",
        json={"model": "millrace/ngram-1", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3},
        verify=NO_TLS,
    )
    assert answer.json()["choices"][0]["message"]["content"]

    await publish(nats_server, scale_decided(2))
    await until(nats_server, lambda events: _ready(events) == 2, deployer)
    gauges = httpx.get(f"http://127.0.0.1:{deployer.port}/metrics", verify=NO_TLS).text
    assert 'runtime_deployer_apply_duration_seconds_count{kind="Deployment"}' in gauges

    await publish(nats_server, deletion_requested(), withdrawn())
    await until_told(nats_server, "runtime.removed", deployer)

    kinds = [each.kind for each in await told(nats_server)]
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

    said = tmp_path / "said"
    ended = Program("services.runtime_deployer", env=env, err=said).wait(60)

    assert ended == 2
    (line,) = said.read_text().splitlines()
    assert "MILLRACE_TEMPLATES_DIR" in line


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
