"""The real API server while tests run: ours, or the one that KUBECONFIG names with our nodes in it."""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from kubernetes import config
from kubernetes.client import Configuration

from tests.integration.kube.building import program

KUBECONFIG: Final = os.environ.get("KUBECONFIG", "")
END_S: Final = 60.0
HOW: Final = "`make kube` builds it (needs Go), or set KUBECONFIG to a cluster that tests may use"


@dataclass(frozen=True, slots=True)
class Kube:
    """A Kubernetes API with nodes that have GPUs. `is_ours`: its pods' engines can be reached through the pod proxy."""

    kubeconfig: Path
    is_ours: bool


def found() -> Path:
    """The program. Skips the test if nobody built it; in CI that is a failure."""
    try:
        made = program()
    except (OSError, subprocess.CalledProcessError) as wrong:
        return _absent(f"there is no Go here ({wrong}): {HOW}")
    return made if made.exists() else _absent(f"{made} is not built: {HOW}")


def _absent(why: str) -> Path:
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Kube]:
    """A Kubernetes until the end of the block. It ends with us, even if we are killed: it waits for our pipe's end."""
    where = ["-kubelet", KUBECONFIG] if KUBECONFIG else ["-dir", str(directory)]
    with started(directory, *where) as kubeconfig:
        yield Kube(kubeconfig, is_ours=not KUBECONFIG)


@contextlib.contextmanager
def started(directory: Path, *how: str) -> Iterator[Path]:
    """The program until the end of the block, and the kubeconfig of the cluster that it is, or brings nodes to."""
    binary = found()
    with (directory / "kube.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, *how, "-follow-stdin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        assert process.stdout is not None
        said = process.stdout.readline().strip()  # It gives up by itself, after minutes, if it can't start.
        try:
            assert said, f"no Kubernetes: {(directory / 'kube.log').read_text()[-2000:]}"
            yield Path(said)
        finally:
            process.terminate()
            process.wait(END_S)


def http_client(kubeconfig: Path) -> httpx.Client:
    """A plain client of the cluster that a kubeconfig names."""
    found = Configuration()
    load: Any = config.load_kube_config  # The package leaves this one without types.
    load(str(kubeconfig), client_configuration=found)
    trusting = ssl.create_default_context(cafile=found.ssl_ca_cert)
    if found.cert_file:
        trusting.load_cert_chain(found.cert_file, found.key_file)
    token = found.get_api_key_with_prefix("BearerToken", alias="authorization")
    return httpx.Client(
        base_url=found.host, verify=trusting, timeout=END_S, headers={"Authorization": token} if token else {}
    )
