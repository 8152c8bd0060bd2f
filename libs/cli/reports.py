"""What a service says of its own records: a program of its own prints it, since no service is imported here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from libs.common.errors import Invalid


def reported(module: str, *arguments: str, env: Mapping[str, str], within_s: float, silent: str) -> dict[str, Any]:
    """The JSON that ``python -m module`` prints. Raises Invalid with its last words, or ``silent`` if it has none."""
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=within_s,
    )
    if ended.returncode:
        raise Invalid((ended.stderr.strip().splitlines() or [silent])[-1])
    found: dict[str, Any] = json.loads(ended.stdout)
    return found
