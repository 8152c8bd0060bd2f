"""Somebody else's Python programs: an environment for them alone, at the versions and hashes of a lock file."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import warnings
from pathlib import Path
from typing import Final

import pytest

INSTALL_S: Final = 600
WHEELS: Final = ("--only-binary", ":all:")


def installed(lock: Path, into: Path, *more: str, absent: str) -> Path:
    """A Python that has what is locked. Skips and says `absent` where it can't be had; in CI that is a failure.

    Our own pip installs it: a second one would have to be unpacked first. What nobody imports is not compiled.
    """
    venv.create(into, symlinks=True)
    python = into / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile", *more)
    said = subprocess.run(
        [*pip, "--require-hashes", "--requirement", str(lock)],
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    if said.returncode:
        assert os.environ.get("CI") != "true", said.stderr
        warnings.warn(absent, stacklevel=2)
        pytest.skip(absent)
    return python
