"""Engines as real processes on loopback addresses, which end when the twin does, however it ends.

Start them from the main thread: Linux sends the parent-death signal when the *thread* that started the child ends.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from libs.common.clock import Clock
from libs.twin.answers import Response, unavailable
from libs.twin.engines_port import EngineProcess, Launch

ROOT: Final = Path(__file__).resolve().parents[2]
SERVER_IMAGE: Final = "millrace/model-server"
POLL_MS: Final = 50  # How stale our view of a process may be.
PROBE_LOADING_S: Final = 0.05
PROBE_SERVING_S: Final = 1.0
PROBE_TIMEOUT_S: Final = 1.0
PROXY_TIMEOUT_S: Final = 30.0
INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HF_HOME")
FAILED_TO_START: Final = 127  # A shell's code for a command that is not there.

# Runs in the child before the engine: asks for SIGKILL at the parent's death, makes sure that the parent still lives,
# and becomes the engine. A process of its own, because code between fork and exec is unsafe where threads run.
SHIM: Final = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
try:
    os.execvpe(sys.argv[2], sys.argv[2:], os.environ)
except OSError as wrong:
    print(f"{sys.argv[2]}: {wrong}", file=sys.stderr)
    sys.exit(127)
"""


@dataclass(slots=True)
class _Run:
    launch: Launch
    process: subprocess.Popen[bytes]
    is_healthy: bool = False
    probe_at_s: float = 0.0
    kill_at_ms: int | None = None
    is_left_alone: bool = False  # Nobody looks at it again before something of it changes.

    @property
    def serves(self) -> bool:
        """Whether it is up, healthy and wanted: so it stays until it dies, or says that it is ill."""
        is_probed = bool(self.launch.probe_path) and self.is_healthy
        return is_probed and self.kill_at_ms is None and self.process.poll() is None


class SubprocessEngines:
    """The `Engines` port on this machine."""

    def __init__(self, clock: Clock, log_dir: Path | None = None, volumes_dir: Path | None = None) -> None:
        self._clock = clock
        self._log_dir = log_dir
        self._volumes_dir = volumes_dir
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()
        self._is_over = False
        self._stirred = threading.Event()  # There is a run more to probe, or all is over.
        self._prober = threading.Thread(target=self._probe_all, name="engine-probes", daemon=True)
        self._prober.start()

    def is_free(self, address: str, port: int) -> bool:
        """Whether an engine could listen there."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
        return True

    def start(self, launch: Launch, now_ms: int) -> None:
        """Start; a failure to start shows as an exit code."""
        del now_ms
        argv = [sys.executable, "-I", "-S", "-c", SHIM, str(os.getpid()), *command_line(launch)]
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        env = {**inherited, "PYTHONPATH": str(ROOT), **launch.env}
        with self._log_of(launch) as log:
            process = subprocess.Popen(
                argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, start_new_session=True
            )
        with self._lock:
            self._runs[launch.key] = _Run(launch, process, is_healthy=not launch.probe_path)
        self._stirred.set()

    def stop(self, key: str, *, grace_ms: int, now_ms: int) -> None:
        """Ask it to end, and end it by force after the grace."""
        run = self._runs.get(key)
        if run is None or run.process.poll() is not None:
            return
        if grace_ms <= 0:
            _signal(run.process, signal.SIGKILL)
        elif run.kill_at_ms is None:
            run.kill_at_ms = now_ms + grace_ms
            _signal(run.process, signal.SIGTERM)

    def exit_code(self, key: str, now_ms: int) -> int | None:
        """How it ended, a signal as 128 + its number, as container runtimes say it; None while it runs."""
        run = self._runs.get(key)
        if run is None:
            return 0
        code = run.process.poll()
        if code is None and run.kill_at_ms is not None and now_ms >= run.kill_at_ms:
            _signal(run.process, signal.SIGKILL)
        return code if code is None or code >= 0 else 128 - code

    def is_healthy(self, key: str, now_ms: int) -> bool:
        """Whether its health path answered 200 when it was last asked."""
        del now_ms
        run = self._runs.get(key)
        return run is not None and run.is_healthy and run.process.poll() is None

    def forget(self, key: str) -> None:
        """Its run is over and nobody will ask again."""
        with self._lock:
            run = self._runs.pop(key, None)
        if run is not None and run.process.poll() is None:
            _signal(run.process, signal.SIGKILL)
            run.process.wait()

    def next_look_ms(self, key: str, now_ms: int) -> int | None:
        """Processes don't tell: look again soon, but never more often than time passes; not at one that serves."""
        run = self._runs.get(key)
        if run is not None and run.serves:
            run.is_left_alone = True
            return None
        return max(now_ms, self._clock.now_ms()) + POLL_MS

    def take_changed(self) -> bool:
        """Whether one that served does so no more."""
        changed = [each for each in self._runs.values() if each.is_left_alone and not each.serves]
        for each in changed:
            each.is_left_alone = False
        return bool(changed)

    def http(self, key: str, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Ask the engine over HTTP, and wait for the whole answer."""
        run = self._runs.get(key)
        if run is None:
            raise unavailable("error trying to reach service: no such engine")
        kept = {name: value for name, value in headers.items() if name in {"content-type", "accept"}}
        try:
            status, kind, data = _ask(run.launch, method, path, kept, body, PROXY_TIMEOUT_S)
        except OSError as wrong:
            raise unavailable(f"error trying to reach service: {wrong}") from wrong
        return Response(status, {"content-type": kind}, data)

    def running(self) -> tuple[EngineProcess, ...]:
        """Everything that runs now."""
        return tuple(
            EngineProcess(key, run.process.pid, run.launch.address, run.launch.port)
            for key, run in sorted(self._runs.items())
            if run.process.poll() is None
        )

    def volumes(self) -> Path | None:
        """Where the volumes of pods are on this machine; None where they are only told of."""
        return self._volumes_dir

    def close(self) -> None:
        """End everything at once."""
        self._is_over = True
        self._stirred.set()
        self._prober.join()
        for key in list(self._runs):
            self.forget(key)

    def _log_of(self, launch: Launch) -> contextlib.AbstractContextManager[int | IO[bytes]]:
        if launch.log:
            return Path(launch.log).open("ab")
        if self._log_dir is None:
            return contextlib.nullcontext(subprocess.DEVNULL)
        self._log_dir.mkdir(parents=True, exist_ok=True)
        return (self._log_dir / f"{launch.key.replace('/', '_')}.log").open("ab")

    def _probe_all(self) -> None:
        while not self._is_over:
            self._stirred.clear()
            with self._lock:
                runs = [each for each in self._runs.values() if each.launch.probe_path]
            for run in runs:
                self._probe(run)
            next_s = min((each.probe_at_s for each in runs if each.process.poll() is None), default=None)
            if not self._is_over:
                soon_s = PROBE_LOADING_S if next_s is None else next_s - self._clock.now_ms() / 1000
                self._stirred.wait(None if next_s is None else max(soon_s, PROBE_LOADING_S))

    def _probe(self, run: _Run) -> None:
        now_s = self._clock.now_ms() / 1000
        if run.process.poll() is not None or now_s < run.probe_at_s:
            return
        try:
            status, _, _ = _ask(run.launch, "GET", run.launch.probe_path, {}, b"", PROBE_TIMEOUT_S)
            run.is_healthy = status < 400
        except (OSError, http.client.HTTPException):
            run.is_healthy = False
        run.probe_at_s = now_s + (PROBE_SERVING_S if run.is_healthy else PROBE_LOADING_S)


def command_line(launch: Launch) -> list[str]:
    """What to run: the container's command, or what its image would run."""
    if launch.command:
        return [*launch.command, *launch.args]
    if SERVER_IMAGE not in launch.image:
        return ["sh", "-c", f"echo image {launch.image} has no command >&2; exit {FAILED_TO_START}"]
    extra: list[str] = []
    for name, value in (("--load-ms", str(launch.load_ms)), ("--tokens-per-second", str(launch.tokens_per_second))):
        if not any(each == name or each.startswith(f"{name}=") for each in launch.args):
            extra += [name, value]
    return [sys.executable, "-m", "libs.twin.model_server", *launch.args, *extra]


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _ask(  # Six parts make a request.
    launch: Launch, method: str, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float
) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(launch.address, launch.port, timeout=timeout_s)
    try:
        connection.request(method, path, body=body or None, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.getheader("content-type", "text/plain"), answer.read()
    finally:
        connection.close()
