"""The installed `millrace` command as a test types it: a process of its own, on a terminal 100 columns wide."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from libs.cli.profile import Ports

ROOT: Final = Path(__file__).parents[2]
MILLRACE: Final = Path(sys.executable).with_name("millrace")
COLUMNS: Final = 100
PATIENCE_S: Final = 180.0


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The output as a program reads it; fails unless the command succeeded."""
        assert self.code == 0, self
        return json.loads(self.out)

    @property
    def trouble(self) -> str:
        """The one line that a refused command leaves; fails if it was not refused, or said more than that."""
        assert self.code in (1, 3), self  # Refused, or nobody answered.
        assert self.out == "", self
        (line,) = self.err.splitlines()
        assert line.startswith("millrace: "), line
        return line.removeprefix("millrace: ")


def millrace(
    home: Path, *arguments: str, more: Mapping[str, str] | None = None, columns: int = COLUMNS, stdin: str = ""
) -> Said:
    """Run the command with this state directory, from the root of the disk: it must not matter where."""
    done = subprocess.run(
        [str(MILLRACE), *arguments],
        env=environment(home, columns) | dict(more or {}),
        cwd="/",
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def environment(home: Path, columns: int = COLUMNS) -> dict[str, str]:
    """What a command knows of the machine, and where its state directory is."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**inherited, "MILLRACE_HOME": str(home), "COLUMNS": str(columns)}


class Loaded:
    """The same command, each time as a process of its own that need not load it first."""

    def __init__(self, home: Path, scratch: Path) -> None:
        self._env = environment(home)
        self._files = {name: scratch / name for name in ("out", "err")}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.forked"],
            env=self._env,  # The width of the terminal is looked at when it is loaded.
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, home: Path | None = None) -> Said:
        """Run it, with another state directory if one is named."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        files = {name: str(path) for name, path in self._files.items()}
        env = self._env if home is None else environment(home)
        self._server.stdin.write(json.dumps({"arguments": arguments, "env": env, **files}) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        return Said(code, *(path.read_text() for path in self._files.values()))

    def close(self) -> None:
        """End what runs them."""
        self._server.communicate()


def settings_file(path: Path, ports: Ports, **parts: Mapping[str, object]) -> Path:
    """Write a settings file with these ports, and whatever else."""
    lines = []
    for name, values in {"ports": ports.model_dump(), **parts}.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    path.write_text("\n".join(lines) + "\n")
    return path
