"""Somebody else's programs: packages of npm, at the versions of a lock file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

INSTALL_S: Final = 180


def installed(source: Path, into: Path) -> Path:
    """A copy of ``source`` with its packages installed exactly as locked."""
    shutil.copytree(source, into, ignore=shutil.ignore_patterns("node_modules"), dirs_exist_ok=True)
    said = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=into,
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    return into
