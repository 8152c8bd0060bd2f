"""The deployer as a process on a real Kubernetes: a real bus, a real database, and a power cut while it installs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.bus.provision import provision
from libs.common.bus.server import NatsServer
from libs.common.units import MIB
from tests.integration.deployer_process import DeployerProcess, publish, told, until_told
from tests.integration.kube.deployer import Deployer
from tests.integration.kube.running import Kube
from tests.integration.runtime_bench import STEPS
from tests.support.nats import nats_server as nats_server
from tests.unit.runtime_deployer.a_runtime import (
    ENDPOINT,
    a_placement,
    deletion_requested,
    gpu_ready,
    requested,
    withdrawn,
)

pytestmark = [pytest.mark.kube, pytest.mark.xdist_group("kube"), pytest.mark.timeout(600)]


@pytest.fixture
def process(kube: Kube, nats_server: NatsServer, tmp_path: Path) -> Iterator[DeployerProcess]:
    if not kube.is_ours:
        pytest.skip("the engines of a cluster that is not ours can't be reached through its API server")
    # The `kubernetes` profile: no Platform, one cluster.
    started = DeployerProcess({"KUBECONFIG": str(kube.kubeconfig)}, nats_url=nats_server.url, directory=tmp_path)
    yield started
    if started.process.returncode is None:
        started.kill()


async def test_a_life_on_a_real_kubernetes_with_a_power_cut_in_the_middle(
    kube: Kube, nats_server: NatsServer, process: DeployerProcess
) -> None:
    seen = Deployer(kube, endpoint=ENDPOINT)  # To look with: it is told of nothing and does nothing.
    await provision(nats_server.url)
    small = a_placement(gpus_per_replica=1).model_copy(update={"model_size_bytes": 64 * MIB})
    await publish(nats_server, requested(placement=small), gpu_ready())
    await until_told(nats_server, "runtime.image_pulled", process)

    process.kill()
    process.start()
    await until_told(nats_server, "runtime.cache_warmed", process)
    assert seen.objects()

    await publish(nats_server, deletion_requested(), withdrawn())
    await until_told(nats_server, "runtime.removed", process)

    kinds = [each.kind for each in await told(nats_server)]
    assert [each for each in kinds if each in STEPS] == list(STEPS)
    assert kinds.count("runtime.removed") == 1
    assert seen.objects() == {}
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(60) == 0
    assert '"level": "error"' not in process.log, process.log
