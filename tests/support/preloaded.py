"""Programs of ours as processes that need not load first: forked from one that has loaded them all, once for a worker.

What `python -m` costs beside that is a second or more of imports, which is most of what many tests of a process cost.
That it starts from nothing as well, the tests in e2e show. Use it in tests of the group `preloaded`: one worker loads.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

LOADED: Final = ("services.router.__main__", "services.runtime_deployer.__main__", "libs.twin.__main__")
SERVER: Final = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([*LOADED, "libs.common.store.sql", "tests.contract.store_promises"])


class Program:
    """``python -m module arguments`` as a process: from what was loaded, if it was, and from nothing otherwise."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        out: Path | None = None,
        err: Path | None = None,
    ) -> None:
        """Start it. ``out`` and ``err`` are files that it appends to; left out, it says it where pytest does."""
        environment = dict(os.environ if env is None else env)
        files = {number: str(path) for number, path in ((1, out), (2, err)) if path is not None}
        self._process = SERVER.Process(target=become, args=(module, arguments, environment, files), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout_s: float) -> int:
        """How it ended. Raises TimeoutError if it has not within this time."""
        self._process.join(timeout_s)
        if self._process.exitcode is None:
            raise TimeoutError(f"it still runs after {timeout_s:g} s")
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing if it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send_signal(signal.SIGKILL)


def become(module: str, arguments: tuple[str, ...], environment: dict[str, str], files: dict[int, str]) -> None:
    """Have the environment, files and arguments of the program, and run it."""
    for number, path in files.items():
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    sys.modules.pop(f"{module}.__main__", None)  # It is run anew; all that it imports is there.
    runpy.run_module(module, run_name="__main__", alter_sys=True)
