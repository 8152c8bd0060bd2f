"""Which processes really run: a pid in a file may be of another program by now."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")


def runs(pid: int, argv: tuple[str, ...]) -> bool:
    """Whether this process is alive and was started with these arguments; an interpreter may go by several names."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # Where we started it ourselves, it stays a zombie until it is waited for.
    return command_of(pid).endswith(" ".join(argv[1:]))


def command_of(pid: int) -> str:
    """The arguments that a process was started with; empty if there is no such process."""
    if PROC.joinpath("self", "cmdline").exists():
        try:
            return PROC.joinpath(str(pid), "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            return ""
    said = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return said.strip()
