"""What runs of a state directory, in truth and by its own word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from libs.cli.profile import Home

PROC: Final = Path("/proc")


def alive(home: Path) -> list[str]:
    """Every process on this machine that has to do with the state directory, by what started it."""
    found = []
    for each in PROC.iterdir():
        try:
            if each.name.isdigit() and str(home).encode() in (each / "environ").read_bytes() + _arguments(each):
                found.append(_arguments(each).replace(b"\0", b" ").decode())
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue  # It ended, or is somebody else's.
    return found


def _arguments(process: Path) -> bytes:
    return (process / "cmdline").read_bytes()


def noted(home: Path) -> set[str]:
    """The processes that the supervisor wrote down."""
    state = Home(home).state
    return set(json.loads(state.read_text())["pids"]) if state.exists() else set()


def nothing_runs(home: Path) -> None:
    """Neither in truth nor by the state directory's word."""
    assert alive(home) == []
    assert not Home(home).state.exists()
