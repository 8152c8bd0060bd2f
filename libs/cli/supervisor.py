"""Keeps the processes of the local profile running: starts them in order, restarts what dies, stops them in reverse.

Run as ``python -m libs.cli.supervisor <state directory>`` by `millrace up`; a production host has systemd or Kubernetes
for this.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

from libs.cli.profile import Home
from libs.cli.programs import SERVICES, Program

RESTART_FIRST_S: Final = 0.2
LIVED_S: Final = 3.0  # What lived this long was not failing at its start; the next restart is quick again.
RESTART_MAX_S: Final = 5.0
STOP_S: Final = 15.0  # A service flushes and leaves within this; then it is killed.
LOOK_S: Final = 2.0  # A death or an order to stop wakes us at once; this is for what got lost.
SIGNALS_MAX: Final = 4096  # Read at once; a byte each.
ONCE_TRIES_MAX: Final = 50


class Supervisor:
    """One run of the profile."""

    def __init__(self, home: Home, programs: tuple[Program, ...]) -> None:
        self._home = home
        self._programs = programs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._born_s: dict[str, float] = {}
        self._failures: dict[str, int] = {}  # In a row.
        self._restarts: dict[str, int] = {}
        self._stop = threading.Event()
        self._signals, self._signalled = socket.socketpair()

    def run(self) -> int:
        """Run until SIGTERM; 1 if a program that must succeed once did not."""
        self._signalled.setblocking(False)
        signal.set_wakeup_fd(self._signalled.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # One that nobody hears would not wake us.
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: self._stop.set())
        try:
            if not self._start_all():
                return 1
            while not self._stop.is_set():
                self._restart_dead()
                self._wait_for_signal()
        finally:
            self._stop_all()
        return 0

    def _start_all(self) -> bool:
        for program in self._programs:
            if self._stop.is_set():
                return True
            if program.once:
                if not self._run_once(program):
                    return False
            else:
                self._start(program)
        return True

    def _run_once(self, program: Program) -> bool:
        for _ in range(ONCE_TRIES_MAX):
            if self._spawn(program).wait() == 0:
                return True
            if self._stop.wait(RESTART_FIRST_S):
                return True
        sys.stderr.write(f"{program.name} failed {ONCE_TRIES_MAX} times: see {program.name}.log\n")
        return False

    def _start(self, program: Program) -> None:
        self._running[program.name] = self._spawn(program)
        self._born_s[program.name] = time.monotonic()
        self._note()

    def _spawn(self, program: Program) -> subprocess.Popen[bytes]:
        with (self._home.logs / f"{program.name}.log").open("ab") as log:
            return subprocess.Popen(
                program.argv,
                env={**os.environ, **program.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait_for_signal(self) -> None:
        if select.select([self._signals], [], [], LOOK_S)[0]:
            self._signals.recv(SIGNALS_MAX)

    def _restart_dead(self) -> None:
        for program in self._programs:
            process = self._running.get(program.name)
            if process is None or process.poll() is None:
                continue
            self._restarts[program.name] = self._restarts.get(program.name, 0) + 1
            lived = time.monotonic() - self._born_s[program.name] >= LIVED_S
            failures = self._failures[program.name] = 1 if lived else self._failures.get(program.name, 0) + 1
            if not self._stop.wait(min(RESTART_FIRST_S * failures, RESTART_MAX_S)):
                self._start(program)

    def _stop_all(self) -> None:
        """The services together, so that each can flush into the bus; then what they stand on, last come first gone."""
        stands = [each.name for each in self._programs if each.name not in SERVICES]
        self._end([name for name in self._running if name not in stands])
        for name in reversed(stands):
            self._end([name] if name in self._running else [])
        self._home.state.unlink(missing_ok=True)

    def _end(self, names: list[str]) -> None:
        for name in names:
            with contextlib.suppress(ProcessLookupError):
                self._running[name].terminate()
        for name in names:
            process = self._running.pop(name)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._note()

    def _note(self) -> None:
        document = {
            "supervisor": os.getpid(),
            "pids": {name: process.pid for name, process in self._running.items()},
            "restarts": self._restarts,
        }
        part = self._home.state.with_suffix(".part")
        part.write_text(json.dumps(document))
        part.replace(self._home.state)


def main() -> int:
    """Supervise the plan in the state directory named by the first argument."""
    home = Home(Path(sys.argv[1]))
    plan = json.loads(home.plan.read_text())
    programs = tuple(Program(**{**each, "argv": tuple(each["argv"])}) for each in plan)
    return Supervisor(home, programs).run()


if __name__ == "__main__":
    raise SystemExit(main())
