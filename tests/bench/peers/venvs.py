"""Peers that pip installs, each into a virtual environment of its own, outside of this project's lock.

``python -m tests.bench.peers.venvs`` installs those that are missing: a few minutes, and half a gigabyte for LiteLLM.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

ROOT: Final = Path(__file__).parents[3] / ".millrace" / "peers"
WANTED: Final[Mapping[str, str]] = MappingProxyType(
    {"litellm": "litellm[proxy]==1.106.2", "vllm-router": "vllm-router==0.1.17"}
)


def program(name: str) -> Path:
    """Where the peer's program is, or would be."""
    return ROOT / name / "bin" / name


def install(name: str) -> None:
    """Install a peer. Raises CalledProcessError if pip can not."""
    into = ROOT / name
    venv.create(into, with_pip=True, clear=True)
    subprocess.run([into / "bin" / "pip", "install", "--quiet", WANTED[name]], check=True)


def main() -> int:
    """Install what is missing; the exit code."""
    wrong = 0
    for name in WANTED:
        if not program(name).exists():
            print(f"installing {name}")
            try:
                install(name)
            except subprocess.CalledProcessError as failed:
                print(f"{name} can not be installed: pip ended with {failed.returncode}", file=sys.stderr)
                wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main())
