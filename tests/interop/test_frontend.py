"""A product frontend in another language, written from schemas/ alone, against the whole product over NATS."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.local_profile import running_profile
from tests.support.npm import installed

pytestmark = pytest.mark.interop

FRONTEND: Final = Path(__file__).parents[1] / "e2e" / "frontend"
NODE_S: Final = 120


def test_a_frontend_creates_watches_and_deletes_an_endpoint_over_the_bus(tmp_path: Path) -> None:
    packages = installed(FRONTEND, tmp_path / "frontend")

    with running_profile(tmp_path / "home", time_scale=0.003) as profile:
        said = subprocess.run(
            ["node", "frontend.mjs", profile.credentials.nats_url, "acme", "default", "from-node"],
            cwd=packages,
            capture_output=True,
            text=True,
            timeout=NODE_S,
            check=False,
        )

    assert said.returncode == 0, said.stdout + said.stderr
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    assert [each for each in lines if "asked" in each] == [
        {"asked": "endpoint.create", "status": 202},
        {"asked": "endpoint.delete", "status": 202},
    ]
    stages = [each["stage"] for each in lines if "stage" in each]
    assert stages[-1] == "deleted"
    assert stages.index("ready") < stages.index("draining")
