"""KUBECONFIG: a cluster that somebody else started, without nodes for us, keeps the same promises with ours in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.integration.kube.running import KUBECONFIG, started

pytestmark = [pytest.mark.kube, pytest.mark.xdist_group("kube"), pytest.mark.timeout(900)]

PROMISES: Final = Path(__file__).with_name("test_promises.py")
RUN_S: Final = 600.0


@pytest.mark.skipif(bool(KUBECONFIG), reason="all of these tests run on such a cluster now")
def test_the_cluster_of_a_kubeconfig_keeps_the_same_promises(tmp_path: Path) -> None:
    with started(tmp_path, "-dir", str(tmp_path), "-nodes", "0") as kubeconfig:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "kube", "-rs", str(PROMISES)],
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            capture_output=True,
            text=True,
            timeout=RUN_S,
        )

    assert run.returncode == 0, run.stdout[-4000:]
    assert " passed" in run.stdout.splitlines()[-1], run.stdout[-4000:]
